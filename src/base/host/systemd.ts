import type { Host } from "./host.js";

const MAX_NAME_BYTES = 64;
/** Where distributions have the library that systemd's programs share; its name holds the version. */
const LIBRARY_PLACES = [
  "/usr/lib/systemd",
  "/lib/systemd",
  "/usr/lib64/systemd",
  "/usr/lib/x86_64-linux-gnu/systemd",
  "/usr/lib/aarch64-linux-gnu/systemd",
  "/lib/x86_64-linux-gnu/systemd",
  "/lib/aarch64-linux-gnu/systemd",
];

/** Returns the version of the systemd that is process 1; undefined where another one is, or no version can be seen. */
export function systemdVersion({ files }: Host): number | undefined {
  if (files.read("/proc/1/comm", MAX_NAME_BYTES)?.toString("latin1").trim() !== "systemd") return undefined;
  for (const place of LIBRARY_PLACES)
    for (const name of files.names(place)) {
      const version = /^libsystemd-(?:shared|core)-(\d{3,4})\b/.exec(name)?.[1];
      if (version !== undefined) return Number(version);
    }
  return undefined;
}
