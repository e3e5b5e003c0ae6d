import type { CallOptions } from "../../base/flow/call.js";
import type { TakeOptions } from "../../contract/key-values.js";
import type { Erased, TakenValue } from "../../contract/store.js";
import { changed, kept } from "../interface/arguments.js";
import { decodeHead, isMarked, type SetHead, type Slot } from "./layout.js";
import type { PortablePlace } from "./place.js";

/** From what is best for a secret to what is worst. */
const WORSE: readonly Erased[] = ["host", "overwritten", "local", "no"];

/**
 * Takes the whole value of a name. The head record goes first, then the chunks downwards: who is stopped between leaves a run
 * of chunks that nobody takes for a value, and that the next publisher removes.
 */
export async function takeWhole(
  place: PortablePlace,
  options: Omit<TakeOptions, keyof CallOptions>,
): Promise<TakenValue | undefined> {
  const { erase = "after", requireErase = false, deliver } = options;
  const found = await place.readStored();
  if (found === undefined) return undefined;
  const { stored, whole } = found;
  // A value in one key is taken as the store has it, in one step where it can.
  if (!isMarked(stored)) return place.take(place.key, options);
  if (erase === "after" && !requireErase) {
    await deliver?.(whole);
    const head = await place.take(place.key, { deliver: onlyIf(stored, place.key) });
    return { value: whole, erased: await eraseChunks(place, stored, head?.erased ?? "host") };
  }
  const head = await place.take(place.key, { erase: "first", requireErase });
  if (head === undefined) return undefined;
  // Another value may have come meanwhile: what was taken counts.
  const value = isMarked(head.value) ? await rest(place, head.value) : head.value;
  const erased = await eraseChunks(place, head.value, head.erased);
  if (requireErase && (erased === "no" || erased === "local")) throw kept(place.key);
  await deliver?.(value);
  return { value, erased };
}

/** Erasing ends where the key holds something else than what was read. */
function onlyIf(expected: Uint8Array, key: string): (value: Uint8Array) => Promise<void> {
  return async (value) => {
    if (Buffer.compare(value, expected) !== 0) throw changed(key);
  };
}

/** Returns the value whose head record was taken. */
async function rest(place: PortablePlace, stored: Uint8Array): Promise<Uint8Array> {
  const value = await place.readSet(decodeHead(stored) ?? place.notAHead());
  if (value === undefined) throw place.torn();
  return value;
}

/** Erases all chunks of a head record, from the last; returns the worst of what became of them. */
async function eraseChunks(place: PortablePlace, stored: Uint8Array, erased: Erased): Promise<Erased> {
  const head = decodeHead(stored);
  // Where the head stays, its chunks do: a set is whole or gone.
  if (head === undefined || erased === "no" || erased === "local") return erased;
  let worst: Erased = erased;
  for (const { slot, count } of [head, { slot: other(head), count: 0 }])
    for (let index = await lastOf(place, slot, count); index > 0; index--) {
      const taken = await place.take(place.chunkKey(slot, index), { erase: "first" });
      if (taken !== undefined && WORSE.indexOf(taken.erased) > WORSE.indexOf(worst)) worst = taken.erased;
    }
  return worst;
}

async function lastOf(place: PortablePlace, slot: Slot, known: number): Promise<number> {
  let last = known;
  while ((await place.read(place.chunkKey(slot, last + 1))) !== undefined) last++;
  return last;
}

function other({ slot }: SetHead): Slot {
  return slot === "a" ? "b" : "a";
}
