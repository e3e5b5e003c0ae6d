import type { StoreChange, StoreEntry } from "../bus/store.js";

/** A stream that a command writes to. */
export interface Sink {
  /** Writes text or bytes. */
  write(data: string | Uint8Array): unknown;
  /** Whether a person looks at it. */
  readonly isTTY?: boolean | undefined;
}

/**
 * Makes untrusted text safe for one line of a terminal: control characters, line ends and the bidirectional ones are
 * shown as escapes, so that no key or value forges a line or drives the terminal.
 */
export function visible(text: string): string {
  return text.replace(/[\\\p{Cc}\p{Cf}\u2028\u2029]/gu, (char) => {
    if (char === "\\") return "\\\\";
    if (char === "\n") return "\\n";
    if (char === "\t") return "\\t";
    if (char === "\r") return "\\r";
    return `\\u{${(char.codePointAt(0) as number).toString(16)}}`;
  });
}

/** Gives an entry or change as the JSON of the command line: `valueBase64` where the bytes are not valid UTF-8. */
export function entryJson(entry: StoreEntry | StoreChange): Record<string, unknown> {
  const { key, value, bytes } = entry;
  if (bytes !== undefined) return { key, valueBase64: Buffer.from(bytes).toString("base64") };
  return { key, value: value ?? null };
}

/** Gives a paint function for headings: bold on a terminal, plain elsewhere and where NO_COLOR is set. */
export function heading(
  sink: Sink,
  env: Readonly<Record<string, string | undefined>>,
): (text: string) => string {
  const painted = sink.isTTY === true && !env["NO_COLOR"];
  return (text) => (painted ? `\x1b[1m${text}\x1b[0m` : text);
}

/** Writes a value as JSON with two spaces of indent and a line end. */
export function writeJson(sink: Sink, value: unknown): void {
  sink.write(`${JSON.stringify(value, null, 2)}\n`);
}
