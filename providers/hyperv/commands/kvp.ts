import type { CommandAction } from "../../../src/contract/command.js";
import { receiveKvp } from "../kvpd/receive.js";

/** Options of `pvbus kvp receive`; a key without a pool is one of External. */
interface KvpOptions {
  readonly key?: readonly string[];
  readonly quiet?: number;
  readonly device?: string;
  readonly pools?: string;
  readonly "private-pools"?: boolean;
}

const POOL = /^(external|guest|auto)\//i;

/**
 * `pvbus kvp receive`: takes what the host sends while no daemon runs, keeps it in the pools and prints it: the value
 * alone for one key, `key=value` lines otherwise.
 */
export const receiveAction: CommandAction = async (io, _args, own: KvpOptions) => {
  const keys = own.key?.map((key) => (POOL.test(key) ? key : `External/${key}`));
  const entries = await receiveKvp(io.host(), {
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
