/** A stream that a command writes to. */
export interface Sink {
  write(data: string | Uint8Array): unknown;
  /** Whether a person looks at it. */
  readonly isTTY?: boolean | undefined;
  /** Brings what was written to the disk, where it is a file. */
  flush?(): void;
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
  return text.replace(/(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]/gu, visible);
}

const BOLD = "\x1b[1m";
const PLAIN = "\x1b[0m";

/**
 * Returns a sink whose text drives no terminal, whoever wrote it and whatever it holds: the one way to both outputs. Text is for
 * people and escaped, however often it was escaped before; bytes are data that was asked for, and pass as they are.
 */
export function printed(sink: Sink): Sink {
  const safe = (text: string): string =>
    sink.isTTY === true ? text.split(BOLD).map(betweenPlain).join(BOLD) : onTerminal(text);
  return {
    get isTTY() {
      return sink.isTTY;
    },
    write: (data) => sink.write(typeof data === "string" ? safe(data) : data),
    flush: () => sink.flush?.(),
  };
}

function betweenPlain(text: string): string {
  return text.split(PLAIN).map(onTerminal).join(PLAIN);
}

/** Returns an error's stack with the message in it on one line: it may quote a host that forges lines of a stack. */
export function stackText(error: unknown): string {
  if (!(error instanceof Error)) return visible(String(error));
  const { message, stack = message } = error;
  const at = message === "" ? -1 : stack.indexOf(message);
  return at < 0 ? stack : stack.slice(0, at) + visible(message) + stack.slice(at + message.length);
}

/** Writes data as it is where a program reads it; a terminal shows it escaped. */
export function writeData(sink: Sink, data: string | Uint8Array): void {
  if (sink.isTTY === true) sink.write(typeof data === "string" ? data : Buffer.from(data).toString("utf8"));
  else sink.write(typeof data === "string" ? Buffer.from(data) : data);
}

/** Returns JSON that drives no terminal either: what {@link visible} escapes stands as `\uXXXX` in its strings. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, plain, indent).replace(/[\x7f-\x9f\p{Cf}\u2028\u2029]/gu, (char) =>
    char
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/** Errors and big numbers are none of JSON's. */
function plain(_name: string, value: unknown): unknown {
  if (value instanceof Error) return value.message;
  return typeof value === "bigint" ? String(value) : value;
}

/** Returns a paint function for headings: bold on a terminal, plain elsewhere and where NO_COLOR is set. */
export function heading(
  sink: Sink,
  env: Readonly<Record<string, string | undefined>>,
): (text: string) => string {
  const painted = sink.isTTY === true && !env["NO_COLOR"];
  return (text) => (painted ? `${BOLD}${text}${PLAIN}` : text);
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

/** A failure as JSON tells it: what is not there is null. */
interface Failure {
  /** What, on what, why, what next. */
  readonly message: string;
  /** The stable code; none for wrong usage, a missing key and errors of the system. */
  readonly code?: string | null | undefined;
  readonly interface?: string | null | undefined;
  readonly key?: string | null | undefined;
}

/** Writes a failure as one line of JSON. @param stack where it was thrown, with `-v` */
export function writeError(sink: Sink, failure: Failure, stack?: string): void {
  const { code = null, message, interface: on = null, key = null } = failure;
  sink.write(`${jsonText({ error: { code, message, interface: on, key, stack } })}\n`);
}
