import { crc32 } from "node:zlib";
import { Call } from "../../../src/base/flow/call.js";
import {
  type Answer,
  decodeAnswer,
  decodeCapabilities,
  decodeHostSession,
  encodeAnswer,
  encodeCapabilities,
  encodeHostSession,
} from "../../../src/mdata/answer.js";
import {
  base64Bytes,
  base64Length,
  decodeBase64,
  decodeBase64InSteps,
  decodeShortAscii,
  encodeBase64,
} from "../../../src/mdata/base64.js";
import { refusal } from "../../../src/mdata/client/channel.js";
import { negotiate } from "../../../src/mdata/client/negotiation.js";
import type { LineStream } from "../../../src/mdata/client/transport.js";
import { decodeFrame, decodeFrameHead, encodeFrame, type Frame, isFrame } from "../../../src/mdata/frame.js";
import { type Line, LineReader } from "../../../src/mdata/line-reader.js";
import { type AnswerParts, longAnswer, longPlainAnswer } from "../../../src/mdata/long-answer.js";
import { encodePlainRequest, encodePlainValue, PlainAnswerReader } from "../../../src/mdata/plain.js";
import {
  decodeRequest,
  decodeRequestInSteps,
  encodeRequest,
  type Request,
} from "../../../src/mdata/request.js";
import { finish } from "../../../src/mdata/steps.js";
import type { Random } from "../../support/campaign.js";
import { type Input, pieces } from "../input.js";
import { holds, same, type Target } from "../target.js";

const ID = "0a1b2c3d";

/** A line without its end: any bytes, or a frame whose length and checksum are right. */
function lineFrom(input: Input): Buffer {
  if (input.flag()) return input.rest();
  const body = input.rest();
  const sum = crc32(body).toString(16).padStart(8, "0");
  return Buffer.concat([Buffer.from(`V2 ${body.length} ${sum} `), body]);
}

function frame(input: Input): void {
  const line = lineFrom(input);
  isFrame(line);
  const found = decodeFrame(line);
  const head = decodeFrameHead(line.subarray(0, 256), line.length);
  if (found === undefined) return;
  holds(/^[0-9a-fA-F]{8}$/.test(found.id) && found.word.length <= 32, "a frame with another id or word");
  if (head !== undefined) same([head.id, head.word], [found.id, found.word], "the head of a frame");
  // We send ASCII alone.
  if (!/^[\x21-\x7e]+$/.test(found.word + (found.payload ?? ""))) return;
  same(decodeFrame(withoutEnd(encodeFrame(found))), found, "a frame read, written and read");
}

function withoutEnd(bytes: Buffer): Buffer {
  holds(bytes.at(-1) === 0x0a, "a frame without a line end");
  return bytes.subarray(0, -1);
}

function frameFrom(input: Input, words: readonly string[]): Frame {
  const word = input.pick([...words, "OTHER"]);
  const kind = input.below(3);
  const payload = input.rest();
  if (kind === 0) return { id: ID, word, payload: payload.toString("latin1") };
  return { id: ID, word, payload: kind === 1 ? encodeBase64(payload) : undefined };
}

function request(input: Input): void {
  const made = frameFrom(input, ["GET", "PUT", "DELETE", "KEYS", "CAPS", "WATCH", "UNWATCH"]);
  const found = decodeRequest(made);
  same(finish(decodeRequestInSteps(made)), found, "a request read in steps");
  if (typeof found === "string") return;
  const again = decodeFrame(withoutEnd(encodeRequest(ID, found)));
  same(again && decodeRequest(again), found, "a request read, written and read");
}

/** Requests of any content come out as they went in. */
function requestMade(input: Input): void {
  const key = input.field().toString("utf8") || "k";
  const made = input.pick<Request>([
    { command: "GET", key },
    { command: "PUT", key, value: input.rest() },
    { command: "WATCH", prefix: key },
    { command: "UNWATCH", watch: key },
  ]);
  const read = decodeFrame(withoutEnd(encodeRequest(ID, made)));
  same(read && decodeRequest(read), made, "a request written and read");
}

function answer(input: Input): void {
  const found = decodeAnswer(frameFrom(input, ["SUCCESS", "NOTFOUND", "FAILURE", "EVENT"]));
  if (found === undefined) return;
  if (found.kind === "success") {
    capabilities(found.value);
    const session = decodeHostSession(found.value);
    if (session !== undefined)
      same(decodeHostSession(encodeHostSession(session)), session, "a session read, written and read");
  }
  if (found.kind === "failure" && found.message.startsWith("unknown answer")) return;
  const again = decodeFrame(withoutEnd(encodeAnswer(ID, found)));
  same(again && decodeAnswer(again), found, "an answer read, written and read");
}

function capabilities(value: Uint8Array): void {
  const session = decodeHostSession(value);
  if (session !== undefined) {
    holds(Number.isSafeInteger(session.revision), "a revision that is no number");
    same(decodeHostSession(encodeHostSession(session)), session, "a host's session read, written and read");
  }
  const found = decodeCapabilities(value);
  if (found === undefined) return;
  same(decodeCapabilities(encodeCapabilities(found)), found, "capabilities read, written and read");
}

/** What a reader gives of a stream. */
function linesOf(parts: readonly Buffer[], maxBytes: number): unknown {
  const reader = new LineReader(maxBytes);
  const lines: unknown[] = [];
  for (const part of parts) {
    reader.push(part);
    for (let line = reader.next(); line !== undefined; line = reader.next()) lines.push(lineOf(reader, line));
  }
  return { lines, pending: reader.pending };
}

function lineOf(reader: LineReader, line: Line): unknown {
  const isTooLong = reader.isTooLong(line);
  if (!isTooLong) holds(line.bytes.length === line.length, "a line of another length");
  // Of one that is too long the beginning is kept, in one piece more of it than in many.
  return {
    length: line.length,
    isTooLong,
    bytes: Buffer.from(line.bytes.subarray(0, isTooLong ? 256 : undefined)),
  };
}

function lines(input: Input): void {
  const choice = input.random();
  const maxBytes = input.pick([256, 1024, 8192]);
  const bytes = input.rest();
  const whole = linesOf([bytes], maxBytes) as { pending: number };
  holds(whole.pending <= bytes.length, "more is pending than came");
  same(linesOf(pieces(bytes, choice), maxBytes), whole, "lines of a stream in pieces");
}

function plainAnswer(input: Input): void {
  const maxBytes = input.pick([0, 16, 4096]);
  const isMade = input.flag();
  const choice = input.random();
  const bytes = input.rest();
  const found = answersOf(isMade ? encodePlainValue(bytes) : bytes, maxBytes, choice);
  for (const each of found)
    if (each.kind === "success") holds(each.value.length <= maxBytes, "a value longer than the limit");
  if (isMade && bytes.length <= maxBytes)
    same(found, [{ kind: "success", value: bytes }], "a value written and read");
}

function answersOf(bytes: Buffer, maxBytes: number, choice: Random): Answer[] {
  const reader = new LineReader(64 * 1024 * 4);
  const found: Answer[] = [];
  let plain = new PlainAnswerReader(maxBytes);
  for (const part of pieces(bytes, choice)) {
    reader.push(part);
    for (let line = reader.next(); line !== undefined; line = reader.next()) {
      const complete = plain.take(line.bytes);
      if (complete === undefined) continue;
      found.push(
        complete.kind === "success" ? { ...complete, value: Uint8Array.from(complete.value) } : complete,
      );
      plain = new PlainAnswerReader(maxBytes);
    }
  }
  return found;
}

/** A long value in portions of any size is the answer that it is as a whole. */
function longAnswers(input: Input): void {
  const choice = input.random();
  const value = input.rest();
  const out = (parts: AnswerParts): Buffer => Buffer.concat([...parts].filter((part) => part !== undefined));
  const portions = pieces(value, choice);
  same(out(longAnswer(ID, () => portions)), encodeAnswer(ID, { kind: "success", value }), "a long answer");
  same(out(longPlainAnswer(portions)), encodePlainValue(value), "a long plain answer");
}

function base64(input: Input): void {
  const bytes = input.rest();
  same(
    finish(decodeBase64InSteps(bytes.toString("latin1"))),
    decodeBase64(bytes.toString("latin1")),
    "steps",
  );
  same(decodeBase64(encodeBase64(bytes)), bytes, "bytes to base64 and back");
  holds(encodeBase64(bytes).length === base64Length(bytes.length), "the length of base64");
  const text = bytes.toString("latin1");
  const found = decodeBase64(text);
  const short = decodeShortAscii(text);
  if (short !== undefined) same(Buffer.from(short, "latin1"), found, "short text and its bytes");
  if (found === undefined) return;
  holds(found.length <= base64Bytes(text.length), "more bytes than base64 holds");
  encodePlainRequest("GET", text);
}

/** A line on which another program's words come first: the host's grant is found all the same. */
async function negotiation(input: Input): Promise<void> {
  const isShared = input.flag();
  const listeners = { onLine: (_line: Line): void => undefined, onEnd: () => undefined };
  const reader = new LineReader(4096);
  const hear = (bytes: Buffer): void => {
    reader.push(bytes);
    for (let line = reader.next(); line !== undefined; line = reader.next()) listeners.onLine(line);
  };
  const foreign = input.rest();
  const line = Object.assign(listeners, {
    isOpen: true,
    lost: () => new Error("lost"),
    write: async (asked: Buffer) => {
      if (!isShared) return hear(Buffer.concat([foreign, Buffer.from("\n")]));
      const reply = asked.toString() === "\n" ? "invalid command\n" : "V2_OK\n";
      hear(Buffer.concat([foreign, Buffer.from(`\n${reply}`)]));
    },
  });
  const version = await negotiate(line as unknown as LineStream, isShared, new Call({ timeoutMs: 5 }));
  if (isShared) same(version, 2, "the version on a shared line");
}

function refused(input: Input): void {
  const command = input.pick(["GET", "PUT", "CAPS"]);
  const error = refusal(command, input.text());
  holds(error.message.length < 1000, "a refusal of more than a kilobyte");
  holds(!/\p{Cc}/u.test(error.message), "control characters in a message");
}

const TEXTS = ["aGk=", '{"key":"a","op":"put","rev":1}', '{"server":"x","commands":["GET"],"maxKey":5}'];

/** What meets the bytes of the metadata channel, on either side. */
export const MDATA: readonly Target[] = [
  {
    name: "mdata-frame",
    run: frame,
    seeds: () => [`\0${ID} GET a2V5`, `\0${ID} KEYS`, "\x01V2 13 89257dc0 0a1b2c3d KEYS"],
  },
  {
    name: "mdata-request",
    run: request,
    seeds: () => ["\0\x01key", "\x01\x01YQ== Yg==", "\x05\x02", "\x03\x01sdc:"],
  },
  { name: "mdata-request-made", run: requestMade, seeds: () => ["\x03key\x01value"] },
  {
    name: "mdata-answer",
    run: answer,
    seeds: () => TEXTS.flatMap((text) => [`\0\x01${text}`, `\x03\x01${text}`]),
  },
  { name: "mdata-lines", run: lines, seeds: () => ["\x01\0one\ntwo\r\n\nthree"] },
  {
    name: "mdata-plain",
    run: plainAnswer,
    seeds: () => ["\x02\0\x01SUCCESS\n..dot\nline\n.\nNOTFOUND\n", "\x02\x01\x01.a\n.\nb"],
  },
  { name: "mdata-long-answer", run: longAnswers, seeds: () => ["\x01.dot\n..\nend", "\0"] },
  { name: "mdata-base64", run: base64, seeds: () => ["aGVsbG8=", "====", "-_-_"] },
  {
    name: "kvm-negotiation",
    run: negotiation,
    isAsync: true,
    seeds: () => ["\x01SUCCESS\nV2 3", "\0V2_OK", "\0FAILURE"],
  },
  {
    name: "kvm-refusal",
    run: refused,
    seeds: () => ["\0ERR_BUSY: x", '\x01Cannot update the "sdc" Namespace.', "\x02Unknown command CAPS"],
  },
];
