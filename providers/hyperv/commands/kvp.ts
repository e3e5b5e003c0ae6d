import type { CallOptions } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import type { CommandAction } from "../../../src/contract/command.js";
import type { StoreEntry } from "../../../src/contract/store.js";

/** Options of `pvbus kvp receive`. */
export interface KvpOptions {
  /** Keys to wait for; a name without a pool is one of External. */
  readonly key?: readonly string[];
  /** Silence of the host after which nothing more is expected, in seconds. */
  readonly quiet?: number;
  /** The driver's device. */
  readonly device?: string;
  /** The pools' directory. */
  readonly pools?: string;
  /** Pool files for their owner alone. */
  readonly "private-pools"?: boolean;
}

const POOL = /^(external|guest|auto)\//i;

/** Receives what the host has, as `receiveKvp` does. */
export type Receive = (
  host: Host,
  options: CallOptions & {
    readonly keys?: readonly string[] | undefined;
    readonly quietMs?: number | undefined;
    readonly device?: string | undefined;
    readonly directory?: string | undefined;
    readonly privatePools?: boolean | undefined;
  },
) => Promise<readonly StoreEntry[]>;

/**
 * Makes `pvbus kvp receive`: takes what the host sends while no daemon runs, keeps it in the pools and prints it: the value
 * alone for one key, `key=value` lines otherwise.
 */
export function receiveAction(receive: Receive): CommandAction {
  return async (io, _args, own: KvpOptions) => {
    const keys = own.key?.map((key) => (POOL.test(key) ? key : `External/${key}`));
    const entries = await receive(io.host(), {
      ...io.call,
      keys,
      quietMs: own.quiet === undefined ? undefined : own.quiet * 1000,
      device: own.device,
      directory: own.pools,
      privatePools: own["private-pools"],
    });
    const [only] = entries;
    if (keys?.length === 1 && only !== undefined) io.keys.printValue(only);
    else await io.keys.print(entries);
    return 0;
  };
}
