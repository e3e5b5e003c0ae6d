import type { Call } from "../../src/base/flow/call.js";
import { type WatchSource, watchLoop } from "../../src/base/flow/watch-loop.js";
import type { RawEntry, WatchHooks } from "../../src/contract/store.js";
import type { Property } from "./protocol/properties.js";
import type { PropertyWaiter, Watching } from "./waiter.js";

/** How a prefix is watched. */
export interface PropertyWatch extends WatchHooks {
  readonly waiter: PropertyWaiter;
  readonly prefix: string;
  /** Names that are left out. */
  readonly isHidden: (name: string) => boolean;
  readonly closing: AbortSignal;
}

/**
 * Yields changes of properties below a prefix; of quick ones to the same property the last. A set to an equal value is none.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes
 */
export function watchProperties(
  { waiter, prefix, isHidden, ready, closing }: PropertyWatch,
  call: Call,
): AsyncGenerator<RawEntry, void, undefined> {
  const told = new Map<string, Uint8Array>();
  const news = new Map<string, Uint8Array | undefined>();
  let isBegun = false;
  let failure: { readonly error: unknown } | undefined;
  let begun = (): void => undefined;
  const beginning = new Promise<void>((resolve) => {
    begun = resolve;
  });

  const source: WatchSource<RawEntry> = {
    listen(changed) {
      const see = (name: string, value: Uint8Array | undefined): void => {
        if (isHidden(name)) return;
        news.set(name, value);
        changed();
      };
      const watching: Watching = {
        prefix,
        see,
        begin(found: readonly Property[]) {
          for (const { name, value } of found) if (!isHidden(name)) told.set(name, value);
          isBegun = true;
          begun();
        },
        compare(found: readonly Property[]) {
          const there = new Set(found.map(({ name }) => name));
          for (const name of new Set([...told.keys(), ...news.keys()]))
            if (!there.has(name)) see(name, undefined);
          for (const { name, value } of found) see(name, value);
        },
        fail(error) {
          failure = { error };
          begun();
          changed();
        },
      };
      const forget = waiter.follow(watching);
      return () => {
        forget();
        begun();
      };
    },
    async *look(within) {
      if (!isBegun) await within.within(beginning, "the beginning of the watch");
      if (failure !== undefined) throw failure.error;
      for (const [name, value] of news) {
        news.delete(name);
        const last = told.get(name);
        const isSame = value === undefined || last === undefined ? value === last : sameBytes(value, last);
        if (isSame) continue;
        if (value === undefined) told.delete(name);
        else told.set(name, value);
        yield { key: name, value };
      }
    },
  };
  return watchLoop(source, { ready, closing }, call);
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
