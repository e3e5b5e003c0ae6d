import { posix, resolve } from "node:path";
import { PvbusError } from "../../../../src/base/errors.js";
import type { Host } from "../../../../src/base/host/host.js";
import { isSystemError } from "../../../../src/base/system-error.js";
import { loadKoffi } from "../../../../src/native/ffi/koffi.js";
import { checkPair, type WriteLimits } from "../../protocol/limits.js";
import { HV_KVP_EXCHANGE_MAX_KEY_SIZE } from "../../protocol/record.js";
import type { PoolTransport } from "../pool.js";
import { poolFileName } from "./directory.js";
import { type Locker, PoolFile, type PoolFileOptions } from "./file.js";
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
    Pick<PoolFileOptions, "lock"> {}

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
export function openRecords(host: Host, { directory, info, ...opening }: PoolOpening): PoolRecords {
  const name = posix.join(directory, poolFileName(info.number));
  const settings: PoolFileOptions = {
    path: host.path(name),
    // The live machine's names are as they are: holding one would gain nothing there.
    hold: host.sysroot === undefined ? undefined : () => host.files.holdName(name),
    pool: info.name,
    trustedOwners: trustedOwners(host),
    ...opening,
  };
  const { file, close } = process.platform === "linux" ? ownPoolFile(settings) : sharePoolFile(settings);
  return new PoolRecords({ ...opening, info, file, closeFile: close, clock: host.clock });
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

interface OpenedFile {
  readonly file: PoolFile;
  readonly close: () => Promise<void>;
}

function ownPoolFile(settings: PoolFileOptions): OpenedFile {
  const file = new PoolFile(settings);
  return { file, close: () => file.close() };
}

const shared = new Map<string, { readonly file: PoolFile; users: number }>();

/**
 * Returns the pool file for record locks of the POSIX kind: one descriptor per path in the whole process, since closing
 * any descriptor of a file drops all its locks there. Close it through the returned function.
 */
export function sharePoolFile(options: PoolFileOptions): OpenedFile {
  const entry = shared.get(options.path) ?? { file: new PoolFile(options), users: 0 };
  entry.users++;
  shared.set(options.path, entry);
  let open = true;
  return {
    file: entry.file,
    close: async () => {
      if (!open) return;
      open = false;
      if (--entry.users > 0) return;
      shared.delete(options.path);
      await entry.file.close();
    },
  };
}

const lockFamilies: Locker = async (fd, { mode, call }) => {
  const { lockFile } = await import("../../../../src/native/posix/file-lock.js");
  return lockFile(fd, { mode, call });
};

function canLock(): boolean {
  try {
    loadKoffi();
    return true;
  } catch (error) {
    if (PvbusError.is(error)) return false;
    throw error;
  }
}
