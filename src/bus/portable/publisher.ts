import { Backoff } from "../../base/flow/backoff.js";
import type { Call } from "../../base/flow/call.js";
import { KeyedQueues } from "../../base/flow/queues.js";
import type { PvInterface } from "../interface/interface.js";
import { decodeHead, encodeHead, isMarked, type SetHead, type Slot, splitText } from "./layout.js";
import type { PortablePlace } from "./place.js";

/** How often a set is published again when another process published the same name at the same time. */
const ATTEMPTS = 8;

/**
 * Publishes a value. The order of the steps is the guarantee: a reader sees the old value until the one write of the
 * key itself, the new one after it, and a publisher that is stopped anywhere leaves one of both.
 * @throws PvbusError `ERR_CONFLICT` when others publish the same name all the time
 */
export async function publishValue(
  place: PortablePlace,
  value: Uint8Array,
  chunkBytes: number,
): Promise<void> {
  if (isPlain(value, chunkBytes)) return publishPlain(place, value);
  const chunks = splitText(value, chunkBytes);
  const sum = await place.checksum(value);
  const pauses = new Backoff({ firstMs: 2, longestMs: 2 ** ATTEMPTS, jitter: 1 });
  while (pauses.attempts < ATTEMPTS) {
    const old = await headOf(place);
    const slot = old?.slot === "a" ? "b" : "a";
    const head: SetHead = { slot, count: chunks.length, bytes: value.length, sum };
    if (await publishSet(place, chunks, head)) {
      await clear(place, slot, head.count, encodeHead(head));
      await clear(place, other(slot), 0, encodeHead(head), old?.count);
      return;
    }
    await place.pause(pauses);
  }
  throw place.torn();
}

/**
 * Publishes a value where there is none. Of several who try one succeeds; the others may have written into its slot before they
 * knew, so it looks at its set until that holds.
 * @returns false when there is a value
 */
export async function insertValue(
  place: PortablePlace,
  value: Uint8Array,
  chunkBytes: number,
): Promise<boolean> {
  if ((await place.read(place.key)) !== undefined) return false;
  if (isPlain(value, chunkBytes)) return place.insert(place.key, value);
  const chunks = splitText(value, chunkBytes);
  const head: SetHead = {
    slot: "a",
    count: chunks.length,
    bytes: value.length,
    sum: await place.checksum(value),
  };
  await writeChunks(place, chunks, head);
  if (!(await place.insert(place.key, encodeHead(head)))) return false;
  const pauses = new Backoff({ firstMs: 2, longestMs: 2 ** ATTEMPTS, jitter: 1 });
  for (;;) {
    const now = await headOf(place);
    if (now === undefined || encodeHead(now) !== encodeHead(head)) return true;
    if ((await place.readSet(head)) !== undefined) break;
    if (pauses.attempts >= ATTEMPTS) throw place.torn();
    await place.pause(pauses);
    await writeChunks(place, chunks, head);
  }
  await clear(place, "a", head.count, encodeHead(head));
  return true;
}

/**
 * Removes a value with all that belongs to it.
 * @returns whether it was there
 */
export async function removeValue(place: PortablePlace): Promise<boolean> {
  const there = (await place.read(place.key)) !== undefined;
  if (there) await place.remove(place.key);
  await clear(place, "a", 0, undefined);
  await clear(place, "b", 0, undefined);
  return there;
}

/** Whether a value is stored as it is, for everybody to read: it fits, and cannot be taken for a head or for nothing. */
function isPlain(value: Uint8Array, chunkBytes: number): boolean {
  return value.length > 0 && value.length <= chunkBytes && !isMarked(value);
}

async function publishPlain(place: PortablePlace, value: Uint8Array): Promise<void> {
  const old = await headOf(place);
  await place.write(place.key, value);
  if (old === undefined) return;
  const text = Buffer.from(value).toString();
  await clear(place, old.slot, 0, text, old.count);
  await clear(place, other(old.slot), 0, text);
}

/** Writes chunks, then the head, and looks whether both hold. False: another publisher wrote into the same slot. */
async function publishSet(
  place: PortablePlace,
  chunks: readonly Uint8Array[],
  head: SetHead,
): Promise<boolean> {
  await writeChunks(place, chunks, head);
  await place.write(place.key, encodeHead(head));
  const now = await headOf(place);
  // A different head is a later publisher's, who looks after its own set.
  if (now === undefined || encodeHead(now) !== encodeHead(head)) return true;
  return (await place.readSet(head)) !== undefined;
}

async function writeChunks(
  place: PortablePlace,
  chunks: readonly Uint8Array[],
  { slot }: SetHead,
): Promise<void> {
  for (const [at, chunk] of chunks.entries()) await place.write(place.chunkKey(slot, at + 1), chunk);
}

/**
 * Removes the chunks of a slot behind the first `keep`. Chunks are written upwards and removed downwards, so that what
 * a stopped publisher leaves is always a run from 1: its end is found without a listing. Stops when the key no longer
 * holds `mine`: then the slot is another publisher's.
 */
async function clear(
  place: PortablePlace,
  slot: Slot,
  keep: number,
  mine: string | undefined,
  known = keep,
): Promise<void> {
  let last = known;
  while ((await place.read(place.chunkKey(slot, last + 1))) !== undefined) last++;
  for (; last > keep; last--) {
    const now = await place.read(place.key);
    if ((now === undefined ? undefined : Buffer.from(now).toString()) !== mine) return;
    await place.remove(place.chunkKey(slot, last));
  }
}

async function headOf(place: PortablePlace): Promise<SetHead | undefined> {
  const stored = await place.read(place.key);
  return stored !== undefined && isMarked(stored) ? decodeHead(stored) : undefined;
}

function other(slot: Slot): Slot {
  return slot === "a" ? "b" : "a";
}

/** Publishers of this process by interface and native key: they take turns, the last called wins. */
const QUEUES = new WeakMap<PvInterface, KeyedQueues>();

/** Runs `work` after whatever was asked for the same key before; the call's end ends the waiting. */
export function inTurn<T>(target: PvInterface, key: string, call: Call, work: () => Promise<T>): Promise<T> {
  const queues = QUEUES.get(target) ?? new KeyedQueues();
  QUEUES.set(target, queues);
  return queues.run(key, call, `the turn to publish "${key}"`, work);
}
