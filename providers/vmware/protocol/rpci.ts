import { PvbusError, type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { peerWords } from "../../../src/base/outside-text.js";
import { ownEntry } from "../../../src/base/own.js";
import { checkKey, MAX_REQUEST_BYTES, MAX_VALUE_BYTES } from "./keys.js";

const NUL = 0;
const SPACE = 0x20;

/** One command for the host. */
export interface RpciRequest {
  /** Its name, for messages. */
  readonly name: string;
  /** All of it as it goes out. */
  readonly bytes: Uint8Array;
  /** The host may be given it twice: it says the same, or sets the same. */
  readonly repeatable: boolean;
  /** The host answers it from memory at once. */
  readonly quick?: boolean;
  /** It needs a channel that proves a privileged program: never to be sent over another one. */
  readonly privileged: boolean;
}

/** The host carried a command out. */
export interface RpciAcceptance {
  /** Always true. */
  readonly accepted: true;
  /** What follows `1 ` in the reply. */
  readonly value: Uint8Array;
}

/** The host did not carry a command out. */
export interface RpciRefusal {
  /** Always false. */
  readonly accepted: false;
  /** What follows `0 ` in the reply, without NULs at its end, 4 KiB at most. */
  readonly words: string;
}

/** What the host said. */
export type RpciReply = RpciAcceptance | RpciRefusal;

/** A refusal in the host's own words; the cause of the error that reports it. */
export class HostRefusal extends Error {
  /** The words, unchanged. */
  readonly words: string;

  /** @param words the host's */
  constructor(words: string) {
    super(words);
    this.name = "HostRefusal";
    this.words = words;
  }
}

/** The host's words for a key that is not there. */
export const NO_VALUE_FOUND = "No value found";

/**
 * Makes a command: its name, a space, its arguments. A command without arguments keeps the space, which some hosts need.
 * @throws PvbusError `ERR_VALUE_TOO_LONG` for more than {@link MAX_REQUEST_BYTES}; RangeError for a name that is none
 */
export function command(
  name: string,
  args: Uint8Array | string = "",
  { repeatable = false, privileged = false }: Partial<Pick<RpciRequest, "repeatable" | "privileged">> = {},
): RpciRequest {
  if (!/^[\x21-\x7e]+$/.test(name))
    throw new RangeError("the name of a command is printable text without spaces");
  const bytes = Buffer.concat([Buffer.from(`${name} `), Buffer.from(args as Uint8Array)]);
  if (bytes.length > MAX_REQUEST_BYTES) {
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the command ${name} has ${bytes.length} bytes, the host takes ${MAX_REQUEST_BYTES}; shorten the value or split it`,
    );
  }
  return { name, bytes, repeatable, privileged };
}

/** Asks for a value. @throws PvbusError as {@link checkKey} */
export function infoGet(key: string): RpciRequest {
  checkKey(key);
  return { ...command("info-get", key, { repeatable: true }), quick: true };
}

/**
 * Sets a value: all that stands behind the one space after the key.
 * @throws PvbusError as {@link checkKey}; `ERR_READ_ONLY` for a key with a slash, which belongs to the host;
 *   `ERR_VALUE_INVALID` for a NUL, which would end the command; `ERR_VALUE_TOO_LONG` for more than {@link MAX_VALUE_BYTES}
 */
export function infoSet(key: string, value: Uint8Array): RpciRequest {
  checkKey(key);
  if (key.includes("/"))
    throw pvbusError("ERR_READ_ONLY", "a guestinfo key with a slash is the host's; use a key without one");
  if (value.includes(NUL))
    throw pvbusError(
      "ERR_VALUE_INVALID",
      "the value holds a NUL byte, which would end it; encode it (base64)",
    );
  if (value.length > MAX_VALUE_BYTES) {
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the value has ${value.length} bytes, guestinfo takes ${MAX_VALUE_BYTES}; shorten it, or publish it as a portable key`,
    );
  }
  return command("info-set", Buffer.concat([Buffer.from(`${key} `), value]), { repeatable: true });
}

/** Takes a reply apart. @throws PvbusError `ERR_PROTOCOL` for what is none */
export function decodeReply(reply: Uint8Array): RpciReply {
  const [kind, space] = reply;
  if (space === SPACE && kind === 0x31) return { accepted: true, value: reply.slice(2) };
  if (space === SPACE && kind === 0x30) return { accepted: false, words: peerWords(reply.subarray(2)) };
  throw pvbusError(
    "ERR_PROTOCOL",
    `the host's reply of ${reply.length} bytes begins neither with "1 " nor with "0 "; the channel is out of step`,
  );
}

/** The host's words for a command that it does not have. */
export const UNKNOWN_COMMAND = "Unknown command";

const CODE_OF_WORDS: Readonly<Record<string, readonly [PvbusErrorCode, string]>> = {
  "Permission denied": [
    "ERR_PERMISSION",
    "run as root where vsock is there: the host's administrator reserved this for privileged programs",
  ],
  [UNKNOWN_COMMAND]: [
    "ERR_NOT_SUPPORTED",
    "this host is too old for it, or its administrator switched it off",
  ],
  disabled: ["ERR_PERMISSION", "the host's administrator switched it off"],
};

/** Makes the error of a refusal; words that are not known keep their text and count as a refusal of permission. */
export function refusal(request: Pick<RpciRequest, "name">, words: string, over: string): PvbusError {
  const [code, advice] = ownEntry(CODE_OF_WORDS, words) ?? [
    "ERR_PERMISSION",
    "see the virtual machine's vmware.log on the host for the reason",
  ];
  return pvbusError(code, `the host refused ${request.name} over ${over}: "${shown(words)}"; ${advice}`, {
    cause: new HostRefusal(words),
  });
}

/** Returns the host's words of an error that reports a refusal. */
export function wordsOf(error: unknown): string | undefined {
  return PvbusError.is(error) && error.cause instanceof HostRefusal ? error.cause.words : undefined;
}

/** The host's words may hold anything. */
function shown(words: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal
  const plain = words.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");
  return plain.length > 200 ? `${plain.slice(0, 200)}…` : plain;
}
