import { join, normalize, resolve } from "node:path";
import { processEnvironment } from "./environment.js";
import { hostFiles } from "./files.js";
import type { Clock, Host, Logger } from "./host.js";

/** Logger that drops everything. */
export const SILENT: Logger = Object.freeze({
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
});

/** What may differ from the running process. */
export interface NodeHostOptions {
  /** Directory that stands for `/`. */
  readonly sysroot?: string | undefined;
  /** Receives messages. */
  readonly logger?: Logger | undefined;
  /** Overrides for tests and captured machines. */
  readonly platform?: NodeJS.Platform | undefined;
  /** Overrides for tests and captured machines. */
  readonly arch?: NodeJS.Architecture | undefined;
  /** Overrides the process's own, which are ignored where it is setuid. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Overrides the system clock. */
  readonly clock?: Clock | undefined;
}

/** Returns the {@link Host} of this process; `PVBUS_SYSROOT` stands in for a sysroot that is not given. */
export function nodeHost(options: NodeHostOptions = {}): Host {
  const env = options.env ?? processEnvironment();
  const given = options.sysroot ?? (env["PVBUS_SYSROOT"] || undefined);
  const sysroot = given === undefined ? undefined : resolve(given);
  return {
    platform: options.platform ?? process.platform,
    arch: options.arch ?? process.arch,
    env,
    sysroot,
    uid: process.geteuid?.(),
    clock: options.clock ?? { now: () => Date.now() },
    logger: options.logger ?? SILENT,
    files: hostFiles(sysroot),
    path: (absolute) => (sysroot === undefined ? absolute : join(sysroot, normalize(join("/", absolute)))),
  };
}
