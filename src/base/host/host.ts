import type { HostFiles } from "./files.js";

/** Receives structured messages; every method may be called at any time and must not throw. */
export interface Logger {
  /** Details for whoever looks for a fault. */
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Normal events worth a line. */
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Something is off and was worked around. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Something failed. */
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** The time sources in use. */
export interface Clock {
  /** Milliseconds since the epoch, to compare with file stamps. */
  now(): number;
}

/**
 * The machine as pvbus sees it. Everything ambient comes through here, so that a captured tree, a simulator or a
 * test can stand in for the real machine.
 */
export interface Host {
  /** Operating system, as `process.platform` names it. */
  readonly platform: NodeJS.Platform;
  /** Processor architecture, as `process.arch` names it. */
  readonly arch: NodeJS.Architecture;
  /** Environment variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Directory that stands for `/`, absolute; undefined on the live machine. */
  readonly sysroot: string | undefined;
  /** Effective user id; undefined where the system has none. */
  readonly uid: number | undefined;
  /** Time. */
  readonly clock: Clock;
  /** Messages. */
  readonly logger: Logger;
  /** Files, devices and sockets: the way to all of them. */
  readonly files: HostFiles;
  /**
   * Returns the name of an absolute path for messages: below the sysroot where there is one. A system call takes it from
   * {@link Host.files}, never from here: links below a sysroot may lead anywhere.
   */
  path(absolute: string): string;
}
