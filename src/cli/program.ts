import { parseArgs } from "node:util";
import { PvbusError } from "../bus/errors.js";
import { COMMANDS, type CommandEntry, nameOf, OPTIONS } from "./commands.js";
import { type Context, type GlobalOptions, UsageError } from "./context.js";
import { commandHelp, programHelp, suggestion } from "./help.js";
import { visible, writeJson } from "./output.js";

/** What the outside gives to one run. */
export type World = Omit<Context, "options"> & {
  /** Version to print. */
  readonly version: string;
};

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/**
 * Runs the command line once.
 * @param argv the arguments without program and script
 * @returns the exit code: 0 success, 1 failure or missing key, 2 wrong usage
 */
export async function runPvbus(argv: readonly string[], world: World): Promise<number> {
  let options: GlobalOptions = {};
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
    options = globals(values);
    const own = ownOptions(entry, values);
    return await (await entry.load())({ ...world, options }, args, own);
  } catch (error) {
    return report(error, options, world);
  }
}

type Values = Readonly<Record<string, unknown>>;

function parse(argv: readonly string[]): { values: Values; positionals: string[] } {
  const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
  for (const { name, short, value, multiple } of OPTIONS) {
    options[name] = {
      type: value === undefined ? "boolean" : "string",
      ...(short === undefined ? {} : { short }),
      ...(multiple === true ? { multiple } : {}),
    };
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
        : message,
    );
  }
}

function checkArguments({ args, ...entry }: CommandEntry, given: readonly string[]): void {
  const required = args.filter((name) => name.startsWith("<")).length;
  const missing = args[given.length];
  if (given.length < required && missing !== undefined) {
    throw new UsageError(`${nameOf(entry)}: missing argument ${missing}; see pvbus ${nameOf(entry)} --help`);
  }
  if (given.length > args.length) {
    throw new UsageError(`${nameOf(entry)}: too many arguments; quote a value that holds spaces`);
  }
}

/** Gives the options of the command itself. @throws UsageError when one of another command is among them */
function ownOptions(entry: CommandEntry, values: Values): Values {
  const own: Record<string, unknown> = {};
  for (const { name, command, parse: read } of OPTIONS) {
    if (command === undefined || values[name] === undefined) continue;
    if (command !== nameOf(entry)) throw new UsageError(`${nameOf(entry)} has no option --${name}`);
    own[name] = read?.(`--${name}`, values[name] as string) ?? values[name];
  }
  return own;
}

function globals(values: Values): GlobalOptions {
  const result: Record<string, unknown> = {};
  for (const { name, command, parse: read } of OPTIONS) {
    const value = values[name];
    if (command !== undefined || value === undefined) continue;
    if (Array.isArray(value))
      result[name] = Object.assign({}, ...value.map((each: string) => read?.(`--${name}`, each)));
    else result[name] = read === undefined ? value : read(`--${name}`, value as string);
  }
  return result;
}

function report(error: unknown, options: GlobalOptions, { stderr }: World): number {
  if (error instanceof UsageError) {
    stderr.write(`pvbus: ${error.message}\n`);
    return EXIT_USAGE;
  }
  const ours = PvbusError.is(error);
  if (!ours && !(error instanceof TypeError) && (error as NodeJS.ErrnoException).syscall === undefined)
    throw error;
  const { message } = error as Error;
  if (options.json === true) {
    const details = ours
      ? { code: error.code, message, interface: error.interface ?? null, key: error.key ?? null }
      : { code: null, message };
    writeJson(stderr, { error: details });
  } else {
    stderr.write(`pvbus: ${visible(message)}${ours ? ` [${error.code}]` : ""}\n`);
  }
  return EXIT_FAILURE;
}
