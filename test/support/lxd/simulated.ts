import { LxdClient } from "../../../providers/lxd/client.js";
import type { FeedTimes } from "../../../providers/lxd/feed.js";
import { LxdProvider, LxdStore } from "../../../providers/lxd/index.js";
import { transportOf } from "../../../providers/lxd/transport/transport.js";
import type { LxdSimulator } from "../../../providers/testing.js";
import { Call } from "../../../src/base/flow/call.js";
import { Closing } from "../../../src/base/flow/closing.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import type { RawEntry } from "../../../src/contract/store.js";

/** Opens the provider's store on a simulated guest API; with short patience where nothing else is said. */
export function openOn(
  lxd: Pick<LxdSimulator, "path">,
  options: Readonly<Record<string, unknown>> = {},
): Promise<LxdStore> {
  const provider = new LxdProvider(nodeHost({ platform: "linux" }));
  return provider.open({ channel: `unix:${lxd.path}`, options: { patienceMs: 300, ...options } }, new Call());
}

/** The same with other times of the stream, and looks every few milliseconds. */
export async function storeWith(
  lxd: Pick<LxdSimulator, "path">,
  times: Partial<FeedTimes> = {},
  lookMs = 20,
): Promise<LxdStore> {
  const host = nodeHost({ platform: "linux" });
  const transport = transportOf(host, { channel: `unix:${lxd.path}` });
  const closing = new Closing();
  const client = new LxdClient({ transport, uid: 0, maxValueBytes: 1 << 20, patienceMs: 300, closing });
  const instance = await client.instance(new Call());
  const pace = { firstMs: lookMs, longestMs: lookMs };
  return new LxdStore({ client, instance, transport, logger: host.logger, closing, times, pace });
}

/** What a watch has told so far. */
export interface Followed {
  readonly changes: readonly (readonly [key: string, value: string | undefined])[];
  /** Waits until the last value told of a key is this one. */
  comes(key: string, value: string | undefined): Promise<void>;
  /** Ends the watch; rejects with what it failed with. */
  end(): Promise<void>;
  /** Resolves with what the watch failed with, undefined when it just ended. */
  readonly ended: Promise<unknown>;
}

/** Follows a prefix of a store; resolves when the watch is armed. */
export async function follow(store: LxdStore, prefix = ""): Promise<Followed> {
  const abort = new AbortController();
  const changes: [string, string | undefined][] = [];
  let wake = (): void => undefined;
  let armed = (): void => undefined;
  const isReady = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const note = ({ key, value }: RawEntry): void => {
    changes.push([key, value && Buffer.from(value).toString()]);
    wake();
  };
  const following = (async () => {
    for await (const entry of store.watch(prefix, Call.endless(abort.signal), { ready: armed })) note(entry);
  })();
  const ended = following.then(
    () => undefined,
    (error: unknown) => error ?? new Error("nothing"),
  );
  await Promise.race([isReady, following]);
  return {
    changes,
    ended,
    comes: async (key, value) => {
      const isThere = (): boolean => {
        const last = changes.findLast(([each]) => each === key);
        return last !== undefined && last[1] === value;
      };
      while (!isThere()) {
        const more = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const failure = await Promise.race([more, ended.then((error) => ({ error }))]);
        if (failure !== undefined) throw failure.error ?? new Error("the watch has ended");
      }
    },
    end: async () => {
      abort.abort();
      await following;
    },
  };
}
