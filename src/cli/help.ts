import { COMMANDS, type CommandEntry, OPTIONS, type OptionEntry } from "./commands.js";

const SUGGESTION_DISTANCE = 2;

function rows(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([left]) => left.length)) + 2;
  return pairs.map(([left, right]) => `  ${left.padEnd(width)}${right}\n`).join("");
}

function optionRow({ name, short, value, description }: OptionEntry): [string, string] {
  return [
    `${short === undefined ? "    " : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
    description,
  ];
}

/** Returns the help of the whole program. */
export function programHelp(): string {
  const commands = COMMANDS.map(
    ({ name, args, description }) => [[name, ...args].join(" "), description] as const,
  );
  return `Usage: pvbus [options] <command>

Talks to the hypervisor of this virtual machine: one key-value API over each one's own store.

Commands:
${rows(commands)}
Options:
${rows(OPTIONS.filter(({ commands }) => commands === undefined).map(optionRow))}
Exit codes: 0 success, 1 failure or missing key, 2 wrong usage.
`;
}

/** Returns the help of one command. */
export function commandHelp({ name, args, description }: CommandEntry): string {
  const options = OPTIONS.filter(({ commands }) => commands === undefined || commands.includes(name));
  return `Usage: pvbus ${[name, ...args].join(" ")} [options]

${description[0]?.toUpperCase()}${description.slice(1)}.

Options:
${rows(options.map(optionRow))}`;
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
