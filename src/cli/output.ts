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

/** Makes a key safe as {@link visible} does, its `=` too: the first one of a line ends the key. */
export function visibleKey(key: string): string {
  return visible(key).replaceAll("=", "\\u{3d}");
}

/** Makes a value safe for a terminal that shows it as it is: line ends, tabs and backslashes stay. */
export function onTerminal(text: string): string {
  return text.replace(/[^\n\t\\]+/g, visible);
}

/** Gives JSON that drives no terminal either: what {@link visible} escapes stands as `\uXXXX` in its strings. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(/[\x7f-\x9f\p{Cf}\u2028\u2029]/gu, (char) =>
    char
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/**
 * Gives an entry or change as the JSON of the command line: `valueBase64` where the bytes are not valid
 * UTF-8, null where there is no value: a key that is gone, or a store that lists names only.
 */
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
  sink.write(`${jsonText(value, 2)}\n`);
}

/**
 * Writes what comes as a JSON array, or each as a line of its own. The array is closed when the rest fails: what stands there is JSON.
 * @param line gives one of them for people
 */
export async function writeEach<T>(
  sink: Sink,
  entries: AsyncIterable<T>,
  { json, line }: { readonly json: ((entry: T) => unknown) | undefined; readonly line: (entry: T) => string },
): Promise<void> {
  let front = "[";
  let end = "";
  try {
    for await (const entry of entries) {
      sink.write(json === undefined ? `${line(entry)}\n` : `${front}\n  ${jsonText(json(entry))}`);
      front = ",";
      end = "\n]\n";
    }
    end ||= "[]\n";
  } finally {
    if (json !== undefined) sink.write(end);
  }
}

/** What a failure says as JSON; null where there is none. */
export interface ErrorDocument {
  /** The stable code; null for wrong usage, a missing key and errors of the system. */
  readonly code: string | null;
  /** What, on what, why, what next. */
  readonly message: string;
  /** Name of the interface. */
  readonly interface: string | null;
  /** The key. */
  readonly key: string | null;
}

/** Writes a failure as one line of JSON. */
export function writeError(sink: Sink, error: ErrorDocument): void {
  sink.write(`${jsonText({ error })}\n`);
}
