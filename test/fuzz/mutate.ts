import type { Random } from "../support/campaign.js";

const INTERESTING = [0, 1, 0x0a, 0x20, 0x2f, 0x3d, 0x7f, 0x80, 0xfe, 0xff];
/** Words that have broken programs, whatever the format. */
const WORDS = ["__proto__", "constructor", "\0", "\r\n", "//", "..", "%", "99999999999", "-1", "\u{1f600}"];
const LONGEST = 16 * 1024;

/** Returns an input like one of the corpus: some of its bytes changed, repeated, left out, or taken from another. */
export function mutated(corpus: readonly Uint8Array[], choice: Random): Uint8Array {
  let bytes: Buffer = Buffer.from(corpus.length > 0 ? choice.pick(corpus) : choice.bytes(choice.below(64)));
  for (let times = 1 + choice.below(4); times > 0; times--) bytes = changed(bytes, corpus, choice);
  return bytes.subarray(0, LONGEST);
}

function changed(bytes: Buffer, corpus: readonly Uint8Array[], choice: Random): Buffer {
  const at = choice.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + choice.below(choice.pick([4, 16, 64])));
  const [front, part, back] = [bytes.subarray(0, at), bytes.subarray(at, end), bytes.subarray(end)];
  switch (choice.below(8)) {
    case 0:
      return Buffer.concat([front, back]);
    case 1:
      return Buffer.concat([front, part, part, back]);
    case 2:
      return Buffer.concat([front, choice.bytes(part.length), back]);
    case 3:
      return Buffer.concat([front, Buffer.from([choice.pick(INTERESTING)]), bytes.subarray(at + 1)]);
    case 4:
      return Buffer.concat([front, Buffer.from(choice.pick(WORDS)), bytes.subarray(at)]);
    case 5: {
      const other = corpus.length > 0 ? choice.pick(corpus) : part;
      return Buffer.concat([front, other.subarray(choice.below(other.length + 1))]);
    }
    case 6: {
      const flipped = Buffer.from(bytes);
      if (at < flipped.length) flipped[at] = (flipped[at] as number) ^ (1 << choice.below(8));
      return flipped;
    }
    default:
      return Buffer.concat([front, choice.bytes(choice.below(8)), bytes.subarray(at)]);
  }
}
