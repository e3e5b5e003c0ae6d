import { parseArgs } from "node:util";
import { PvbusError } from "../base/errors.js";
import { ownEntry, putEntry } from "../base/own.js";
import { COMMANDS, type CommandEntry, nameOf, OPTIONS } from "./commands.js";
import { commandHelp, programHelp, suggestion } from "./help.js";
import { type Context, type GlobalOptions, loggerOf, UsageError } from "./io/context.js";
import { printed, stackText, visible, writeError } from "./io/output.js";

/** What the outside gives to one run. */
export type World = Omit<Context, "options" | "signal"> & {
  /** Returns a signal that fires when the user ends the program; from then on that does not end it by itself. */
  readonly untilInterrupted: () => AbortSignal;
  /** Version to print. */
  readonly version: string;
};

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** Reports whether everything is to be JSON, also what is said before the arguments are checked, or when they cannot be. */
export function wantsJson(argv: readonly string[]): boolean {
  return argv.slice(0, argv.indexOf("--") >>> 0).includes("--json");
}

/**
 * Runs the command line once.
 * @param argv the arguments without program and script
 * @returns the exit code: 0 success, 1 failure or missing key, 2 wrong usage
 */
export async function runPvbus(argv: readonly string[], outside: World): Promise<number> {
  const world = { ...outside, stdout: printed(outside.stdout), stderr: printed(outside.stderr) };
  // Known before the arguments are checked, so that a complaint about them is JSON as well.
  let options: GlobalOptions = { json: wantsJson(argv) };
  try {
    const { values, positionals } = parse(argv[0] === "help" ? [...argv.slice(1, 2), "--help"] : argv);
    const [name, ...args] = positionals;
    const entry = COMMANDS.find((each) => nameOf(each) === name);
    if (values["version"] === true) {
      world.stdout.write(`${world.version}\n`);
      return 0;
    }
    if (values["help"] === true && (entry !== undefined || name === undefined)) {
      world.stdout.write(entry === undefined ? programHelp() : commandHelp(entry));
      return 0;
    }
    if (name === undefined) {
      world.stderr.write(programHelp());
      return EXIT_USAGE;
    }
    if (entry === undefined)
      throw new UsageError(`unknown command '${name}'${suggestion(name, COMMANDS.map(nameOf))}`);
    checkArguments(entry, args);
    options = globals(values, world.env);
    const chosen = ownOptions(entry, values);
    const { interruptible } = entry;
    const isInterruptible =
      interruptible === true || (interruptible !== undefined && interruptible === args[0]);
    const signal = isInterruptible ? world.untilInterrupted() : new AbortController().signal;
    const context: Context = { ...world, options, signal };
    if (options.sysrootFromEnvironment === true)
      loggerOf(context)?.info("the sysroot comes from PVBUS_SYSROOT", { sysroot: options.sysroot });
    return await (await entry.load())(context, args, chosen);
  } catch (error) {
    return report(error, options, world);
  }
}

type Values = Readonly<Record<string, unknown>>;

function parse(argv: readonly string[]): { values: Values; positionals: string[] } {
  const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
  for (const { name, short, value, multiple } of OPTIONS) {
    putEntry(options, name, {
      type: value === undefined ? "boolean" : "string",
      ...(short === undefined ? {} : { short }),
      ...(multiple === true ? { multiple } : {}),
    });
  }
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (!code.startsWith("ERR_PARSE_ARGS_")) throw error;
    const unknown = /'(--?[^' ]+)/.exec(message)?.[1] ?? "";
    const known = OPTIONS.map(({ name }) => `--${name}`);
    throw new UsageError(
      code === "ERR_PARSE_ARGS_UNKNOWN_OPTION"
        ? `unknown option '${unknown}'${suggestion(unknown, known)}; a value that begins with a dash goes after --`
        : (message.split("\n", 1)[0] as string),
    );
  }
}

function checkArguments({ args, ...entry }: CommandEntry, given: readonly string[]): void {
  const required = args.filter((name) => name.startsWith("<")).length;
  const missing = args[given.length];
  if (given.length < required && missing !== undefined) {
    throw new UsageError(`${nameOf(entry)}: missing argument ${missing}; see pvbus ${nameOf(entry)} --help`);
  }
  if (given.length > args.length && args.at(-1)?.endsWith("...>") !== true) {
    throw new UsageError(`${nameOf(entry)}: too many arguments; quote a value that holds spaces`);
  }
}

/** Returns the options of the command itself. @throws UsageError when one of another command is among them */
function ownOptions(entry: CommandEntry, values: Values): Values {
  const chosen: Record<string, unknown> = {};
  for (const { name, commands, parse: read } of OPTIONS) {
    const value = ownEntry(values, name);
    if (commands === undefined || value === undefined) continue;
    if (!commands.includes(nameOf(entry))) throw new UsageError(`${nameOf(entry)} has no option --${name}`);
    putEntry(chosen, name, read?.(`--${name}`, value as string) ?? value);
  }
  return chosen;
}

function globals(values: Values, env: World["env"]): GlobalOptions {
  const result: Record<string, unknown> = {};
  for (const { name, commands, parse: read } of OPTIONS) {
    const value = ownEntry(values, name);
    if (commands !== undefined || value === undefined) continue;
    if (Array.isArray(value))
      putEntry(
        result,
        name,
        Object.fromEntries(value.flatMap((each: string) => Object.entries(read?.(`--${name}`, each) ?? {}))),
      );
    else putEntry(result, name, read === undefined ? value : read(`--${name}`, value as string));
  }
  const sysroot = OPTIONS.find(({ name }) => name === "sysroot");
  if (result["sysroot"] === undefined && env["PVBUS_SYSROOT"]) {
    result["sysroot"] = sysroot?.parse?.("PVBUS_SYSROOT", env["PVBUS_SYSROOT"]);
    result["sysrootFromEnvironment"] = true;
  }
  return result;
}

function report(error: unknown, options: GlobalOptions, { stderr }: World): number {
  // What a provider says of settings from outside is a TypeError; here they come from -o.
  const usage = error instanceof UsageError || (error instanceof TypeError && options.option !== undefined);
  const ours = PvbusError.is(error);
  const known = ours || usage || error instanceof TypeError;
  if (!known && (error as NodeJS.ErrnoException).syscall === undefined) throw error;
  const { message, stack } = error as Error;
  const { code = null, interface: on = null, key = null } = ours ? error : {};
  const where = options.verbose === true && !usage ? { stack: String(stack) } : {};
  if (options.json === true) writeError(stderr, { code, message, interface: on, key, ...where });
  else {
    stderr.write(`pvbus: ${visible(message)}${code === null ? "" : ` [${code}]`}\n`);
    if (where.stack !== undefined) stderr.write(`${stackText(error)}\n`);
  }
  return usage ? EXIT_USAGE : EXIT_FAILURE;
}
