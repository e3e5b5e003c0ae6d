import { optionRows } from "../../base/options.js";
import { idOf, manifestOf } from "../../bus/manifests.js";
import type { CommandOption } from "../../contract/command.js";
import { GLOBALS } from "./globals.js";
import { UsageError } from "./usage.js";
import type { CommandWords, Vocabulary } from "./vocabulary.js";

const SUGGESTION_DISTANCE = 2;

function rows(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([left]) => left.length)) + 2;
  return pairs.map(([left, right]) => `  ${left.padEnd(width)}${right}\n`).join("");
}

function optionRow({ name, short, value, description }: CommandOption): [string, string] {
  return [
    `${short === undefined ? "    " : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
    description,
  ];
}

function calledAs({ name, args = [], actions }: CommandWords): string {
  return [name, ...(actions === undefined ? args : ["<action>"])].join(" ");
}

/** What stands behind all else, in a command that runs a program. */
function behind({ program }: CommandWords): string {
  return program === true ? " [-- program...]" : "";
}

/** Returns the help of the whole program, with the settings of a type where one is named. */
export function programHelp(vocabulary: Vocabulary, type?: string): string {
  const { commands, manifests } = vocabulary;
  return `Usage: pvbus [options] <command>

Talks to the hypervisor of this virtual machine: one key-value API over each one's own store.

Commands:
${rows(commands.map((each) => [calledAs(each) + behind(each), each.description]))}
Options:
${rows(GLOBALS.map(optionRow))}
Types: ${manifests.map((each) => each.type).join(", ")}. The settings of one: pvbus --help -t TYPE
${settingsHelp(vocabulary, type)}
Exit codes: 0 success, 1 failure or missing key, 2 wrong usage.
`;
}

/** Returns the help of one command, or of one of its actions. */
export function commandHelp(
  vocabulary: Vocabulary,
  command: CommandWords,
  action?: CommandWords,
  type?: string,
): string {
  const { description, usage, actions } = action ?? command;
  const called = action === undefined ? calledAs(command) : `${command.name} ${calledAs(action)}`;
  const options = [...GLOBALS, ...(command.options ?? []), ...(action?.options ?? [])];
  const list =
    actions === undefined
      ? ""
      : `\nActions:\n${rows(actions.map((each) => [calledAs(each), each.description]))}`;
  return `Usage: pvbus ${usage ?? `${called} [options]${behind(action ?? command)}`}

${description[0]?.toUpperCase()}${description.slice(1)}.
${list}
Options:
${rows(options.map(optionRow))}${settingsHelp(vocabulary, type)}`;
}

function settingsHelp({ manifests }: Vocabulary, type: string | undefined): string {
  if (type === undefined) return "";
  const manifest = manifestOf(manifests, idOf(manifests, type) ?? "");
  if (manifest === undefined) throw new UsageError(`no provider serves type "${type}"; see pvbus --help`);
  const settings = optionRows(manifest.options ?? {});
  if (settings.length === 0) return `\n${manifest.type} has no settings.\n`;
  const found = settings.map(({ name, takes, line, default: value }): [string, string] => [
    `-o ${name}=${takes}`,
    `${line}${value === undefined ? "" : ` (${value})`}`,
  ]);
  return `\nSettings of ${manifest.type}:\n${rows(found)}`;
}

/** Returns " (did you mean …?)" when a word is close to a known one, else nothing. */
export function suggestion(word: string, known: readonly string[]): string {
  const close = known
    .filter((each) => Math.abs(each.length - word.length) <= SUGGESTION_DISTANCE)
    .map((each) => ({ each, far: distance(word, each) }))
    .filter(({ far }) => far <= SUGGESTION_DISTANCE)
    .sort((a, b) => a.far - b.far);
  return close[0] === undefined ? "" : ` (did you mean ${close[0].each}?)`;
}

/** Counts the changes of one letter that lead from one word to the other, a swap of neighbours being one. */
function distance(from: string, to: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const same = from[i - 1] === to[j - 1] ? 0 : 1;
      let best = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1])
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = previous;
    previous = row;
  }
  return previous[to.length] ?? 0;
}
