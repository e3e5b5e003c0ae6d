import { ownEntry, putEntry } from "./own.js";

/** What every kind of setting has. */
export interface EntryOf<K extends string, T> {
  /** What its value is. */
  readonly kind: K;
  /** What it is for, in one line without a full stop: for help and documentation. */
  readonly line: string;
  /** Its value where none is given. */
  readonly default?: T | undefined;
  /** How a wrong value is refused, behind the option's name: `must be a path`. Default: by kind. */
  readonly refusal?: string | undefined;
}

/** True or false. */
export type BooleanOption = EntryOf<"boolean", boolean>;
/** One of some words. */
export interface ChoiceOption extends EntryOf<"choice", string> {
  /** The words. */
  readonly choices: readonly string[];
}
/** A number. */
export interface NumberOption extends EntryOf<"number", number> {
  /** Smallest value. */
  readonly least?: number | undefined;
  /** Largest value. */
  readonly most?: number | undefined;
  /** Only whole numbers. Default true. */
  readonly whole?: boolean | undefined;
}
/** A text, never empty. */
export interface TextOption extends EntryOf<"text", string> {
  /** What it must match. */
  readonly pattern?: RegExp | undefined;
}
/** Texts; on the command line with commas between them. */
export interface ListOption extends EntryOf<"list", readonly string[]> {
  /** What they are: `pool names`. */
  readonly of: string;
}

/** One setting. */
export type OptionEntry = BooleanOption | ChoiceOption | NumberOption | TextOption | ListOption;

/**
 * The settings of a provider by name, as data: the API checks with it what it is given, the command line reads `-o NAME=VALUE`
 * with it, help and documentation are made from it.
 *
 * ```ts
 * export const OPTIONS = {
 *   durable: { kind: "boolean", line: "resolve a write when it is on the disk", default: false },
 *   directory: { kind: "text", line: "pool directory", refusal: "must be a path" },
 * } as const satisfies OptionSchema;
 * ```
 */
export type OptionSchema = Readonly<Record<string, OptionEntry>>;

/** What an entry's value is. */
export type ValueOf<E extends OptionEntry> = E extends ChoiceOption
  ? E["choices"][number]
  : E extends BooleanOption
    ? boolean
    : E extends NumberOption
      ? number
      : E extends ListOption
        ? readonly string[]
        : string;

/** The names of the settings that have a default. */
export type Defaulted<S extends OptionSchema> = {
  [N in keyof S]: S[N] extends Required<Pick<OptionEntry, "default">> ? N : never;
}[keyof S];

/** Settings as a caller may give them. */
export type GivenOptions<S extends OptionSchema> = { readonly [N in keyof S]?: ValueOf<S[N]> | undefined };

/** Settings that were checked: those with a default are there. */
export type CheckedOptions<S extends OptionSchema> = {
  readonly [N in Defaulted<S>]: ValueOf<S[N]>;
} & {
  readonly [N in Exclude<keyof S, Defaulted<S>>]?: ValueOf<S[N]>;
};

/**
 * Checks settings that came from outside, and adds defaults.
 * @param id whose they are, in messages: `kvm`
 * @throws TypeError for an unknown name or a wrong value: a misspelt safety option must not pass silently
 */
export function checkOptions<S extends OptionSchema>(
  id: string,
  schema: S,
  given: Readonly<Record<string, unknown>> = {},
): CheckedOptions<S> {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const entry = entryOf(id, schema, name);
    if (!fits(entry, value)) throw refused(id, name, entry);
  }
  const options: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(schema)) {
    const value = ownEntry(given, name) ?? entry.default;
    if (value !== undefined) putEntry(options, name, value);
  }
  return options as CheckedOptions<S>;
}

/**
 * Reads a setting's value as the command line has it, by its kind: the text `123` stays a text.
 * @throws TypeError for an unknown name or a wrong value
 */
export function optionFromText(id: string, schema: OptionSchema, name: string, text: string): unknown {
  const entry = entryOf(id, schema, name);
  const value = valueIn(entry, text);
  if (!fits(entry, value)) throw refused(id, name, entry);
  return value;
}

/**
 * Returns what help and documentation say of each setting, in the schema's order: name, what it takes (`true|false`, `vsock|backdoor`,
 * `NUMBER`, `TEXT`, `TEXT,TEXT`), line, and default as text.
 */
export function optionRows(schema: OptionSchema) {
  return Object.entries(schema).map(([name, entry]) => ({
    name,
    takes: takes(entry),
    line: entry.line,
    default: entry.default === undefined ? undefined : String(entry.default),
  }));
}

function entryOf(id: string, schema: OptionSchema, name: string): OptionEntry {
  const entry = ownEntry(schema, name);
  if (entry !== undefined) return entry;
  throw new TypeError(`${id} has no option ${name}; it has ${Object.keys(schema).join(", ") || "none"}`);
}

function fits(entry: OptionEntry, value: unknown): boolean {
  switch (entry.kind) {
    case "boolean":
      return typeof value === "boolean";
    case "choice":
      return typeof value === "string" && entry.choices.includes(value);
    case "number": {
      const { least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY, whole = true } = entry;
      if (typeof value !== "number" || (whole && !Number.isInteger(value))) return false;
      return value >= least && value <= most;
    }
    case "text":
      return typeof value === "string" && value !== "" && (entry.pattern?.test(value) ?? true);
    case "list":
      return Array.isArray(value) && value.every((each) => typeof each === "string");
  }
}

function valueIn({ kind }: OptionEntry, text: string): unknown {
  if (kind === "boolean") return text === "true" || (text === "false" ? false : undefined);
  if (kind === "number") return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
  return kind === "list" ? text.split(",") : text;
}

function refused(id: string, name: string, entry: OptionEntry): TypeError {
  return new TypeError(`${id} option ${name} ${entry.refusal ?? refusalOf(entry)}`);
}

function refusalOf(entry: OptionEntry): string {
  switch (entry.kind) {
    case "boolean":
      return "must be true or false";
    case "choice":
      return `is one of ${entry.choices.join(", ")}`;
    case "number":
      return `must be a ${entry.whole === false ? "" : "whole "}number${rangeOf(entry)}`;
    case "text":
      return entry.default === undefined
        ? "must be a text that is not empty"
        : `must be a name, such as ${entry.default}`;
    case "list":
      return `must be a list of ${entry.of}`;
  }
}

function rangeOf({ least, most }: NumberOption): string {
  if (least !== undefined && most !== undefined) return ` from ${least} to ${most}`;
  if (least !== undefined) return `, ${least} or more`;
  return most === undefined ? "" : `, ${most} or less`;
}

function takes(entry: OptionEntry): string {
  switch (entry.kind) {
    case "boolean":
      return "true|false";
    case "choice":
      return entry.choices.join("|");
    case "number":
      return "NUMBER";
    case "text":
      return "TEXT";
    case "list":
      return "TEXT,TEXT";
  }
}
