import type { Host, Logger } from "../base/host/host.js";

/** One option of a command. */
export interface CommandOption {
  /** Long name. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** Name of its value; a switch has none. */
  readonly value?: string;
  /** May be given several times; the command gets a list. */
  readonly multiple?: boolean;
  /** What it does, in one line. */
  readonly description: string;
  /** Checks and converts the value. @throws TypeError with what it takes */
  readonly parse?: (option: string, text: string) => unknown;
}

/** What a command that lives on tells its service manager and its parent. */
export interface ServiceIo {
  /** Name of the process, as ps(1) shows it. */
  title(name: string): void;
  /** Starts this command again in the background, and resolves with the exit code when that is ready or has failed; undefined in the background process itself. */
  background(): Promise<number> | undefined;
  /** The service is ready: the parent may go, systemd hears it with the status, and its watchdog is fed from here on. */
  ready(status: string): void;
  /** The service failed before it was ready. */
  failed(error: unknown): void;
  /** The service ends. */
  stopping(): void;
}

/** What a provider's command works with: all that it reads and prints goes through here. */
export interface CommandIo {
  /** Everything that is printed is to be JSON. */
  readonly json: boolean;
  /** Details are wanted on standard error. */
  readonly verbose: boolean;
  /** Environment variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Fires when the user ends the program; only in a command that is interruptible. */
  readonly signal: AbortSignal;
  /** Longest time to wait in milliseconds; undefined where the user named none. */
  readonly timeoutMs: number | undefined;
  /** Directory that stands for `/`, as the user named it. */
  readonly sysroot: string | undefined;
  /** Returns the machine to work on, with the sysroot that the user named. */
  host(logger?: Logger): Host;
  /** Prints text on standard output; what comes from outside is made harmless on a terminal. */
  write(text: string): void;
  /** Prints bytes on standard output as they are. */
  writeBytes(bytes: Uint8Array): Promise<void>;
  /** Prints a value as JSON on standard output. */
  writeJson(value: unknown): void;
  /** Prints a message on standard error. */
  say(text: string): void;
  /** Returns the error for wrong usage: exit code 2. */
  usage(message: string): Error;
  /** Reads all of standard input. */
  readInput(): Promise<Uint8Array>;
  /** Returns a logger: for people on standard error, one JSON object a line there, or the system's log. */
  logger(kind: "console" | "json" | "system", debug?: boolean): Logger;
  /** For a command that lives on. */
  readonly service: ServiceIo;
}

/** Runs a command; resolves with the exit code. */
export type CommandAction = (
  io: CommandIo,
  args: readonly string[],
  own: Readonly<Record<string, unknown>>,
) => Promise<number>;

/** A command of a provider: how it is called, and what runs it, loaded when it is called. */
export interface ProviderCommand {
  /** Its name. */
  readonly name: string;
  /** Its arguments, `<required>` or `[optional]`; `<several...>` at the end. */
  readonly args: readonly string[];
  /** What it does, in one line. */
  readonly description: string;
  /** Its own options. */
  readonly options?: readonly CommandOption[];
  /** SIGINT and SIGTERM end it as planned, through the signal; where an action is named, only that one. */
  readonly interruptible?: true | string;
  /** Loads what runs it. */
  load(): Promise<CommandAction>;
}
