import { isUtf8 } from "node:buffer";
import { PvbusError, type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import type { Call } from "../../base/flow/call.js";
import { peerWords } from "../../base/outside-text.js";
import type { Answer, HostCapabilities } from "../answer.js";
import { base64Bytes } from "../base64.js";
import { isChannelKey } from "../request.js";
import { type ChannelClient, isDisconnected } from "./client.js";
import type { Session } from "./session.js";

/*
 * A host without sessions, SmartOS' own among them, does a change again that is sent again. Silence says nothing: the request may
 * have got lost, or its answer. What stands under the key tells them apart, but only for whoever knows what stood there before.
 * So such a change is preceded by a GET, one round trip beside the three that the opening of a line takes. A line keeps the order of
 * what is sent, so a later GET is answered by a host that has done, or never got, the change before it.
 */

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

export type Change =
  | { readonly command: "PUT"; readonly key: string; readonly value: Uint8Array }
  | { readonly command: "DELETE"; readonly key: string };

/** What is known of one change; it outlives the connection that breaks meanwhile. */
interface ChangeMemory {
  /** What stood under the key before the first attempt; undefined while that is not known. */
  before?: { readonly value: Uint8Array | undefined };
  /** The change may have reached the host. */
  isSent?: boolean;
}

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
    // On another connection it may be begun again where it can be seen what became of it.
    const mayRepeat = (): boolean => memory.isSent !== true || memory.before !== undefined;
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

/**
 * Never does a change twice: where the host does not see to that, the key is read before it is sent again.
 * @throws PvbusError `ERR_CONFLICT` when somebody else wrote meanwhile, and those of {@link Session.request}
 */
export async function changeKey(
  session: Session,
  change: Change,
  memory: ChangeMemory,
  call: Call,
): Promise<Answer> {
  const isCareful = session.doesTwice;
  if (isCareful && memory.before === undefined && memory.isSent !== true) {
    const before = await read(session, change.key, call);
    if (before !== undefined) memory.before = before;
  }
  const { before } = memory;
  if (before === undefined) {
    memory.isSent = true;
    return session.request(change, call);
  }
  const look = async (during: Call): Promise<Answer | undefined> =>
    outcome(change, before.value, await read(session, change.key, during));
  const known = memory.isSent ? await look(call) : undefined;
  if (known !== undefined) return known;
  memory.isSent = true;
  return session.request(change, call, isCareful ? look : undefined);
}

/** Returns the value under a key; undefined where it cannot be had: it is too long, or the host refuses it. */
async function read(session: Session, key: string, call: Call): Promise<ChangeMemory["before"]> {
  try {
    const answer = await session.request({ command: "GET", key }, call);
    if (answer.kind === "missing") return { value: undefined };
    return answer.kind === "success" ? { value: answer.value } : undefined;
  } catch (error) {
    if (PvbusError.is(error) && error.code === "ERR_PROTOCOL") return undefined;
    throw error;
  }
}

/** @returns the answer where the change is done, undefined where it never arrived @throws PvbusError `ERR_CONFLICT` */
function outcome(
  change: Change,
  before: Uint8Array | undefined,
  now: ChangeMemory["before"],
): Answer | undefined {
  const wanted = change.command === "PUT" ? change.value : undefined;
  if (now !== undefined && sameValue(now.value, wanted)) return { kind: "success", value: Buffer.from("OK") };
  if (now !== undefined && sameValue(now.value, before)) return undefined;
  const message = `somebody else wrote "${change.key}" while this change had no answer, and that stays; read it, and change it again`;
  throw pvbusError("ERR_CONFLICT", message);
}

/** Reports whether two values are the same; undefined is no value. */
function sameValue(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}
