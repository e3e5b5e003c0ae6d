import { isUtf8 } from "node:buffer";
import { type PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import type { Answer, HostCapabilities } from "../../../src/mdata/answer.js";
import { base64Bytes } from "../../../src/mdata/base64.js";
import { isChannelKey } from "../keys.js";
import { type Change, type ChangeMemory, changeKey, mayBeginAgain, sameValue } from "./change.js";
import { type ChannelClient, isDisconnected } from "./client.js";
import { refusal } from "./refusal.js";

/** No host has more keys for one guest. */
export const MAX_KEYS = 1_000_000;
const LF = 0x0a;
/** Keys of a listing that are looked at in a row. */
const KEYS_A_TURN = 256;

/** Keys and values on the host's side of the metadata channel. */
export class MetadataChannel {
  /** What carries the requests. */
  readonly client: ChannelClient;
  readonly #maxLineBytes: number;

  constructor(client: ChannelClient, maxLineBytes: number) {
    this.client = client;
    this.#maxLineBytes = maxLineBytes;
  }

  /** Returns a value; undefined when there is no such key. */
  async get(key: string, call: Call): Promise<Uint8Array | undefined> {
    return carried("GET", await this.client.request({ command: "GET", key }, call));
  }

  /** Returns the keys; hosts leave some of their own out. */
  async keys(call: Call): Promise<string[]> {
    const listing = carried("KEYS", await this.client.request({ command: "KEYS" }, call));
    const { buffer, byteOffset, length } = listing ?? new Uint8Array();
    const bytes = Buffer.from(buffer, byteOffset, length);
    const names = new Set<string>();
    let lines = 0;
    for (let at = 0; at < length; ) {
      if (++lines > MAX_KEYS)
        throw pvbusError("ERR_PROTOCOL", `the host lists more than ${MAX_KEYS} keys; look at the host`);
      const found = bytes.indexOf(LF, at);
      const end = found === -1 ? length : found;
      const name = bytes.toString("utf8", at, end);
      if (isChannelKey(name)) names.add(name);
      at = end + 1;
      // A turn costs more than a line.
      if (lines % KEYS_A_TURN === 0) await call.turn("the list of keys");
    }
    return [...names];
  }

  /**
   * Stores a value.
   * @throws PvbusError `ERR_VALUE_INVALID` for what this host would damage, `ERR_VALUE_TOO_LONG`, `ERR_KEY_TOO_LONG` before
   *   anything is sent; `ERR_READ_ONLY`, `ERR_NO_SPACE` of the host; `ERR_DISCONNECTED` when the link broke and it is not there;
   *   `ERR_CONFLICT` when somebody else wrote it while it had no answer
   */
  async put(key: string, value: Uint8Array, call: Call): Promise<void> {
    const check = (host: HostCapabilities | undefined): void => this.#checkPut(key, value, host);
    await this.#change({ command: "PUT", key, value }, {}, call, check).catch(async (error) => {
      if (!isDisconnected(error) || !sameValue(await this.#look(key, call, error), value)) throw error;
    });
  }

  /**
   * Removes a key. Gives whether it was there, which the host does not say: somebody else may be quicker.
   * @throws PvbusError `ERR_READ_ONLY`; `ERR_DISCONNECTED` and `ERR_CONFLICT` as {@link MetadataChannel.put}
   */
  async delete(key: string, call: Call): Promise<boolean> {
    const value = await this.get(key, call);
    const memory = this.client.isShared ? { before: { value } } : {};
    await this.#change({ command: "DELETE", key }, memory, call).catch(async (error) => {
      if (!isDisconnected(error) || (await this.#look(key, call, error)) !== undefined) throw error;
    });
    return value !== undefined;
  }

  async #change(
    change: Change,
    memory: ChangeMemory,
    call: Call,
    check?: (host: HostCapabilities | undefined) => void,
  ): Promise<void> {
    const mayRepeat = (): boolean => mayBeginAgain(memory);
    await this.client.use(call, mayRepeat, async ({ session, host }) => {
      check?.(host);
      carried(change.command, await changeKey(session, change, memory, call));
    });
  }

  /** Looks what became of a change whose answer was lost. */
  async #look(key: string, call: Call, lost: unknown): Promise<Uint8Array | undefined> {
    try {
      return await this.get(key, call);
    } catch (error) {
      const message = `the host went away before it answered: "${key}" may have been changed or not; read it, and try again`;
      throw pvbusError("ERR_DISCONNECTED", message, { cause: new AggregateError([lost, error]) });
    }
  }

  #checkPut(key: string, value: Uint8Array, host: HostCapabilities | undefined): void {
    const maxValue = host?.maxValue ?? base64Bytes(base64Bytes(this.#maxLineBytes)) - Buffer.byteLength(key);
    if (value.length > maxValue) throw tooLong("ERR_VALUE_TOO_LONG", "value", value.length, maxValue);
    const keyBytes = Buffer.byteLength(key);
    if (host?.maxKey !== undefined && keyBytes > host.maxKey)
      throw tooLong("ERR_KEY_TOO_LONG", "key", keyBytes, host.maxKey);
    if (host?.binary !== true && (value.includes(0) || !isUtf8(value)))
      throw pvbusError(
        "ERR_VALUE_INVALID",
        "the value is not UTF-8 text without NUL, and this host keeps nothing else; encode it (base64)",
      );
    if (host?.emptyValues !== true && value.length === 0)
      throw pvbusError("ERR_VALUE_INVALID", "this host cannot keep an empty value; remove the key instead");
  }
}

/** Returns what a successful answer carries. @throws PvbusError for a refusal */
function carried(command: string, answer: Answer): Uint8Array | undefined {
  if (answer.kind === "success") return answer.value;
  if (answer.kind === "missing") return undefined;
  throw refusal(command, answer.kind === "failure" ? answer.message : "an event came for an answer");
}

function tooLong(
  code: "ERR_VALUE_TOO_LONG" | "ERR_KEY_TOO_LONG",
  what: string,
  bytes: number,
  most: number,
): PvbusError {
  return pvbusError(code, `the ${what} has ${bytes} bytes, this host takes ${most}; shorten it`);
}
