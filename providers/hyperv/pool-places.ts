import nodeFs from "node:fs";
import { join } from "node:path";
import { pvbusError } from "../../src/bus/errors.js";
import { liesWithin } from "../../src/host/confine.js";
import type { Host } from "../../src/host/host.js";
import { POOLS } from "./keys.js";

/** What this module needs of the file system. */
export type PlacesFs = Pick<typeof nodeFs, "existsSync" | "realpathSync" | "statSync">;

const LINUX = ["/var/lib/hyperv", "/var/opt/hyperv"];
const FREEBSD = ["/var/db/hyperv/pool"];

/** Gives the name of a pool's file. */
export function poolFileName(number: number): string {
  return `.kvp_pool_${number}`;
}

/**
 * Gives the pool directory: the one that holds pool files, else the first that exists, else the system's usual one.
 * Linux daemons use /var/lib/hyperv (before about 2013 /var/opt/hyperv), FreeBSD's /var/db/hyperv/pool. Below a sysroot
 * all of them are tried, then the sysroot itself, so that a bare copy of a pool directory can be examined.
 * @param directory the caller's own choice, below the sysroot
 */
export function poolDirectory(host: Host, directory?: string, fs: PlacesFs = nodeFs): string {
  const candidates = directory === undefined ? usualPlaces(host) : [host.path(directory)];
  const holdsPools = (place: string): boolean =>
    POOLS.some(({ number }) => fs.existsSync(join(place, poolFileName(number))));
  const chosen =
    candidates.find(holdsPools) ??
    candidates.find((place) => isDirectory(place, fs)) ??
    (candidates[0] as string);
  return insideSysroot(host, chosen, fs);
}

/** Gives the directory that a daemon keeps its pools in: the caller's own choice, else the system's usual place. */
export function daemonDirectory(host: Host, directory?: string, fs: PlacesFs = nodeFs): string {
  const usual = host.platform === "freebsd" ? FREEBSD : LINUX;
  return insideSysroot(host, host.path(directory ?? (usual[0] as string)), fs);
}

/** Tells whether any pool file is at a usual place. */
export function hasPools(host: Host, fs: PlacesFs = nodeFs): boolean {
  return usualPlaces(host).some((place) =>
    POOLS.some(({ number }) => fs.existsSync(join(place, poolFileName(number)))),
  );
}

function usualPlaces(host: Host): string[] {
  const own = host.platform === "freebsd" ? FREEBSD : LINUX;
  if (host.sysroot === undefined) return [...own];
  return [...new Set([...own, ...LINUX, ...FREEBSD])].map((place) => host.path(place)).concat(host.sysroot);
}

function isDirectory(path: string, fs: PlacesFs): boolean {
  return fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** A link inside a captured tree must not lead out of it. */
function insideSysroot(host: Host, directory: string, fs: PlacesFs): string {
  if (host.sysroot === undefined || !fs.existsSync(directory)) return directory;
  if (liesWithin(host.sysroot, directory)) return fs.realpathSync.native(directory);
  throw pvbusError(
    "ERR_PERMISSION",
    `the pool directory ${directory} is a link out of the sysroot ${host.sysroot}; remove the link`,
  );
}
