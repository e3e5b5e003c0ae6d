import type { Random } from "../support/campaign.js";

const KEY_LENGTHS = [1, 2, 7, 30, 120, 200, 253, 254];
const VALUE_LENGTHS = [0, 1, 20, 300, 700, 1000, 1021, 1022];
const WIDE_VALUE_LENGTHS = [1023, 1500, 1535, 1536, 1537, 2000, 2046, 2047];

/** Returns the n-th key of a set: of any length, the same every time. */
export function keyOf(n: number): string {
  const length = KEY_LENGTHS[n % KEY_LENGTHS.length] as number;
  const name = n % 9 === 4 ? `k${n}é€` : `k${n}`;
  return name.padEnd(length, `${String.fromCharCode(97 + (n % 26))}/-`);
}

/** Returns a value of a key that no other write of it has: each part of it shows whose and which one it is. Lengths are in bytes. */
export function newValue(random: Random, key: string, version: number, wide = true): string {
  const length = random.pick(wide && random() < 0.3 ? WIDE_VALUE_LENGTHS : VALUE_LENGTHS);
  const unit = `${key.slice(0, 5)}#${version};`;
  let value = unit.repeat(Math.ceil(length / unit.length)).slice(0, length);
  while (Buffer.byteLength(value) > length) value = value.slice(0, -1);
  return value;
}
