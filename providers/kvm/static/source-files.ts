import { constants, existsSync } from "node:fs";
import fs from "node:fs/promises";
import type { Call } from "../../../src/bus/call.js";
import { pvbusError } from "../../../src/bus/errors.js";
import { fromSystemError, isSystemError } from "../../../src/bus/system-error.js";
import { liesWithin } from "../../../src/host/confine.js";
import type { Host } from "../../../src/host/host.js";

/** How much of a file is read. */
export interface ReadLimits {
  /** Bytes that the file is known to hold: reading ends with them, without looking for the end. */
  readonly bytes?: number | undefined;
  /** Most bytes otherwise. */
  readonly maxBytes: number;
}

// O_NONBLOCK: a FIFO in a captured tree must not hang the open.
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
/** Sysfs gives no more at once. */
const PAGE_BYTES = 4096;
const ROOT_ONLY = { EACCES: "the kernel gives it to root only; run as root" };

/** Tells whether a path of the machine is there. */
export function isThere(host: Host, absolute: string): boolean {
  return existsSync(host.path(absolute));
}

/** Gives the sorted names in a directory; none when there is no such directory. */
export async function namesIn(host: Host, absolute: string, call: Call): Promise<string[]> {
  const names = await guarded(host, absolute, async (path) => (await call.within(fs.readdir(path))).sort());
  return names ?? [];
}

/**
 * Reads a file of the machine as the kernel gives it, its stated size (0 in sysfs) set aside.
 * @returns undefined when it is not there
 * @throws PvbusError `ERR_PERMISSION`, `ERR_CORRUPT` when it ends early or goes on beyond its limit, `ERR_UNAVAILABLE`
 */
export async function readSourceFile(
  host: Host,
  absolute: string,
  limits: ReadLimits,
  call: Call,
): Promise<Buffer | undefined> {
  return guarded(host, absolute, async (path) => {
    call.check(`reading ${path}`);
    await using handle = await fs.open(path, FLAGS);
    if (!(await handle.stat()).isFile())
      throw pvbusError("ERR_UNAVAILABLE", `${path} is no file; nothing was read`);
    return await readAll(handle, path, limits, call);
  });
}

async function readAll(
  handle: fs.FileHandle,
  path: string,
  { bytes, maxBytes }: ReadLimits,
  call: Call,
): Promise<Buffer> {
  let buffer = Buffer.alloc(bytes ?? PAGE_BYTES);
  let length = 0;
  while (length !== bytes) {
    call.check(`reading ${path}`);
    if (length === buffer.length) buffer = Buffer.concat([buffer], Math.min(length * 4, maxBytes + 1));
    // No position: these files are streams to the kernel, and a call that was given up leaves only this handle behind.
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
    length += bytesRead;
    if (bytes === undefined && length > maxBytes)
      throw pvbusError("ERR_CORRUPT", `${path} has more than the ${maxBytes} bytes that it may have`);
    if (bytesRead > 0) continue;
    if (bytes === undefined) break;
    throw pvbusError("ERR_CORRUPT", `${path} ends after ${length} bytes, ${bytes} were announced`);
  }
  return buffer.subarray(0, length);
}

/** Runs what reads a path; undefined when it is not there. A link in a captured tree must not lead out of it. */
async function guarded<T>(
  host: Host,
  absolute: string,
  read: (path: string) => Promise<T>,
): Promise<T | undefined> {
  const path = host.path(absolute);
  try {
    if (!existsSync(path)) return undefined;
    if (host.sysroot !== undefined && !liesWithin(host.sysroot, path))
      throw pvbusError("ERR_PERMISSION", `${path} is a link out of the sysroot; it is not followed`);
    return await read(path);
  } catch (error) {
    if (isSystemError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR")) return undefined;
    throw fromSystemError(error, { doing: `cannot read ${path}`, advice: ROOT_ONLY });
  }
}
