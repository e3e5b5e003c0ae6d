import { isUtf8 } from "node:buffer";
import type { CallOptions } from "../../base/flow/call.js";
import type { KeyCommands } from "../../contract/command.js";
import type { KeyInterface, KeyValues } from "../../contract/key-values.js";
import type { PortableDirection } from "../../contract/portable.js";
import type { StoreChange, StoreEntry } from "../../contract/store.js";
import {
  jsonText,
  type Sink,
  visible,
  visibleKey,
  writeData,
  writeEach,
  writeError,
  writeJson,
} from "./output.js";

/** Where keys and values are printed, and how. */
export interface KeyOutput {
  /** Data goes here. */
  readonly stdout: Sink;
  /** Messages go here. */
  readonly stderr: Sink;
  /** Whether all is to be JSON. */
  readonly json: boolean;
  /** Signal and time limit. */
  readonly call: CallOptions;
}

/**
 * Returns an entry or change as the JSON of the command line: `valueBase64` where the bytes are not valid
 * UTF-8, null where there is no value: a key that is gone, or a store that lists names only.
 */
export function entryJson(entry: StoreEntry | StoreChange): Record<string, unknown> {
  const { key, value, bytes } = entry;
  if (bytes !== undefined) return { key, valueBase64: Buffer.from(bytes).toString("base64") };
  return { key, value: value ?? null };
}

/** Returns a value as an entry. */
export function entryOf(key: string, bytes: Uint8Array): StoreEntry {
  const value = Buffer.from(bytes).toString("utf8");
  return isUtf8(bytes) ? { key, value } : { key, value, bytes };
}

/** Returns an entry as a line: `key=value`, the key alone where there is no value. */
function entryLine({ key, value }: StoreEntry): string {
  return `${visibleKey(key)}${value === undefined ? "" : `=${visible(value)}`}`;
}

/** Returns a change as a line: `key=value`, or `-key` when it is gone. */
function changeLine({ key, value }: StoreChange): string {
  // A key that begins with a dash must not look like one that is gone.
  const name = visibleKey(key);
  return value === undefined ? `-${name}` : `${name.replace(/^-/, "\\u{2d}")}=${visible(value)}`;
}

/** Says that there is no such key. @returns the exit code */
export function missing({ stderr, json }: KeyOutput, { name }: Pick<KeyValues, "name">, key: string): number {
  if (json) writeError(stderr, { code: null, message: "no such key", interface: name ?? null, key });
  else stderr.write(`pvbus: no such key: ${visible(key)}\n`);
  return 1;
}

/** An entry, and what is printed with it. */
export interface ListedEntry {
  /** The pair. */
  readonly entry: StoreEntry;
  /** Its permissions; null where they may not be seen, undefined where nobody asked. */
  readonly permissions?: readonly string[] | null | undefined;
  /** Who has put it there, of portable names. */
  readonly direction?: PortableDirection | undefined;
}

/** Keys that can be followed. */
export type WatchedKeys = Pick<KeyInterface, "watch"> & Pick<KeyValues, "name">;

/** Prints pairs as they come: a line each, or a JSON array. */
export async function printEntries(
  { stdout, json }: Pick<KeyOutput, "stdout" | "json">,
  entries: AsyncIterable<ListedEntry>,
): Promise<void> {
  await writeEach(stdout, entries, {
    json: json
      ? ({ entry, permissions, direction }) => ({
          ...entryJson(entry),
          ...(direction === undefined ? {} : { direction }),
          ...(permissions === undefined ? {} : { permissions }),
        })
      : undefined,
    line: ({ entry, permissions, direction }) => {
      const behind = permissions == null ? direction : permissions.join(",");
      return `${entryLine(entry)}${behind === undefined ? "" : `\t(${behind})`}`;
    },
  });
}

/** Prints changes below a prefix until the call ends, or there were so many. Says on standard error when it is armed. */
export async function printChanges(
  { stdout, stderr, json, call }: KeyOutput,
  keys: WatchedKeys,
  prefix: string,
  count: number,
): Promise<void> {
  const ready = (): void => {
    const { name = null } = keys;
    const armed = `watching ${visible(prefix) || "everything"}${name === null ? "" : ` on ${name}`}`;
    stderr.write(json ? `${jsonText({ watching: prefix, interface: name })}\n` : `${armed}\n`);
  };
  let seen = 0;
  for await (const change of keys.watch(prefix, { ...call, ready })) {
    stdout.write(`${json ? jsonText(entryJson(change)) : changeLine(change)}\n`);
    if (++seen >= count) break;
  }
}

/** Returns what does and prints the same with every set of keys. */
export function keyCommands(out: KeyOutput): KeyCommands {
  const { stdout, json, call } = out;
  const printValue = (entry: StoreEntry): void => {
    if (json) writeJson(stdout, entryJson(entry));
    else {
      writeData(stdout, entry.bytes ?? entry.value ?? "");
      stdout.write("\n");
    }
  };
  const done = (document: Readonly<Record<string, unknown>>): number => {
    if (json) writeJson(stdout, document);
    return 0;
  };
  return {
    get: async (keys, key) => {
      const bytes = await keys.readBytes(key, call);
      if (bytes === undefined) return missing(out, keys, key);
      printValue(entryOf(key, bytes));
      return 0;
    },
    set: async (keys, key, value) => {
      await keys.write(key, value, call);
      return done({ key, written: true });
    },
    rm: async (keys, key) =>
      (await keys.delete(key, call)) ? done({ key, deleted: true }) : missing(out, keys, key),
    ls: async (keys, prefix = "") => {
      await printEntries(out, listed(keys.list(prefix, call)));
      return 0;
    },
    print: (entries) => printEntries(out, listed(entries)),
    printValue,
  };
}

async function* listed(
  entries: Iterable<StoreEntry> | AsyncIterable<StoreEntry>,
): AsyncGenerator<ListedEntry, void, undefined> {
  for await (const entry of entries) yield { entry };
}
