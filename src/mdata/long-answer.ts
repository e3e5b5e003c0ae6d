import { crc32 } from "../base/crc32.js";
import { encodeAnswer } from "./answer.js";
import { encodeBase64 } from "./base64.js";
import { checkedHead } from "./frame.js";

/*
 * Answers that are too long for one step. What is sent comes in parts; undefined between them is a place where others may have their
 * turn, as no step takes longer than a millisecond.
 */

export type AnswerParts = Generator<Buffer | undefined, void, undefined>;

/** @param portions returns the value in portions of one step each; called twice, and it is the same value both times */
export function* longAnswer(id: string, portions: () => Iterable<Uint8Array>): AnswerParts {
  const start = `${id} SUCCESS `;
  let length = start.length;
  let checksum = crc32(start);
  // They stand in front. To encode the value twice costs less than to keep it: a guest that takes no answers holds no memory.
  for (const portion of inThrees(portions())) {
    const text = encodeBase64(portion);
    length += text.length;
    checksum = crc32(text, checksum);
    yield undefined;
  }
  if (length === start.length) {
    yield encodeAnswer(id, { kind: "success", value: new Uint8Array() });
    return;
  }
  yield Buffer.from(`${checkedHead(length, checksum)}${start}`, "latin1");
  for (const portion of inThrees(portions())) yield Buffer.from(encodeBase64(portion), "latin1");
  yield Buffer.from("\n");
}

/** Returns the answer of version 1 that carries a value, from portions of one step each. */
export function* longPlainAnswer(portions: Iterable<Uint8Array>): AnswerParts {
  yield Buffer.from("SUCCESS\n");
  let isLineStart = true;
  for (const portion of portions) {
    if (portion.length === 0) continue;
    const text = Buffer.from(portion.buffer, portion.byteOffset, portion.byteLength).toString("latin1");
    const stuffed = text.replaceAll("\n.", "\n..");
    yield Buffer.from(isLineStart && stuffed.startsWith(".") ? `.${stuffed}` : stuffed, "latin1");
    isLineStart = text.endsWith("\n");
  }
  yield Buffer.from("\n.\n");
}

/** Has the length of every portion but the last one a multiple of three. */
function* inThrees(portions: Iterable<Uint8Array>): Generator<Uint8Array, void, undefined> {
  let rest: Uint8Array = new Uint8Array();
  for (const portion of portions) {
    const bytes = rest.length === 0 ? portion : Buffer.concat([rest, portion]);
    const whole = bytes.length - (bytes.length % 3);
    if (whole > 0) yield bytes.subarray(0, whole);
    rest = bytes.subarray(whole);
  }
  if (rest.length > 0) yield rest;
}
