import { statSync } from "node:fs";
import { join } from "node:path";
import type { Host } from "../../src/host/host.js";
import { Pool, type PoolOptions } from "./pool.js";
import { PoolFile, type PoolFileOptions } from "./pool-file.js";
import { poolFileName } from "./pool-places.js";
import { sharePoolFile } from "./pool-sharing.js";

/** Which pool to open, and how. */
export interface PoolOpening
  extends Pick<PoolOptions, "info" | "durable" | "scrub" | "canLock">,
    Pick<PoolFileOptions, "makePrivate" | "create" | "lock"> {
  /** Where the pool files are. */
  readonly directory: string;
}

/** Makes a pool of a host; its file is opened on first use. */
export function openPool(host: Host, { directory, info, ...opening }: PoolOpening): Pool {
  const settings: PoolFileOptions = {
    path: join(directory, poolFileName(info.number)),
    pool: info.name,
    trustedOwners: trustedOwners(host),
    ...opening,
  };
  const { file, close } = process.platform === "linux" ? ownPoolFile(settings) : sharePoolFile(settings);
  return new Pool({ ...opening, info, file, closeFile: close, clock: host.clock });
}

/** Root, this user, and below a sysroot whoever owns it. */
function trustedOwners(host: Host): ReadonlySet<number> {
  const owners = new Set([0]);
  if (host.uid !== undefined) owners.add(host.uid);
  const root = host.sysroot && statSync(host.sysroot, { throwIfNoEntry: false });
  if (root) owners.add(root.uid);
  return owners;
}

function ownPoolFile(settings: PoolFileOptions): ReturnType<typeof sharePoolFile> {
  const file = new PoolFile(settings);
  return { file, close: () => file.close() };
}
