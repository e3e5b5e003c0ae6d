import { isUtf8 } from "node:buffer";
import { type PvbusError, type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import type { Call } from "../../base/flow/call.js";
import { peerWords } from "../../base/outside-text.js";
import type { Answer, HostCapabilities } from "../answer.js";
import { base64Bytes } from "../base64.js";
import { isChannelKey } from "../request.js";
import { type Change, type ChangeMemory, changeKey, mayBeginAgain, sameValue } from "./change.js";
import { type ChannelClient, isDisconnected } from "./client.js";

/** No host has more keys for one guest. */
export const MAX_KEYS = 1_000_000;
const LF = 0x0a;
/** Keys of a listing that are looked at in a row. */
const KEYS_A_TURN = 256;

/** Codes that our host side puts in front of its message, as far as they are about the request. */
const REFUSALS: readonly PvbusErrorCode[] = [
  "ERR_READ_ONLY",
  "ERR_PERMISSION",
  "ERR_KEY_INVALID",
  "ERR_KEY_TOO_LONG",
  "ERR_VALUE_INVALID",
  "ERR_VALUE_TOO_LONG",
  "ERR_NO_SPACE",
  "ERR_BUSY",
  "ERR_CONFLICT",
  "ERR_NOT_SUPPORTED",
];
const MAX_TEXT = 300;

export class MetadataChannel {
  readonly client: ChannelClient;
  readonly #maxLineBytes: number;

  constructor(client: ChannelClient, maxLineBytes: number) {
    this.client = client;
    this.#maxLineBytes = maxLineBytes;
  }

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
   * @throws PvbusError `ERR_VALUE_INVALID` for what this host would damage, `ERR_VALUE_TOO_LONG`, `ERR_KEY_TOO_LONG` before anything is
   *   sent; `ERR_DISCONNECTED` when the connection broke and it is not there; `ERR_CONFLICT` when somebody else wrote it meanwhile
   */
  async put(key: string, value: Uint8Array, call: Call): Promise<void> {
    const check = (host: HostCapabilities | undefined): void => this.#checkPut(key, value, host);
    await this.#change({ command: "PUT", key, value }, {}, call, check).catch(async (error) => {
      if (!isDisconnected(error) || !sameValue(await this.#look(key, call, error), value)) throw error;
    });
  }

  /** Resolves with whether it was there, which the host does not say: somebody else may be quicker. @throws as {@link MetadataChannel.put} */
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

/** Makes the error of a host's refusal, whose words may be anything. */
export function refusal(command: string, message: string): PvbusError {
  const text =
    peerWords(message)
      .replaceAll(/\p{Cc}/gu, " ")
      .slice(0, MAX_TEXT) || "without a reason";
  const code = REFUSALS.find((each) => text.startsWith(`${each}: `));
  if (code !== undefined) return pvbusError(code, `the host refuses it: ${text.slice(code.length + 2)}`);
  // The reference server's words for the keys that it keeps to itself.
  const protect = text.indexOf('Cannot update the "');
  if (protect >= 0 && text.includes('" Namespace', protect))
    return pvbusError("ERR_READ_ONLY", `the host keeps this key to itself (${text}); write another one`);
  if (text.startsWith("Unknown command")) {
    const why = `the host knows no ${command}; have its metadata service updated`;
    return pvbusError("ERR_NOT_SUPPORTED", why);
  }
  return pvbusError("ERR_UNAVAILABLE", `the host did not do it: ${text}; see its metadata service's log`);
}
