import { delimiter } from "node:path";
import { putEntry } from "../../base/own.js";
import type { CommandOption } from "../../contract/command.js";
import { GLOBALS, PROVIDER_OPTION } from "./globals.js";
import { suggestion } from "./help.js";
import { UsageError } from "./usage.js";
import { type CommandWords, optionsOf, type Vocabulary } from "./vocabulary.js";

/** Values of options by long name: a text, a list of them, or true for a switch. */
export type Values = Readonly<Record<string, unknown>>;

/** What a command line says; no command where none is named. */
export interface Parsed {
  readonly command: CommandWords | undefined;
  readonly action: CommandWords | undefined;
  readonly args: readonly string[];
  /** The program behind `--`, for a command that runs one. */
  readonly program: readonly string[];
  /** Options of all commands. */
  readonly globals: Given;
  /** Options of this command. */
  readonly own: Given;
}

/** Options with what was given to them, not yet converted. */
type Given = ReadonlyMap<CommandOption, readonly string[]>;

const END = "--";
/** What a switch has in place of a value. */
const ON = "";

/** Returns the providers that the command line and the environment name, and the command line without them. */
export function takeProviders(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): { readonly names: readonly string[]; readonly rest: readonly string[] } {
  const names = (env["PVBUS_PROVIDERS"] ?? "").split(delimiter).filter(Boolean);
  const end = argv.indexOf(END) >>> 0;
  const rest: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    const [option, value] = at < end ? splitLong(word) : [];
    if (option !== PROVIDER_OPTION) rest.push(word);
    else {
      const name = value ?? (at + 1 < end ? argv[++at] : undefined);
      if (!name || (value === undefined && name.startsWith("-")))
        throw new UsageError(`--${PROVIDER_OPTION} takes a value: --${PROVIDER_OPTION} MODULE`);
      names.push(name);
    }
  }
  return { names, rest };
}

/** Takes `--name=value` apart; no name for any other word. */
function splitLong(word: string): readonly [name?: string, value?: string] {
  if (!word.startsWith("--") || word === END) return [];
  const at = word.indexOf("=");
  return at < 0 ? [word.slice(2)] : [word.slice(2, at), word.slice(at + 1)];
}

/**
 * Takes a command line apart: options of all commands stand before or behind the command, its own behind it.
 * @throws UsageError for what cannot be said
 */
export function parse(argv: readonly string[], vocabulary: Vocabulary): Parsed {
  const parser = new Parser(argv, vocabulary);
  parser.parse();
  return parser;
}

class Parser implements Parsed {
  readonly #words: string[];
  readonly #vocabulary: Vocabulary;
  readonly globals = new Map<CommandOption, string[]>();
  readonly own = new Map<CommandOption, string[]>();
  readonly args: string[] = [];
  program: readonly string[] = [];
  command: CommandWords | undefined;
  action: CommandWords | undefined;

  constructor(argv: readonly string[], vocabulary: Vocabulary) {
    this.#words = [...argv].reverse();
    this.#vocabulary = vocabulary;
  }

  parse(): void {
    for (let word = this.#words.pop(); word !== undefined; word = this.#words.pop()) {
      if (word === END) break;
      const [name, value] = splitLong(word);
      if (name !== undefined) this.#long(name, value);
      else if (word.startsWith("-") && word !== "-") this.#letters(word);
      else this.#word(word);
    }
    const behind = this.#words.reverse();
    if ((this.action ?? this.command)?.program === true) this.program = behind;
    else for (const word of behind) this.#word(word);
  }

  #word(word: string): void {
    const { commands } = this.#vocabulary;
    if (this.command === undefined) {
      const help = GLOBALS.find(({ name }) => name === "help") as CommandOption;
      if (word === "help" && !this.globals.has(help)) this.globals.set(help, [ON]);
      else this.command = named(commands, word, (near) => `unknown command '${word}'${near}`);
    } else if (this.command.actions !== undefined && this.action === undefined) {
      const { name: command, actions } = this.command;
      const known = actions.map(({ name }) => name);
      const there = `there ${known.length === 1 ? "is" : "are"}: ${known.join(", ")}`;
      this.action = named(actions, word, (near) => `${command}: unknown action '${word}'${near}; ${there}`);
    } else this.args.push(word);
  }

  #long(name: string, value: string | undefined): void {
    const option = this.#known().find((each) => each.name === name) ?? this.#unknown(`--${name}`);
    if (option.value === undefined) {
      if (value !== undefined) throw new UsageError(`--${name} takes no value`);
      this.#give(option, ON);
    } else this.#give(option, value ?? this.#next(option, `--${name}`));
  }

  #letters(word: string): void {
    for (let at = 1; at < word.length; at++) {
      // A letter may be half of a character; whole ones are for messages.
      const letter = String.fromCodePoint(word.codePointAt(at) as number);
      const option = this.#known().find(({ short }) => short === letter) ?? this.#unknown(`-${letter}`);
      if (option.value === undefined) this.#give(option, ON);
      else {
        this.#give(option, word.slice(at + 1) || this.#next(option, `-${letter}`));
        return;
      }
    }
  }

  #known(): readonly CommandOption[] {
    return [...GLOBALS, ...(this.command?.options ?? []), ...(this.action?.options ?? [])];
  }

  #next(option: CommandOption, given: string): string {
    const value = this.#words.pop();
    if (value === undefined || value === END)
      throw new UsageError(`${given} takes a value: ${given} ${option.value}`);
    if (value.startsWith("-") && value !== "-")
      throw new UsageError(
        `${given} takes a value, and '${value}' is an option; a value that begins with a dash is given as --${option.name}=${value}`,
      );
    return value;
  }

  #give(option: CommandOption, value: string): void {
    const given = GLOBALS.includes(option) ? this.globals : this.own;
    const before = given.get(option) ?? [];
    if (before.length > 0 && option.value !== undefined && option.multiple !== true)
      throw new UsageError(`--${option.name} is there twice; leave one out`);
    given.set(option, [...before, value]);
  }

  #unknown(given: string): never {
    const command = this.command;
    const matches = ({ name, short }: CommandOption): boolean =>
      given === `--${name}` || given === `-${short}`;
    const owners = this.#vocabulary.commands.filter((each) => optionsOf(each).some(matches));
    if (command === undefined && owners.length > 0) {
      const names = owners.map(({ name }) => name).join(", ");
      throw new UsageError(`${given} stands behind its command, one of: ${names}`);
    }
    if (command !== undefined && owners.length > 0 && given.startsWith("--")) {
      const name = [command.name, ...(this.action === undefined ? [] : [this.action.name])].join(" ");
      throw new UsageError(`${name} has no option ${given}`);
    }
    const known = this.#known().map(({ name }) => `--${name}`);
    throw new UsageError(
      `unknown option '${given}'${suggestion(given, known)}; a value that begins with a dash goes after --`,
    );
  }
}

function named(
  among: readonly CommandWords[],
  word: string,
  complaint: (near: string) => string,
): CommandWords {
  const found = among.find(({ name }) => name === word);
  if (found !== undefined) return found;
  const names = among.map(({ name }) => name);
  throw new UsageError(complaint(suggestion(word, names)));
}

/** Returns the values of options, converted as each wants it. @throws UsageError that names the option */
export function valuesOf(given: Given): Values {
  const values: Record<string, unknown> = {};
  for (const [option, texts] of given) {
    const { name, value, multiple } = option;
    const converted = value === undefined ? [true] : texts.map((text) => convert(option, text));
    putEntry(values, name, multiple === true ? converted : converted[0]);
  }
  return values;
}

/** Converts an option's value. @param from what it came from, for the message */
export function convert({ name, parse: read }: CommandOption, text: string, from = `--${name}`): unknown {
  if (read === undefined) return text;
  try {
    return read(text);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(`${from} ${error.message}`, { cause: error });
  }
}

/** Checks the number of arguments. @throws UsageError */
export function checkArguments({ command, action, args: given }: Parsed): void {
  if (command === undefined) return;
  const { args = [], usage, name, actions } = action ?? command;
  const whole = action === undefined ? name : `${command.name} ${name}`;
  if (actions !== undefined)
    throw new UsageError(`${whole}: missing argument <action>; see pvbus ${whole} --help`);
  const isOpen = args.at(-1)?.includes("...") === true;
  const required = args.filter((each) => each.startsWith("<")).length;
  if (given.length >= required && (isOpen || given.length <= args.length)) return;
  if (usage !== undefined) throw new UsageError(`usage: pvbus ${usage}`);
  throw new UsageError(
    given.length < required
      ? `${whole}: missing argument ${args[given.length]}; see pvbus ${whole} --help`
      : `${whole}: too many arguments; quote a value that holds spaces`,
  );
}
