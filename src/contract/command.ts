import type { CallOptions } from "../base/flow/call.js";
import type { Host, Logger } from "../base/host/host.js";
import type { KeyValues } from "./key-values.js";
import type { StoreEntry } from "./store.js";

/** One option of a command. */
export interface CommandOption {
  /** Long name. It takes a value in every command that has it, or in none. */
  readonly name: string;
  /** One letter; another command may use it for something else. */
  readonly short?: string;
  /** Name of its value; a switch has none. */
  readonly value?: string;
  /** May be given several times; the command gets a list. */
  readonly multiple?: boolean;
  /** What it does, in one line. */
  readonly description: string;
  /** Checks and converts the value. @throws TypeError that says what it takes, behind the option's name: `takes a number` */
  readonly parse?: (text: string) => unknown;
}

/** What a command prints and does with keys, the same for an interface's store and for a guest's keys on the host. */
export interface KeyCommands {
  /** Prints the value as it is and a line end. @returns the exit code: 1 when the key is missing */
  get(keys: KeyValues, key: string): Promise<number>;
  /** Writes a value. @returns the exit code */
  set(keys: KeyValues, key: string, value: string | Uint8Array): Promise<number>;
  /** Removes a key. @returns the exit code: 1 when it was not there */
  rm(keys: KeyValues, key: string): Promise<number>;
  /** Prints the pairs below a prefix: a line each, or a JSON array. @returns the exit code */
  ls(keys: KeyValues, prefix?: string): Promise<number>;
  /** Prints pairs: a line each, or a JSON array. */
  print(entries: Iterable<StoreEntry>): Promise<void>;
  /** Prints one pair as {@link KeyCommands.get} does. */
  printValue(entry: StoreEntry): void;
}

/** What a command that lives on tells its service manager and its parent, and hears of them. */
export interface ServiceIo {
  /** Names the process, as ps(1) shows it. */
  title(name: string): void;
  /** Returns the service's log: the system's in the background, else lines on standard error, JSON where all is to be. */
  logger(options: ServiceLog): Logger;
  /**
   * Starts this command again in the background and resolves with the exit code when that one is ready or has failed.
   * @param foreground the option that keeps it in the foreground, for messages
   * @returns undefined in the background process itself
   */
  background(foreground: string): Promise<number> | undefined;
  /** The service is ready: the parent may go, systemd hears the status, and its watchdog is fed from here on. */
  ready(status: string): void;
  /** The service ends. */
  stopping(): void;
  /** The service has failed: who waits for it hears why. */
  failed(error: unknown): void;
  /**
   * Hears SIGHUP, with whether standard input is a terminal, or was one: then its user has gone.
   * @returns what ends that
   */
  onHangup(hear: (hadTerminal: boolean) => void): () => void;
}

/** How a service logs. */
export interface ServiceLog {
  /** Name in the system's log and in front of lines. */
  readonly name: string;
  /** Details too. Default: with `-v` alone. */
  readonly debug?: boolean | undefined;
  /** One JSON object a line, whether all is to be JSON or not. */
  readonly json?: boolean | undefined;
}

/** A failure that is told although the command goes on. */
export interface Complaint {
  /** What, on what, why, what next. */
  readonly message: string;
  /** The stable code; default: none. */
  readonly code?: string | undefined;
  /** Name of the interface. */
  readonly interface?: string | undefined;
  /** The key. */
  readonly key?: string | undefined;
}

/** What a command works with: all that it reads and prints goes through here. */
export interface CommandIo {
  /** Everything that is printed is to be JSON. */
  readonly json: boolean;
  /** Environment variables; none where the program is setuid. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Fires when the user ends the program; only in a command that is interruptible, signals end the others at once. */
  readonly signal: AbortSignal;
  /** Signal and time limit of this run, for every call. */
  readonly call: CallOptions;
  /** Gets, sets, lists and prints keys. */
  readonly keys: KeyCommands;
  /** Returns the machine to work on, with the sysroot that the user named. @param logger default: that of `-v` */
  host(logger?: Logger): Host;
  /** Prints text for people on standard output; it drives no terminal, whatever it holds. */
  write(text: string): void;
  /** Prints data on standard output as it is; a terminal shows it escaped. */
  writeData(data: string | Uint8Array): void;
  /** Prints a value as JSON on standard output. */
  writeJson(value: unknown): void;
  /**
   * Prints one line on standard error, the text's line ends escaped.
   * @param document what stands in its place where all is to be JSON
   */
  say(text: string, document: Readonly<Record<string, unknown>>): void;
  /** Prints a failure on standard error and goes on. */
  complain(failure: Complaint): void;
  /** Returns the error of wrong usage: exit code 2. */
  usage(message: string): Error;
  /** Reads all of standard input. */
  readInput(): Promise<Uint8Array>;
  /** Loads what a command needs that lives on. */
  service(): Promise<ServiceIo>;
}

/**
 * Runs a command; resolves with the exit code. `own` holds its options by long name, `program` what stands behind `--` where the
 * command runs a program.
 */
export type CommandAction<Io = CommandIo> = (
  io: Io,
  args: readonly string[],
  own: Readonly<Record<string, unknown>>,
  program: readonly string[],
) => Promise<number>;

/** A command: how it is called, and what runs it, loaded when it is called. */
export interface Command<Io = CommandIo> {
  /** Its name. */
  readonly name: string;
  /** Its arguments, `<required>` or `[optional]`; `<several...>` at the end. */
  readonly args: readonly string[];
  /** What it does, in one line. */
  readonly description: string;
  /** How it is called, for wrong arguments; default: made of name and arguments. */
  readonly usage?: string;
  /** Its own options. */
  readonly options?: readonly CommandOption[];
  /** It runs a program: all behind `--` is that program and its arguments, and none of its own. */
  readonly program?: boolean;
  /** SIGINT and SIGTERM end it as planned, through the signal. */
  readonly interruptible?: boolean;
  /** Loads what runs it. */
  load(): Promise<CommandAction<Io>>;
}

/** A command of several actions: `pvbus host serve`. */
export interface CommandGroup<Io = CommandIo> {
  /** Its name. */
  readonly name: string;
  /** What it is for, in one line. */
  readonly description: string;
  /** Options of all actions. */
  readonly options?: readonly CommandOption[];
  /** The actions. */
  readonly actions: readonly Command<Io>[];
}

/** A command of a provider. */
export type ProviderCommand = Command | CommandGroup;
