import { PvbusError } from "../base/errors.js";
import type { Command, CommandGroup } from "../contract/command.js";
import type { ProviderManifest } from "../contract/manifest.js";
import { COMMANDS } from "./commands.js";
import { SYSROOT } from "./grammar/globals.js";
import {
  checkArguments,
  convert,
  type Parsed,
  parse,
  takeProviders,
  type Values,
  valuesOf,
} from "./grammar/parse.js";
import { UsageError } from "./grammar/usage.js";
import { checkVocabulary, type Vocabulary } from "./grammar/vocabulary.js";
import { type Context, createContext, type GlobalOptions, type Outside } from "./io/context.js";
import { jsonText, printed, stackText, visible, writeError } from "./io/output.js";

/** What the outside gives to one run. */
export interface World extends Outside {
  /** Returns a signal that fires when the user ends the program; from then on that does not end it by itself. */
  readonly untilInterrupted: () => AbortSignal;
  readonly version: string;
  readonly builtIn: readonly ProviderManifest[];
  /** Whether the program has rights that its caller has not: then the caller adds no providers. */
  readonly isElevated?: boolean;
  /** Whether the caller has named providers in a variable that is not heard of for that reason. */
  readonly hidesProviders?: boolean;
}

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
    const { names, rest } = takeProviders(argv, world.env);
    const { commands, vocabulary, open } = await vocabularyOf(names, world, options);
    const parsed = parse(rest, vocabulary);
    const help = await helpOf(parsed, vocabulary, world);
    if (help !== undefined) return help;
    checkArguments(parsed);
    options = globals(valuesOf(parsed.globals), world.env);
    const own = valuesOf(parsed.own);
    const command = commandOf(commands, parsed);
    const signal = command.interruptible === true ? world.untilInterrupted() : new AbortController().signal;
    const context = createContext({ ...world, open }, options, vocabulary, signal);
    if (options.sysrootFromEnvironment === true)
      context.host().logger.info("the sysroot comes from PVBUS_SYSROOT", { sysroot: options.sysroot });
    return await (await command.load())(context, parsed.args, own, parsed.program);
  } catch (error) {
    return report(error, options, world);
  }
}

/** Returns all that can be said, with the providers that the user adds, and what opens a bus that has them. */
async function vocabularyOf(
  names: readonly string[],
  world: World,
  { json }: GlobalOptions,
): Promise<{
  readonly commands: readonly (Command<Context> | CommandGroup<Context>)[];
  readonly vocabulary: Vocabulary;
  readonly open: Outside["open"];
}> {
  const isIgnored = world.isElevated === true;
  if (isIgnored && (names.length > 0 || world.hidesProviders === true)) {
    const warning = "a setuid pvbus takes no further providers: --provider and PVBUS_PROVIDERS are ignored";
    world.stderr.write(json === true ? `${jsonText({ warning })}\n` : `pvbus: warning: ${warning}\n`);
  }
  if (names.length === 0 || isIgnored) {
    const commands = [...COMMANDS, ...world.builtIn.flatMap((each) => each.commands ?? [])];
    return { commands, vocabulary: { commands, manifests: world.builtIn, providers: [] }, open: world.open };
  }
  const [{ loadStranger, ownRoot }, { joinManifests }] = await Promise.all([
    import("./grammar/strangers.js"),
    import("../bus/manifest-rules.js"),
  ]);
  const rules = { cwd: process.cwd(), isRoot: process.geteuid?.() === 0, root: ownRoot() };
  const strangers = new Map<ProviderManifest, string>();
  const again: string[] = [];
  for (const name of names) {
    const stranger = await loadStranger(name, rules);
    for (const manifest of stranger.manifests) strangers.set(manifest, name);
    again.push(stranger.again);
  }
  const providers = [...strangers.keys()];
  try {
    const manifests = joinManifests(world.builtIn, providers, {
      commandNames: COMMANDS.map(({ name }) => name),
      nameOf: (each) => `the provider ${strangers.get(each)}`,
    });
    // Strangers' last: where two do not go together, theirs is told.
    const ordered = [...manifests].sort((a, b) => Number(strangers.has(a)) - Number(strangers.has(b)));
    const commands = [...COMMANDS, ...ordered.flatMap((each) => each.commands ?? [])];
    checkVocabulary(commands, ({ name }) => {
      const owner = providers.find((each) => each.commands?.some((command) => command.name === name));
      return owner === undefined ? "pvbus" : `the provider ${strangers.get(owner)}`;
    });
    return {
      commands,
      vocabulary: { commands, manifests, providers: again },
      open: (options) => world.open({ ...options, providers: [...(options.providers ?? []), ...providers] }),
    };
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(error.message, { cause: error }) : error;
  }
}

/** Prints help or the version where they are asked for, or nothing is. @returns the exit code; undefined where a command is to run */
async function helpOf(
  { command, action, globals: given }: Parsed,
  vocabulary: Vocabulary,
  { stdout, stderr, version }: World,
): Promise<number | undefined> {
  const texts = new Map([...given].map(([option, [text]]) => [option.name, text]));
  if (texts.has("version")) {
    stdout.write(`${version}\n`);
    return 0;
  }
  const isAsked = texts.has("help");
  if (!isAsked && command !== undefined) return undefined;
  const { commandHelp, programHelp } = await import("./grammar/help.js");
  const type = isAsked ? texts.get("type") : undefined;
  const text =
    command === undefined ? programHelp(vocabulary, type) : commandHelp(vocabulary, command, action, type);
  (isAsked ? stdout : stderr).write(text);
  return isAsked ? 0 : EXIT_USAGE;
}

function commandOf(
  commands: readonly (Command<Context> | CommandGroup<Context>)[],
  { command, action }: Parsed,
): Command<Context> {
  const found = commands.find(({ name }) => name === command?.name) as
    | Command<Context>
    | CommandGroup<Context>;
  if (!("actions" in found)) return found;
  return found.actions.find(({ name }) => name === action?.name) as Command<Context>;
}

function globals(values: Values, env: World["env"]): GlobalOptions {
  const variable = env["PVBUS_SYSROOT"];
  if (values["sysroot"] !== undefined || !variable) return values;
  const sysroot = convert(SYSROOT, variable, "PVBUS_SYSROOT") as string;
  return { ...values, sysroot, sysrootFromEnvironment: true };
}

function report(error: unknown, options: GlobalOptions, { stderr }: World): number {
  // What a provider says of settings from outside is a TypeError; here they come from -o.
  const usage = error instanceof UsageError || (error instanceof TypeError && options.option !== undefined);
  const ours = PvbusError.is(error);
  const known = ours || usage || error instanceof TypeError;
  if (!known && (error as NodeJS.ErrnoException).syscall === undefined) throw error;
  const { message, stack } = error as Error;
  const { code, interface: on, key } = ours ? error : {};
  const isTraced = options.verbose === true && !usage;
  if (options.json === true)
    writeError(stderr, { code, message, interface: on, key }, isTraced ? String(stack) : undefined);
  else {
    stderr.write(`pvbus: ${visible(message)}${code === undefined ? "" : ` [${code}]`}\n`);
    if (isTraced) stderr.write(`${stackText(error)}\n`);
  }
  return usage ? EXIT_USAGE : EXIT_FAILURE;
}
