import { posix, resolve } from "node:path";
import type { Host } from "../../src/base/host/host.js";
import { POOLS } from "./keys.js";

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
  const candidates = directory === undefined ? usualPlaces(host) : [directory];
  return (
    candidates.find((place) => holdsPools(host, place)) ??
    candidates.find((place) => host.files.kind(place) === "directory") ??
    (candidates[0] as string)
  );
}

/** Returns the directory that a daemon keeps its pools in: the caller's own choice, else the system's usual place. */
export function daemonDirectory(host: Host, directory?: string): string {
  const usual = host.platform === "freebsd" ? FREEBSD : LINUX;
  const chosen = directory ?? (usual[0] as string);
  return host.sysroot === undefined ? resolve(chosen) : chosen;
}

/** Reports whether any pool file is at a usual place. */
export function hasPools(host: Host): boolean {
  return usualPlaces(host).some((place) => holdsPools(host, place));
}

function holdsPools({ files }: Host, place: string): boolean {
  return POOLS.some(({ number }) => files.kind(posix.join(place, poolFileName(number))) !== undefined);
}

function usualPlaces(host: Host): string[] {
  const own = host.platform === "freebsd" ? FREEBSD : LINUX;
  if (host.sysroot === undefined) return [...own];
  return [...new Set([...own, ...LINUX, ...FREEBSD]), "/"];
}
