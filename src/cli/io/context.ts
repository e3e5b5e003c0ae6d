import { pvbusError } from "../../base/errors.js";
import type { Logger } from "../../base/host/host.js";
import { nodeHost } from "../../base/host/node-host.js";
import { optionFromText } from "../../base/options.js";
import { putEntry } from "../../base/own.js";
import type { Bus } from "../../bus/bus.js";
import type { PvInterface } from "../../bus/interface/interface.js";
import { idOf, manifestOf } from "../../bus/manifests.js";
import type { OpenOptions } from "../../bus/open.js";
import type { CommandIo } from "../../contract/command.js";
import { UsageError } from "../grammar/usage.js";
import type { Vocabulary } from "../grammar/vocabulary.js";
import { keyCommands } from "./keys.js";
import { jsonLogger, stderrLogger } from "./log.js";
import { jsonText, type Sink, visible, writeData, writeError, writeJson } from "./output.js";

/** Options that every command takes. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly sysroot?: string;
  /** The directory was not given but comes from `PVBUS_SYSROOT`. */
  readonly sysrootFromEnvironment?: boolean;
  readonly interface?: string;
  readonly type?: string;
  readonly channel?: string;
  /** Time limit in seconds. */
  readonly timeout?: number;
  /** Settings of the provider, not yet converted. */
  readonly option?: readonly (readonly [name: string, text: string])[];
  readonly verbose?: boolean;
}

/** What the outside gives to one run. */
export interface Outside {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
  readInput(): Promise<Uint8Array>;
  readonly open: (options: OpenOptions) => Promise<Bus>;
}

/** What a command of pvbus itself works with: what every command has, and the bus. */
export interface Context extends CommandIo, Outside {
  readonly options: GlobalOptions;
  readonly vocabulary: Vocabulary;
}

/** Makes what a command works with. */
export function createContext(
  outside: Outside,
  options: GlobalOptions,
  vocabulary: Vocabulary,
  signal: AbortSignal,
): Context {
  const { stdout, stderr, env } = outside;
  const json = options.json === true;
  const call = options.timeout === undefined ? { signal } : { signal, timeoutMs: options.timeout * 1000 };
  const verboseLogger = loggerOf(stderr, options);
  const complain: Context["complain"] = (failure) => {
    if (json) writeError(stderr, failure);
    else stderr.write(`pvbus: ${visible(failure.message)}\n`);
  };
  return {
    ...outside,
    options,
    vocabulary,
    json,
    signal,
    call,
    keys: keyCommands({ stdout, stderr, json, call }),
    host: (logger = verboseLogger) => nodeHost({ sysroot: options.sysroot, logger, env }),
    write: (text) => void stdout.write(text),
    writeData: (data) => writeData(stdout, data),
    writeJson: (value) => writeJson(stdout, value),
    say: (text, document) =>
      void stderr.write(json ? `${jsonText(document)}\n` : `pvbus: ${visible(text)}\n`),
    complain,
    usage: (message) => new UsageError(message),
    service: async () =>
      (await import("./service.js")).serviceIo({
        stderr,
        env,
        json,
        verbose: options.verbose === true,
        complain,
      }),
  };
}

/** Returns the logger of `-v`, undefined without; its lines are JSON where everything is to be. */
function loggerOf(stderr: Sink, { verbose, json }: GlobalOptions): Logger | undefined {
  if (verbose !== true) return undefined;
  return json === true ? jsonLogger(stderr, Date, true) : stderrLogger(stderr);
}

/** How a command wants the bus. */
interface BusNeeds {
  /**
   * Whether detection runs although the user names a type. Default true; a command that works on the named store alone does
   * without.
   */
  readonly detect?: boolean;
  /** Further options of the bus. */
  readonly open?: OpenOptions;
}

/** Opens the bus as the options say and closes it after the action. */
export async function withBus<T>(
  context: Context,
  action: (bus: Bus) => Promise<T>,
  { detect = true, open }: BusNeeds = {},
): Promise<T> {
  const { sysroot, interface: name, type, channel, option } = context.options;
  if (channel !== undefined && type === undefined) throw new UsageError("--channel needs -t TYPE");
  if (option !== undefined && type === undefined) throw new UsageError("--option needs -t TYPE");
  const bus = await context.open({
    ...open,
    sysroot,
    interfaces: type === undefined ? undefined : [{ type, channel, options: settingsOf(context) }],
    // Where no type is named, and for the name of an interface, it has to be known what there is.
    detect: detect || type === undefined || name !== undefined,
    logger: loggerOf(context.stderr, context.options),
    signal: context.signal,
  });
  try {
    return await action(bus);
  } finally {
    await bus.close();
  }
}

/**
 * Runs an action on the interface that {@link chooseInterface} gives; detection runs only where it is needed for that.
 * @param check looks at what was detected before
 */
export function withInterface<T>(
  context: Context,
  action: (target: PvInterface) => Promise<T>,
  needs: BusNeeds = { detect: false },
  check?: (bus: Bus) => void,
): Promise<T> {
  const onBus = (bus: Bus): Promise<T> => {
    check?.(bus);
    return action(chooseInterface(bus, context.options));
  };
  return withBus(context, onBus, check === undefined ? needs : { ...needs, detect: true });
}

/** Returns the settings of `-o`, converted by the schema of the type's provider. @throws UsageError */
function settingsOf({ options, vocabulary: { manifests } }: Context): Record<string, unknown> | undefined {
  const { option, type = "" } = options;
  const manifest = manifestOf(manifests, idOf(manifests, type) ?? "");
  // Opening the bus says that nobody serves the type.
  if (option === undefined || manifest === undefined) return undefined;
  const settings: Record<string, unknown> = {};
  try {
    for (const [name, text] of option)
      putEntry(settings, name, optionFromText(manifest.id, manifest.options ?? {}, name, text));
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
  return settings;
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
