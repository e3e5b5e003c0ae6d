import { PvbusError, pvbusError } from "../../base/errors.js";
import { type Answer, answerText, encodeCapabilities, encodeHostSession, frameOf } from "../answer.js";
import { type Frame, frameText } from "../frame.js";
import { type AnswerParts, longAnswer, longPlainAnswer } from "../long-answer.js";
import { encodePlainValue, INVALID_COMMAND, VERSION_2 } from "../plain.js";
import type { RememberedAnswers } from "../repeats.js";
import { decodeRequest, type Request } from "../request.js";
import { portionsOf, STEP_BYTES } from "../steps.js";
import type { KeyLimits, ServedKeys } from "./keys.js";

/** How much of the protocol a server speaks. */
export interface Dialect {
  /** Name of its software, as it says itself. */
  readonly server: string;
  /** The commands of version 2; none where it speaks version 1 alone. */
  readonly commands: readonly Request["command"][];
  /** It keeps values of any bytes, empty ones among them. */
  readonly isBinary: boolean;
}

/** All of it. */
export const PVBUS_DIALECT: Dialect = {
  server: "pvbus",
  commands: ["GET", "KEYS", "PUT", "DELETE", "CAPS", "SESSION", "WATCH", "UNWATCH"],
  isBinary: true,
};

/** The namespace of facts about the machine, which existing hosts keep to themselves and never list. */
export const HOST_NAMESPACE = "sdc:";

/** Watches of one connection, by the id of the request that began each. */
export interface Watches {
  /** Begins a watch of the keys with this beginning; false when there are too many. */
  add(id: string, prefix: string): boolean;
  /** Ends a watch; false when there is none of this id. */
  remove(id: string): boolean;
}

/** What requests work on. */
export interface Served {
  /** The client's keys. */
  readonly keys: ServedKeys;
  /** What is spoken. */
  readonly dialect: Dialect;
  /** The connection's watches. */
  readonly watches: Watches;
  /** What the connection's client was answered. */
  readonly answers: RememberedAnswers;
  /** The connection's last short GET with its answer: who waits for a value asks for the same one again and again. */
  last?: { readonly payload: string; readonly revision: number; readonly answer: Frame } | undefined;
}

/** What only hosts say. A terminal in the guest that nobody has set up sends it back, and to answer that would never end. */
const OUR_FRAMES = ["SUCCESS", "NOTFOUND", "FAILURE", "EVENT"];
const OUR_LINES = ["SUCCESS", "NOTFOUND", "FAILURE", INVALID_COMMAND, VERSION_2, "."];
/** Values up to that are encoded in no time. */
const CHEAP_BYTES = 4096;
/** Payloads of a request and its answer that are kept; thousands of connections may be open. */
const KEPT_CHARACTERS = 256;
const OK: Answer = { kind: "success", value: Buffer.from("OK") };
const MISSING: Answer = { kind: "missing" };

/** What goes out for a request: at once as text of one byte a character, or in parts of which each is a short step. */
export type Reply = string | AnswerParts;

/** Reports whether a frame says what only hosts say: it is no request, and gets no answer. */
export function isOurs({ word }: Frame): boolean {
  return OUR_FRAMES.includes(word);
}

/**
 * Serves the request of a frame. Every failure becomes an answer: the reference server's words where it has some, else the stable
 * code and the message.
 * @param onFault hears of a failure that is the host's own
 */
export function answerFrame(
  served: Served,
  frame: Frame,
  request: Request | "unknown" | "invalid",
  onFault: (error: unknown) => void,
): Reply | Promise<Reply> {
  const { id, word } = frame;
  if (request === "unknown") return answerText(id, failure(`Unknown command ${word}`));
  if (request === "invalid") return answerText(id, failure(`Invalid ${word} Request`));
  const { commands, isBinary } = served.dialect;
  if (!commands.includes(request.command)) return answerText(id, failure(`Unknown command ${word}`));
  if (request.command === "PUT" && request.value.length === 0 && !isBinary)
    return answerText(id, failure(`Invalid ${word} Request`));
  const isChange = request.command === "PUT" || request.command === "DELETE";
  const known = isChange ? served.answers.find(frame) : undefined;
  if (known !== undefined) return known;
  const keep = (reply: string): string => {
    if (isChange) served.answers.keep(frame, reply);
    return reply;
  };
  const refuse = (error: unknown): string => {
    // What has a cause came from the system, and is no matter of the request.
    if (!PvbusError.is(error) || error.cause !== undefined) onFault(error);
    return keep(answerText(id, failure(wordsFor(error))));
  };
  try {
    if (request.command === "KEYS") return longAnswer(id, listing(served.keys));
    const answer = serve(served, id, request);
    if (answer instanceof Promise) return answer.then((late) => keep(answerText(id, late)), refuse);
    const isLong = answer.kind === "success" && answer.value.length > STEP_BYTES;
    return isLong ? longAnswer(id, () => portionsOf(answer.value)) : answerText(id, answer);
  } catch (error) {
    return refuse(error);
  }
}

/**
 * Serves a request that takes some microseconds, so that to have it wait for its turn would cost more; see {@link answerFrame}.
 * @returns undefined for one that takes longer, of which nothing is done
 */
export function answerIfCheap(
  served: Served,
  frame: Frame,
  onFault: (error: unknown) => void,
): Reply | Promise<Reply> | undefined {
  const { id, word, payload = "" } = frame;
  const { keys, last } = served;
  if (last?.payload === payload && word === "GET" && last.revision === keys.revision)
    return frameText({ id, word: last.answer.word, payload: last.answer.payload });
  const request = decodeRequest(frame);
  if (typeof request === "string") return answerFrame(served, frame, request, onFault);
  if (request.command === "KEYS") return undefined;
  if (request.command !== "GET") return answerFrame(served, frame, request, onFault);
  const found = answerOf(keys, request.key.trim());
  if (found.kind === "success" && found.value.length > CHEAP_BYTES) return undefined;
  const answer = frameOf(id, found);
  if (payload.length + (answer.payload?.length ?? 0) <= KEPT_CHARACTERS)
    served.last = { payload, revision: keys.revision, answer };
  return frameText(answer);
}

function serve(
  { keys, dialect, watches, answers }: Served,
  id: string,
  request: Exclude<Request, { command: "KEYS" }>,
): Answer | Promise<Answer> {
  switch (request.command) {
    case "GET":
      return answerOf(keys, request.key.trim());
    case "PUT":
      keys.checkWritable(request.key);
      return keys.put(request.key, request.value).then(() => OK);
    case "DELETE": {
      const key = request.key.trim();
      keys.checkWritable(key);
      return keys.delete(key).then(() => OK);
    }
    case "CAPS":
      return { kind: "success", value: capabilities(keys, dialect) };
    case "SESSION": {
      answers.begin(request);
      const session = (): Answer => ({ kind: "success", value: encodeHostSession(keys) });
      return keys.introduced?.(request)?.then(session) ?? session();
    }
    case "WATCH":
      checkKeyLength(request.prefix, keys.limits);
      return watches.add(id, request.prefix) ? OK : failure("ERR_BUSY: too many watches; end one first");
    case "UNWATCH":
      return watches.remove(request.watch) ? OK : MISSING;
  }
}

/**
 * Serves a line of the first version of the protocol, which reads and lists only; undefined for what is no request but our own words
 * come back.
 */
export function answerLine(
  { keys, dialect }: Pick<Served, "keys" | "dialect">,
  line: string,
): Reply | undefined {
  if (OUR_LINES.includes(line.trim())) return undefined;
  const [, command, argument] = /^(\S*)\s*(.*)$/s.exec(line.trim()) as unknown as [string, string, string];
  if (command === "GET" && argument !== "") {
    const answer = answerOf(keys, argument);
    if (answer.kind !== "success") return "NOTFOUND\n";
    const { value } = answer;
    return value.length > STEP_BYTES
      ? longPlainAnswer(portionsOf(value))
      : encodePlainValue(value).toString("latin1");
  }
  if (command === "KEYS") return longPlainAnswer(listing(keys)());
  if (command === "NEGOTIATE" && argument === "V2" && dialect.commands.length > 0) return `${VERSION_2}\n`;
  const lacksArgument = ["", "GET", "NEGOTIATE"].includes(command) && argument === "";
  return lacksArgument ? `${INVALID_COMMAND}\n` : "FAILURE\n";
}

/** Returns the answer that a request failed. */
export function failure(message: string): Answer {
  return { kind: "failure", message };
}

function answerOf(keys: ServedKeys, key: string): Answer {
  const value = keys.get(key);
  return value === undefined ? MISSING : { kind: "success", value };
}

/**
 * Returns the names of the keys as they are now, one a line, in portions of one step each. The host's own facts are read by name;
 * existing servers never list them.
 */
function listing(keys: ServedKeys): () => Generator<Uint8Array, void, undefined> {
  const now = keys.portions();
  return function* () {
    let front = "";
    for (const portion of now) {
      const names = portion.map(({ key }) => key).filter((key) => !key.startsWith(HOST_NAMESPACE));
      if (names.length === 0) continue;
      yield Buffer.from(front + names.join("\n"));
      front = "\n";
    }
  };
}

function capabilities({ limits }: ServedKeys, { server, commands, isBinary }: Dialect): Buffer {
  return encodeCapabilities({
    server,
    commands,
    maxKey: limits.maxKeyBytes,
    maxValue: limits.maxValueBytes,
    binary: isBinary,
    emptyValues: isBinary,
  });
}

/** Checks the length of a key, or of the beginning of keys. @throws PvbusError `ERR_KEY_TOO_LONG` */
export function checkKeyLength(key: string, { maxKeyBytes }: Pick<KeyLimits, "maxKeyBytes">): void {
  const bytes = Buffer.byteLength(key);
  if (bytes <= maxKeyBytes) return;
  const message = `the key has ${bytes} bytes; the host takes ${maxKeyBytes} at most`;
  throw pvbusError("ERR_KEY_TOO_LONG", message, { key });
}

/** The client is told what concerns its request, and of the host's own troubles nothing but that there are some. */
function wordsFor(error: unknown): string {
  if (!PvbusError.is(error)) return "ERR_UNAVAILABLE: internal error; see the host's log";
  if (error.code === "ERR_READ_ONLY" && error.cause === undefined) return error.message;
  if (error.cause !== undefined) return `${error.code}: the host cannot keep it; see the host's log`;
  return `${error.code}: ${error.message}`;
}
