import { nodeHost } from "../../../src/base/host/node-host.js";
import { type Context, callOptions, loggerOf, UsageError } from "../../../src/cli/io/context.js";
import { entryJson, visible, visibleKey, writeData, writeJson } from "../../../src/cli/io/output.js";
import { receiveKvp } from "../../../src/services.js";

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

/**
 * `pvbus kvp receive`: takes what the host sends while no daemon runs, keeps it in the pools and prints it: the value alone
 * for one key, `key=value` lines otherwise.
 */
export async function kvpCommand(context: Context, action: string, own: KvpOptions): Promise<number> {
  if (action !== "receive") throw new UsageError(`kvp: unknown action '${action}'; there is: receive`);
  const { stdout, env, options } = context;
  const keys = own.key?.map((key) => (POOL.test(key) ? key : `External/${key}`));
  const entries = await receiveKvp(nodeHost({ sysroot: options.sysroot, logger: loggerOf(context), env }), {
    ...callOptions(context),
    keys,
    quietMs: own.quiet === undefined ? undefined : own.quiet * 1000,
    device: own.device,
    directory: own.pools,
    privatePools: own["private-pools"],
  });
  const [only] = entries;
  if (options.json === true)
    writeJson(stdout, keys?.length === 1 && only ? entryJson(only) : entries.map(entryJson));
  else if (keys?.length === 1 && only !== undefined) {
    writeData(stdout, `${only.value ?? ""}\n`);
  } else {
    for (const { key, value = "" } of entries) stdout.write(`${visibleKey(key)}=${visible(value)}\n`);
  }
  return 0;
}
