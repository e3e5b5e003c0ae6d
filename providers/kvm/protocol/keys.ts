import { pvbusError } from "../../../src/base/errors.js";
import { keyFault, MAX_KEY_BYTES } from "../../../src/mdata/request.js";

/** Where values come from; also the first part of a qualified key. */
export type SourceName = "meta" | "fwcfg" | "smbios";

/** A native key or prefix taken apart. */
export interface KvmKey {
  /** The one source that it names; undefined for a plain key, which is looked for in all of them. */
  readonly source: SourceName | undefined;
  readonly name: string;
}

/** The sources in the order in which a plain key is looked for. */
export const SOURCES: readonly SourceName[] = ["meta", "fwcfg", "smbios"];

export function qualifiedKey(source: SourceName, name: string): string {
  return `${source}/${name}`;
}

/** @throws PvbusError `ERR_KEY_INVALID` without a name, and for what the channel cannot carry; `ERR_KEY_TOO_LONG` */
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
  const fault = parsed.source === undefined || parsed.source === "meta" ? keyFault(parsed.name) : undefined;
  if (fault !== undefined) throw pvbusError("ERR_KEY_INVALID", `the key ${fault}; choose another one`);
  return parsed;
}

/** Takes a prefix apart; the source's name alone stands for all of it, the empty prefix gives a plain one. */
export function parsePrefix(prefix: string): KvmKey {
  const source = SOURCES.find((each) => each === prefix);
  return source === undefined ? (split(prefix) ?? { source, name: prefix }) : { source, name: "" };
}

function split(text: string): KvmKey | undefined {
  const source = SOURCES.find((each) => text.startsWith(`${each}/`));
  return source && { source, name: text.slice(source.length + 1) };
}

/** Returns the name of a fw_cfg item that carries a plain key. */
export function itemName(namespace: string, key: string): string {
  return `opt/${namespace}/${key}`;
}

/** Returns the name of an OEM string that carries a plain key. */
export function oemName(namespace: string, key: string): string {
  return `${namespace}:${key}`;
}
