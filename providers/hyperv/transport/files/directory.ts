import { posix, resolve } from "node:path";
import type { Host } from "../../../../src/base/host/host.js";
import { POOLS } from "../../protocol/keys.js";

const LINUX = ["/var/lib/hyperv", "/var/opt/hyperv"];
const FREEBSD = ["/var/db/hyperv/pool"];

/** Returns the name of a pool's file. */
export function poolFileName(number: number): string {
  return `.kvp_pool_${number}`;
}

/**
 * Returns the pool directory as a path of the machine: the one that holds pool files, else the first that exists, else the system's
 * usual one. Linux daemons use /var/lib/hyperv (before about 2013 /var/opt/hyperv), FreeBSD's /var/db/hyperv/pool. Below a sysroot
 * all of them are tried, then the sysroot itself, so that a bare copy of a pool directory can be examined.
 * @param directory the caller's own choice
 */
export function poolDirectory(host: Host, directory?: string): string {
  const candidates = directory === undefined ? usualDirectories(host) : [directory];
  return (
    candidates.find((path) => holdsPools(host, path)) ??
    candidates.find((path) => host.files.kind(path) === "directory") ??
    (candidates[0] as string)
  );
}

/** Returns the directory that a daemon keeps its pools in: the caller's own choice, else the system's usual one. */
export function daemonDirectory(host: Host, directory?: string): string {
  const chosen = directory ?? (usualDirectories(host)[0] as string);
  return host.sysroot === undefined ? resolve(chosen) : chosen;
}

/** Reports whether any pool file is in a usual directory. */
export function hasPools(host: Host): boolean {
  return usualDirectories(host).some((path) => holdsPools(host, path));
}

function holdsPools({ files }: Host, path: string): boolean {
  return POOLS.some(({ number }) => files.kind(posix.join(path, poolFileName(number))) !== undefined);
}

function usualDirectories(host: Host): string[] {
  const own = host.platform === "freebsd" ? FREEBSD : LINUX;
  if (host.sysroot === undefined) return [...own];
  return [...new Set([...own, ...LINUX, ...FREEBSD]), "/"];
}
