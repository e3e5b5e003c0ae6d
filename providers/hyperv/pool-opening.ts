import { posix } from "node:path";
import type { Host } from "../../src/base/host/host.js";
import { Pool, type PoolOptions } from "./pool.js";
import { PoolFile, type PoolFileOptions } from "./pool-file.js";
import { poolFileName } from "./pool-places.js";
import { sharePoolFile } from "./pool-sharing.js";
import { trustedOwners } from "./trust.js";

/** Which pool to open, and how. */
export interface PoolOpening
  extends Pick<PoolOptions, "info" | "durable" | "scrub" | "canLock">,
    Pick<PoolFileOptions, "makePrivate" | "create" | "lock"> {
  /** Where the pool files are, on the machine. */
  readonly directory: string;
}

/** Makes a pool of a host; its file is opened on first use. */
export function openPool(host: Host, { directory, info, ...opening }: PoolOpening): Pool {
  const name = posix.join(directory, poolFileName(info.number));
  const settings: PoolFileOptions = {
    path: host.path(name),
    // The live machine's names are as they are: holding one would gain nothing there.
    hold: host.sysroot === undefined ? undefined : () => host.files.holdName(name),
    pool: info.name,
    trustedOwners: trustedOwners(host),
    ...opening,
  };
  const file = process.platform === "linux" ? new PoolFile(settings) : sharePoolFile(settings);
  return new Pool({ ...opening, info, file, clock: host.clock });
}
