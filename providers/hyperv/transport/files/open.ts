import { posix, resolve } from "node:path";
import { PvbusError } from "../../../../src/base/errors.js";
import type { Host } from "../../../../src/base/host/host.js";
import { isSystemError } from "../../../../src/base/system-error.js";
import { loadKoffi } from "../../../../src/native/ffi/koffi.js";
import { checkPair, type WriteLimits } from "../../protocol/limits.js";
import { HV_KVP_EXCHANGE_MAX_KEY_SIZE } from "../../protocol/record.js";
import type { PoolTransport } from "../pool.js";
import { poolFileName } from "./directory.js";
import { type Locker, type PoolDescriptor, PoolFile, type PoolFileOptions } from "./file.js";
import { notifyFiles } from "./notify.js";
import { FilePool } from "./pool.js";
import { PoolRecords, type RecordsOptions } from "./records.js";

/** How pool files are opened. */
export interface PoolFilesOptions
  extends Pick<RecordsOptions, "durable" | "scrub">,
    Pick<PoolFileOptions, "makePrivate" | "create"> {
  /** Where they are, on the machine. */
  readonly directory: string;
}

/** Which pool to open, and how. */
export interface PoolOpening
  extends PoolFilesOptions,
    Pick<RecordsOptions, "info" | "canLock">,
    Pick<PoolFileOptions, "lock"> {
  /** Makes what looks at a file of the live machine by its name; for whoever looks thousands of times. */
  readonly watchName?: ((path: string) => PoolFileOptions["unchanged"]) | undefined;
}

/** The pools as files: Linux, FreeBSD, and captured trees everywhere. The files are opened on first use. */
export function filePools(host: Host, limits: WriteLimits, options: PoolFilesOptions): PoolTransport {
  const { directory } = options;
  return {
    location: resolve(host.path(directory)),
    // A field may lack its NUL.
    longestKeyBytes: HV_KVP_EXCHANGE_MAX_KEY_SIZE,
    separator: "/",
    pool: (info) => new FilePool(openRecords(host, { ...options, info, lock: lockFamilies, canLock })),
    check: (key, value) => checkPair(key, value, limits),
    notify: (pools, ring) =>
      notifyFiles({ host, directory, files: pools.map(({ info }) => poolFileName(info.number)), ring }),
  };
}

/** Makes the records of a host's pool; its file is opened on first use. */
export function openRecords(
  host: Host,
  { directory, info, watchName, ...opening }: PoolOpening,
): PoolRecords {
  const name = posix.join(directory, poolFileName(info.number));
  const path = host.path(name);
  const settings: PoolFileOptions = {
    path,
    // The live machine's names are as they are: holding one would gain nothing there.
    hold: host.sysroot === undefined ? undefined : () => host.files.holdName(name),
    unchanged: host.sysroot === undefined ? watchName?.(path) : undefined,
    pool: info.name,
    trustedOwners: trustedOwners(host),
    ...opening,
  };
  const file = process.platform === "linux" ? new PoolFile(settings) : sharePoolFile(settings);
  return new PoolRecords({ ...opening, info, file, clock: host.clock });
}

/** Returns the owners whose files are taken: root, this user, and below a sysroot whoever owns that. */
export function trustedOwners(host: Host): ReadonlySet<number> {
  const owners = new Set([0]);
  if (host.uid !== undefined) owners.add(host.uid);
  if (host.sysroot === undefined) return owners;
  try {
    using top = host.files.hold("/");
    if (top !== undefined) owners.add(top.stats.uid);
  } catch (error) {
    // A sysroot that is not there owns nothing.
    if (!isSystemError(error)) throw error;
  }
  return owners;
}

const shared = new Map<string, PoolDescriptor>();

/**
 * Returns the pool file for record locks of the POSIX kind: one descriptor per path in the whole process, since closing
 * any descriptor of a file drops all its locks there. Owners, locks and the right to create it are each user's own.
 */
export function sharePoolFile(options: PoolFileOptions): PoolFile {
  const { path } = options;
  const descriptor: PoolDescriptor = shared.get(path) ?? { users: 0, unused: () => shared.delete(path) };
  shared.set(path, descriptor);
  return new PoolFile(options, descriptor);
}

const lockFamilies: Locker = async (fd, options) =>
  (await import("../../../../src/native/posix/file-lock.js")).lockFile(fd, options);

function canLock(): boolean {
  try {
    loadKoffi();
    return true;
  } catch (error) {
    if (PvbusError.is(error)) return false;
    throw error;
  }
}
