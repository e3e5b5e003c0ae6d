import { pvbusError } from "../../base/errors.js";
import type { CallOptions } from "../../base/flow/call.js";
import type { Logger } from "../../base/host/host.js";
import type { Bus } from "../../bus/bus.js";
import type { PvInterface } from "../../bus/interface/interface.js";
import type { OpenOptions } from "../../bus/open.js";
import { jsonLogger } from "./json-log.js";
import { stderrLogger } from "./log.js";
import type { Sink } from "./output.js";

/** Options that every command takes. */
export interface GlobalOptions {
  /** Print JSON. */
  readonly json?: boolean;
  /** Directory that stands for `/`. */
  readonly sysroot?: string;
  /** The directory was not given but comes from `PVBUS_SYSROOT`. */
  readonly sysrootFromEnvironment?: boolean;
  /** Name of the interface, `pvbus1`. */
  readonly interface?: string;
  /** Type of the interface. */
  readonly type?: string;
  /** Transport. */
  readonly channel?: string;
  /** Time limit in seconds. */
  readonly timeout?: number;
  /** Settings of the provider. */
  readonly option?: Readonly<Record<string, unknown>>;
  /** Say more on standard error. */
  readonly verbose?: boolean;
}

/** What a command works with. */
export interface Context {
  /** Data goes here. */
  readonly stdout: Sink;
  /** Messages go here. */
  readonly stderr: Sink;
  /** Environment variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Reads all of standard input. */
  readonly readInput: () => Promise<Uint8Array>;
  /** Opens the bus. */
  readonly open: (options: OpenOptions) => Promise<Bus>;
  /** Fires when the user ends the program; only in a command that is interruptible, signals end the others at once. */
  readonly signal: AbortSignal;
  /** Options of this run. */
  readonly options: GlobalOptions;
}

/** Wrong usage that only shows after parsing: exit code 2. */
export class UsageError extends Error {}

/** Returns the call options that the user's time limit makes. */
export function callOptions({ options, signal }: Context): CallOptions {
  return options.timeout === undefined ? { signal } : { signal, timeoutMs: options.timeout * 1000 };
}

/** Returns the logger of `-v`, undefined without; its lines are JSON where everything is to be. */
export function loggerOf({ stderr, options }: Context): Logger | undefined {
  if (options.verbose !== true) return undefined;
  return options.json === true ? jsonLogger(stderr, Date, true) : stderrLogger(stderr);
}

/** Opens the bus as the options say and closes it after the action. */
export async function withBus<T>(context: Context, action: (bus: Bus) => Promise<T>): Promise<T> {
  const { sysroot, type, channel, option } = context.options;
  if (channel !== undefined && type === undefined) throw new UsageError("--channel needs -t TYPE");
  if (option !== undefined && type === undefined) throw new UsageError("--option needs -t TYPE");
  const bus = await context.open({
    sysroot,
    interfaces: type === undefined ? undefined : [{ type, channel, options: option }],
    logger: loggerOf(context),
    signal: context.signal,
  });
  try {
    return await action(bus);
  } finally {
    await bus.close();
  }
}

/** Runs an action on the interface that {@link chooseInterface} gives. */
export function withInterface<T>(context: Context, action: (target: PvInterface) => Promise<T>): Promise<T> {
  return withBus(context, (bus) => action(chooseInterface(bus, context.options)));
}

/**
 * Returns the interface that the options choose: the named one, else the primary.
 * @throws PvbusError `ERR_NO_INTERFACE` when there is none
 */
export function chooseInterface(bus: Bus, { interface: name, type }: GlobalOptions): PvInterface {
  const known = bus.interfaces.map((each) => `${each.name} (${each.type})`).join(", ") || "none";
  const chosen =
    name !== undefined ? bus.interface(name) : type !== undefined ? bus.byType(type) : bus.primary;
  if (chosen !== undefined && (type === undefined || chosen === bus.byType(type))) return chosen;
  const wanted = name ?? type;
  const what =
    wanted === undefined ? "this machine shows no hypervisor of its own" : `there is no interface ${wanted}`;
  throw pvbusError(
    "ERR_NO_INTERFACE",
    `${what}; interfaces: ${known}. See \`pvbus detect\`, or name a store with -t TYPE --sysroot DIR`,
  );
}
