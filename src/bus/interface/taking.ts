import type { Call } from "../../base/flow/call.js";
import type { TakeOptions } from "../../contract/key-values.js";
import type { Erased, ProviderStore, TakenValue } from "../../contract/store.js";
import { changed, kept } from "./arguments.js";

/** Takes the value of a key: the order of the steps says what a kill may cost, see {@link TakeOptions.erase}. */
export async function takeValue(
  store: ProviderStore,
  key: string,
  { erase = "after", requireErase = false, deliver }: TakeOptions,
  call: Call,
): Promise<TakenValue | undefined> {
  if (erase !== "after" && erase !== "first") throw new TypeError('erase must be "after" or "first"');
  if (erase === "first" || requireErase) {
    const taken = await takeFirst(store, key, call, requireErase);
    if (taken === undefined) return undefined;
    if (requireErase && (taken.erased === "no" || taken.erased === "local")) throw kept(key);
    await deliver?.(taken.value);
    return taken;
  }
  const value = await store.read?.(key, call);
  if (value === undefined) return undefined;
  await deliver?.(value);
  return { value, erased: await eraseValue(store, key, call, value) };
}

/** Erases a value in the store's own way, else by deleting it; reads back. */
export async function eraseValue(
  store: ProviderStore,
  key: string,
  call: Call,
  expected: Uint8Array,
  everywhere = false,
): Promise<Erased> {
  if (store.erase !== undefined) return store.erase(key, call, expected, everywhere);
  if (store.delete === undefined) return "no";
  const now = await store.read?.(key, call);
  // Somebody else's erasing is as good.
  if (now === undefined) return "host";
  if (Buffer.compare(now, expected) !== 0) throw changed(key);
  await store.delete(key, call);
  return (await store.read?.(key, call)) === undefined ? "host" : "no";
}

async function takeFirst(
  store: ProviderStore,
  key: string,
  call: Call,
  everywhere: boolean,
): Promise<TakenValue | undefined> {
  if (store.take !== undefined) return store.take(key, call);
  const value = await store.read?.(key, call);
  if (value === undefined) return undefined;
  return { value, erased: await eraseValue(store, key, call, value, everywhere) };
}
