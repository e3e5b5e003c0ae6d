/** What a command line of hostctl(8) says. */
export interface HostctlOptions {
  /** Device, `-f`. */
  readonly device: string;
  /** File to take the value from, `-i`. */
  readonly input: string | undefined;
  /** File to write the result to, `-o`. */
  readonly output: string | undefined;
  /** Print nothing, `-q`. */
  readonly quiet: boolean;
  /** Print the type, `-t`. */
  readonly type: boolean;
  /** What is left: key and value. */
  readonly operands: readonly string[];
}

const WITH_ARGUMENT = "fio";
const SWITCHES = "qt";

/**
 * Takes a command line apart as getopt(3) does with `f:i:o:qt`: letters may be joined, options end at the first
 * operand or `--`.
 * @returns the options, or getopt's own complaint
 */
export function parseHostctl(argv: readonly string[]): HostctlOptions | { readonly complaint: string } {
  const values = new Map<string, string>();
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === "--") {
      at++;
      break;
    }
    if (!word.startsWith("-") || word === "-") break;
    for (let index = 1; index < word.length; index++) {
      const letter = word[index] as string;
      if (SWITCHES.includes(letter)) values.set(letter, "");
      else if (!WITH_ARGUMENT.includes(letter)) return { complaint: `unknown option -- ${letter}` };
      else {
        const rest = word.slice(index + 1);
        const argument = rest === "" ? argv[++at] : rest;
        if (argument === undefined) return { complaint: `option requires an argument -- ${letter}` };
        values.set(letter, argument);
        break;
      }
    }
  }
  return {
    device: values.get("f") ?? "/dev/pvbus0",
    input: values.get("i"),
    output: values.get("o"),
    quiet: values.has("q"),
    type: values.has("t"),
    operands: argv.slice(at),
  };
}
