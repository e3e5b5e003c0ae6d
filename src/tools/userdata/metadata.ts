import { pvbusError } from "../../base/errors.js";
import { ownEntry, putEntry } from "../../base/own.js";

/*
 * Metadata is JSON or YAML. JSON is read; of YAML no more is needed than a key of the outermost level, which stands at the
 * beginning of a line: what it holds is handed on as the YAML that it is.
 */

/** What stands under a key of the outermost level. */
export type Field =
  /** A text. */
  | { readonly text: string }
  /** Something with parts, as a document of its own. */
  | { readonly document: string };

/** Returns what metadata holds under a key of the outermost level; undefined for no such key. */
export function fieldOf(metadata: string, name: string): Field | undefined {
  const json = jsonObject(metadata);
  if (json === undefined) return yamlField(metadata, name);
  const value = ownEntry(json, name);
  if (value === undefined || value === null) return undefined;
  return typeof value === "object" ? { document: `${JSON.stringify(value)}\n` } : { text: String(value) };
}

/** Returns metadata as fields, for what says them one by one. */
export function metadataOf(fields: Readonly<Record<string, string | readonly string[]>>): Uint8Array {
  return Buffer.from(`${JSON.stringify(fields, undefined, 1)}\n`);
}

/**
 * Returns metadata that has an instance id: its own, else the given one.
 * @throws PvbusError `ERR_VALUE_INVALID` for YAML in which no line can be put
 */
export function withInstanceId(metadata: string, id: string): string {
  if (fieldOf(metadata, INSTANCE_ID) !== undefined) return metadata;
  const json = jsonObject(metadata);
  if (json !== undefined) {
    const others = Object.entries(json).filter(([name]) => name !== INSTANCE_ID);
    return `${JSON.stringify(Object.fromEntries([[INSTANCE_ID, id], ...others]), undefined, 1)}\n`;
  }
  if (/^\s*[[{]/.test(metadata))
    throw pvbusError(
      "ERR_VALUE_INVALID",
      "the meta-data has no instance-id, and is neither JSON nor YAML of one key a line; give it an instance-id",
    );
  const line = `${INSTANCE_ID}: ${id}\n`;
  // One without a value would be taken for the last word.
  const lines = metadata.split(/(?<=\n)/).filter((each) => keyOf(each) !== INSTANCE_ID);
  const start = lines.findIndex((each) => /^---(?:\s|$)/.test(each)) + 1;
  const before = lines.slice(0, start).join("");
  return `${before}${before === "" || before.endsWith("\n") ? "" : "\n"}${line}${lines.slice(start).join("")}`;
}

const INSTANCE_ID = "instance-id";
const SERIAL_NAMES: Readonly<Record<string, string>> = {
  h: "local-hostname",
  i: "instance-id",
  s: "seedfrom",
};

/**
 * Returns the metadata in a serial number for cloud-init's NoCloud: `ds=nocloud;h=<host>;i=<instance>;s=<seed>`; undefined where it
 * is none, or says nothing. Case counts.
 */
export function serialMetadata(serial: string): Readonly<Record<string, string>> | undefined {
  const [first, ...parts] = serial.trim().split(";");
  if (first !== "ds=nocloud" && first !== "ds=nocloud-net") return undefined;
  const fields: Record<string, string> = {};
  for (const part of parts) {
    const at = part.indexOf("=");
    if (at < 1) continue;
    const name = part.slice(0, at);
    putEntry(fields, ownEntry(SERIAL_NAMES, name) ?? name, part.slice(at + 1));
  }
  return Object.keys(fields).length === 0 ? undefined : fields;
}

function jsonObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // Then it is YAML.
    return undefined;
  }
}

function yamlField(text: string, name: string): Field | undefined {
  const lines = text.split("\n");
  const at = lines.findIndex((line) => keyOf(line) === name);
  if (at < 0) return undefined;
  const line = lines[at] as string;
  const inline = withoutComment(line.slice(line.indexOf(":") + 1).trim());
  const below: string[] = [];
  for (const each of lines.slice(at + 1)) {
    if (/^[^\s#]/.test(each)) break;
    below.push(each);
  }
  if (/^[|>][+-]?$/.test(inline))
    return {
      text: below
        .map((each) => each.trim())
        .join("\n")
        .trim(),
    };
  if (inline !== "") return /^[[{]/.test(inline) ? { document: `${inline}\n` } : { text: unquoted(inline) };
  return below.some((each) => each.trim() !== "") ? { document: dedented(below) } : undefined;
}

/** Returns the key that a line of the outermost level begins with. */
function keyOf(line: string): string | undefined {
  const [, quoted, plain] =
    /^(?:["']([^"']*)["']|([^\s#:'"[\]{},&*!|>%@`-][^\s:]*))[ \t]*:(?:\s|$)/.exec(line) ?? [];
  return quoted ?? plain;
}

function withoutComment(text: string): string {
  return /^["']/.test(text) ? text : (text.split(/\s#/, 1)[0] as string).trim();
}

function unquoted(text: string): string {
  const quote = text[0];
  return (quote === '"' || quote === "'") && text.length > 1 && text.endsWith(quote)
    ? text.slice(1, -1)
    : text;
}

function dedented(lines: readonly string[]): string {
  const full = lines.filter((each) => each.trim() !== "");
  const indent = Math.min(...full.map((each) => each.length - each.trimStart().length));
  return `${full.map((each) => each.slice(indent)).join("\n")}\n`;
}
