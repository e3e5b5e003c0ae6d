import { pvbusError } from "../../src/base/errors.js";

/** Where values come from; also the first part of a qualified key. */
export type SourceName = "meta" | "fwcfg" | "smbios";

/** A native key or prefix taken apart. */
export interface KvmKey {
  /** The one source that it names; undefined for a plain key, which is looked for in all of them. */
  readonly source: SourceName | undefined;
  /** The name inside the source, or the plain key. */
  readonly name: string;
}

/** The sources in the order in which a plain key is looked for. */
export const SOURCES: readonly SourceName[] = ["meta", "fwcfg", "smbios"];

/** No host takes longer keys; what is longer is a mistake. */
const MAX_KEY_BYTES = 4096;

/** Returns the qualified key of a name. */
export function qualifiedKey(source: SourceName, name: string): string {
  return `${source}/${name}`;
}

/**
 * Takes a native key apart: `meta/<key>`, `fwcfg/<item>`, `smbios/<name>`, or a plain key.
 * @throws PvbusError `ERR_KEY_INVALID` without a name, and for what the channel cannot carry; `ERR_KEY_TOO_LONG`
 */
export function parseKey(key: string): KvmKey {
  const parsed = split(key) ?? { source: undefined, name: key };
  if (parsed.name === "")
    throw pvbusError("ERR_KEY_INVALID", `the key names nothing in ${key}; give it as ${key}<name>`);
  const bytes = Buffer.byteLength(parsed.name);
  if (bytes > MAX_KEY_BYTES)
    throw pvbusError(
      "ERR_KEY_TOO_LONG",
      `the key has ${bytes} bytes, ${MAX_KEY_BYTES} are taken; shorten it`,
    );
  const fault = parsed.source === undefined || parsed.source === "meta" ? faultOf(parsed.name) : undefined;
  if (fault !== undefined) throw pvbusError("ERR_KEY_INVALID", `the key ${fault}; choose another one`);
  return parsed;
}

/** Takes a prefix apart; the source's name alone stands for all of it, the empty prefix gives a plain one. */
export function parsePrefix(prefix: string): KvmKey {
  const source = SOURCES.find((each) => each === prefix);
  return source === undefined ? (split(prefix) ?? { source, name: prefix }) : { source, name: "" };
}

/** Reports whether a name can be a key of the channel; hosts list others that nobody can ask for. */
export function isChannelKey(name: string): boolean {
  return name !== "" && faultOf(name) === undefined && Buffer.byteLength(name) <= MAX_KEY_BYTES;
}

function split(text: string): KvmKey | undefined {
  const source = SOURCES.find((each) => text.startsWith(`${each}/`));
  return source && { source, name: text.slice(source.length + 1) };
}

/** Listings are lines, and existing hosts take blanks off the ends of what they are asked for. */
function faultOf(name: string): string | undefined {
  if (/\p{Cc}/u.test(name)) return "holds a control character, which the metadata channel cannot carry";
  if (name.trim() !== name) return "begins or ends with a blank, which hosts leave out";
  return undefined;
}
