import { PvbusError } from "../../../src/bus/errors.js";
import { decodeBase64, encodeBase64 } from "../mdata/base64.js";
import { encodeFrame, type Frame } from "../mdata/frame.js";
import type { GuestState } from "./guest-state.js";
import { checkWritable, HOST_NAMESPACE, type Namespaces } from "./namespaces.js";

/** Watches of one connection, by the id of the request that began each. */
export interface Watches {
  /** Begins a watch of the keys with this beginning; false when there are too many. */
  add(id: string, prefix: string): boolean;
  /** Ends a watch; false when there is none of this id. */
  remove(id: string): boolean;
}

/** What requests work on. */
export interface Served {
  /** The guest's keys. */
  readonly state: GuestState;
  /** What the guest may change. */
  readonly namespaces: Namespaces;
  /** The connection's watches. */
  readonly watches: Watches;
}

/** A request that cannot be served, in words for the guest. */
class Refused extends Error {}

/** What a command gives: a payload, nothing to say (`OK`), or no such key. */
type Answer = Uint8Array | string | "missing" | undefined;

type Command = (served: Served, frame: Frame) => Answer | Promise<Answer>;

const MISSING = "missing";
const OK = Buffer.from("OK");
/** Separates the two halves of a PUT. */
const SPACE = 0x20;

const COMMANDS: Readonly<Record<string, Command>> = {
  GET: ({ state }, frame) => state.get(keyOf(frame).trim()) ?? MISSING,
  KEYS: ({ state }) => Buffer.from(listedKeys(state).join("\n")),
  PUT: async ({ state, namespaces }, frame) => {
    const { key, value } = putArguments(frame);
    checkWritable(key, namespaces);
    await state.put(key, value);
    return OK;
  },
  DELETE: async ({ state, namespaces }, frame) => {
    const key = keyOf(frame).trim();
    checkWritable(key, namespaces);
    await state.delete(key);
    return OK;
  },
  CAPS: ({ state: { limits } }) =>
    Buffer.from(
      JSON.stringify({
        server: "pvbus",
        commands: Object.keys(COMMANDS),
        maxKey: limits.maxKeyBytes,
        maxValue: limits.maxValueBytes,
        binary: true,
        emptyValues: true,
      }),
    ),
  WATCH: ({ watches }, frame) => {
    const prefix = frame.payload === undefined ? "" : textOf(frame);
    if (!watches.add(frame.id, prefix)) throw new Refused("Too many watches");
    return OK;
  },
  UNWATCH: ({ watches }, frame) => (watches.remove(textOf(frame)) ? OK : MISSING),
};

/**
 * Serves a frame. Every failure becomes an answer: the reference server's words where it has some, else the stable code and the
 * message.
 */
export function answerFrame(served: Served, frame: Frame): Buffer | Promise<Buffer> {
  const command = Object.hasOwn(COMMANDS, frame.word) ? COMMANDS[frame.word] : undefined;
  if (command === undefined) return failure(frame, `Unknown command ${frame.word}`);
  try {
    const answer = command(served, frame);
    if (!(answer instanceof Promise)) return reply(frame, answer);
    return answer.then(
      (late) => reply(frame, late),
      (error) => failure(frame, wordsFor(error)),
    );
  } catch (error) {
    return failure(frame, wordsFor(error));
  }
}

/** Gives the answer that a request failed. */
export function failure({ id }: Frame, message: string): Buffer {
  return encodeFrame({ id, word: "FAILURE", payload: encodeBase64(Buffer.from(message)) });
}

/** Serves a line of the first version of the protocol, which reads and lists only. */
export function answerLine(state: GuestState, line: string): string | Buffer {
  const [, command, argument] = /^(\S*)\s*(.*)$/s.exec(line.trim()) as unknown as [string, string, string];
  if (command === "GET" && argument !== "") {
    const value = state.get(argument);
    return value === undefined ? "NOTFOUND\n" : textBlock(value);
  }
  if (command === "KEYS") return textBlock(Buffer.from(listedKeys(state).join("\n")));
  if (command === "NEGOTIATE" && argument === "V2") return "V2_OK\n";
  return ["", "GET", "NEGOTIATE"].includes(command) && argument === "" ? "invalid command\n" : "FAILURE\n";
}

/** Lines that begin with a dot get one more: a single dot ends the block. The bytes stay as they are otherwise. */
function textBlock(value: Uint8Array): Buffer {
  const text = Buffer.from(value).toString("latin1");
  return Buffer.from(`SUCCESS\n${text.replace(/(^|\n)\./g, "$1..")}\n.\n`, "latin1");
}

function listedKeys(state: GuestState): string[] {
  return state.keys().filter((key) => !key.startsWith(HOST_NAMESPACE));
}

function reply({ id }: Frame, answer: Answer): Buffer {
  if (answer === MISSING) return encodeFrame({ id, word: "NOTFOUND", payload: undefined });
  const bytes = answer as Uint8Array;
  return encodeFrame({
    id,
    word: "SUCCESS",
    payload: bytes.length === 0 ? undefined : encodeBase64(bytes),
  });
}

function wordsFor(error: unknown): string {
  if (error instanceof Refused) return error.message;
  if (!PvbusError.is(error)) return "ERR_UNAVAILABLE: internal error; see the host's log";
  return error.code === "ERR_READ_ONLY" ? error.message : `${error.code}: ${error.message}`;
}

function keyOf(frame: Frame): string {
  const key = textOf(frame);
  if (key.trim() === "") throw new Refused(`Invalid ${frame.word} Request`);
  return key;
}

/** Gives the payload as text. */
function textOf(frame: Frame): string {
  const bytes = decodeBase64(frame.payload ?? "");
  const text = bytes === undefined ? undefined : utf8(bytes);
  if (text === undefined) throw new Refused(`Invalid ${frame.word} Request`);
  return text;
}

/** A PUT carries base64 of two further base64 texts with a blank between. */
function putArguments(frame: Frame): { key: string; value: Buffer } {
  const inner = decodeBase64(frame.payload ?? "");
  const at = inner?.indexOf(SPACE) ?? -1;
  if (inner === undefined || at < 1) throw new Refused("Invalid PUT Request");
  const key = decodeBase64(inner.toString("latin1", 0, at));
  const value = decodeBase64(inner.toString("latin1", at + 1).trim());
  const text = key === undefined ? undefined : utf8(key);
  if (!text || value === undefined) throw new Refused("Invalid PUT Request");
  return { key: text, value };
}

/** Gives bytes as text; undefined when they are no UTF-8. */
function utf8(bytes: Buffer): string | undefined {
  const text = bytes.toString("utf8");
  return Buffer.byteLength(text) === bytes.length && Buffer.from(text).equals(bytes) ? text : undefined;
}
