import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../base/errors.js";
import { byMadeName, variableName } from "./names.js";

/** What systemd and every shell take without quotes. */
const PLAIN = /^[A-Za-z0-9_./:@%+,-]*$/;
/** What a backslash keeps from being special within double quotes, in systemd as in a shell. */
const SPECIAL = /["\\`$]/g;
/** All that some reader of lines takes for the end of one is among them. */
const LINE_ENDS = /[\p{Cc}\u2028\u2029]/gu;
/** One of them and systemd takes nothing of the whole file. */
const NONCHARACTERS = /\p{Noncharacter_Code_Point}/u;

/**
 * Returns variables as a file in the syntax of systemd's `EnvironmentFile=`, which a shell can source too, sorted by their names.
 * No value forges a variable: behind each line end in it quotes are closed and opened, so that the next line begins with a quote.
 * @throws PvbusError `ERR_CONFLICT` for two keys of one variable, `ERR_VALUE_INVALID` for what the syntax cannot hold
 */
export function environmentText(content: ReadonlyMap<string, Uint8Array>): string {
  for (const [name, value] of content) check(name, value);
  const variables = [...byMadeName(content, "the variable", variableName)];
  variables.sort(([a], [b]) => (a < b ? -1 : 1));
  return variables
    .map(([name, value]) => `${name}=${quoted(Buffer.from(value).toString("utf8"))}\n`)
    .join("");
}

function quoted(value: string): string {
  if (PLAIN.test(value)) return value;
  return `"${value.replace(SPECIAL, "\\$&").replace(LINE_ENDS, '$&""')}"`;
}

function check(name: string, value: Uint8Array): void {
  const why = whyNot(value);
  if (why === undefined) return;
  throw pvbusError(
    "ERR_VALUE_INVALID",
    `the value of ${JSON.stringify(name)} ${why}, which no file of variables can hold; use --dir, or encode it (base64)`,
    { key: name },
  );
}

function whyNot(value: Uint8Array): string | undefined {
  if (value.includes(0)) return "holds a NUL";
  if (!isUtf8(value)) return "is not valid UTF-8";
  return NONCHARACTERS.test(Buffer.from(value).toString("utf8")) ? "holds a noncharacter" : undefined;
}
