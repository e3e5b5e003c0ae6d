import type { FileHandle } from "node:fs/promises";
import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { fromSystemError } from "../../../src/base/system-error.js";

interface ReadLimits {
  /** Bytes that the file is known to hold: reading ends with them, without looking for the end. */
  readonly bytes?: number | undefined;
  readonly maxBytes: number;
}

/** Sysfs returns no more at once. */
const PAGE_BYTES = 4096;
const ADVICE = {
  EACCES: "the kernel gives it to root only; run as root",
  EINVAL: "it is no file; nothing was read",
};

/** Returns the sorted names in a directory; none when there is no such directory. */
export function namesIn(host: Host, absolute: string, call: Call): string[] {
  call.check(`reading ${host.path(absolute)}`);
  try {
    return host.files.names(absolute);
  } catch (error) {
    throw failed(host, absolute, error);
  }
}

/**
 * Reads a file as the kernel gives it, its stated size (0 in sysfs) set aside; undefined when it is not there.
 * @throws PvbusError `ERR_PERMISSION`, `ERR_CORRUPT` when it ends early or goes on beyond its limit, `ERR_UNAVAILABLE`
 */
export async function readSourceFile(
  host: Host,
  absolute: string,
  limits: ReadLimits,
  call: Call,
): Promise<Buffer | undefined> {
  const path = host.path(absolute);
  call.check(`reading ${path}`);
  try {
    await using handle = await host.files.reader(absolute);
    return handle && (await readAll(handle, path, limits, call));
  } catch (error) {
    throw failed(host, absolute, error);
  }
}

async function readAll(
  handle: FileHandle,
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

/** Has something read once for all who ask for it, and again after a failure. */
export function readOnce<T>(read: () => Promise<T>, what: string): (call: Call) => Promise<T> {
  let reading: Promise<T> | undefined;
  return (call) => {
    reading ??= read().catch((error) => {
      reading = undefined;
      throw error;
    });
    return call.within(reading, what);
  };
}

function failed(host: Host, absolute: string, error: unknown): unknown {
  return fromSystemError(error, { doing: `cannot read ${host.path(absolute)}`, advice: ADVICE });
}

/** One name and value of a static source; the value is undefined where only the name can be told. */
export interface StaticEntry {
  /** Name inside the source. */
  readonly name: string;
  /** The value's bytes. */
  readonly value: Uint8Array | undefined;
}

/** What the host fixed when it started the machine: it is read, and never changes. */
export interface StaticSource {
  /** First part of its qualified keys. */
  readonly name: "fwcfg" | "smbios";
  /** Resolves with a value, undefined when there is no such name. The array belongs to the caller. */
  read(name: string, call: Call): Promise<Uint8Array | undefined>;
  /** Yields names and values. @param prefix beginning of the names that are wanted */
  list(prefix: string, call: Call): AsyncIterable<StaticEntry>;
  /** Returns the name under which a plain key lies here. */
  nameOf(key: string): string;
  /** Returns the plain key that lies under a name; undefined for none. */
  keyOf(name: string): string | undefined;
}
