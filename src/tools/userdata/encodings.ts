import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { pvbusError } from "../../base/errors.js";
import type { BootDataReader } from "../../contract/boot-data.js";
import { decodeBase64 } from "../../mdata/base64.js";

/** Largest boot data, decoded: whatever a small packed value would grow to. */
export const MAX_BOOT_DATA_BYTES = 16 * 1024 * 1024;

/** What a value stands for. */
export type Decoded =
  /** Data, and the name of its encoding: `plain`, or as it was written. */
  | { readonly encoding: string; readonly value: Uint8Array; readonly warning?: string }
  /** Nothing, and why: its reader has taken it away. */
  | { readonly encoding: string; readonly absent: string };

type Steps = readonly ("base64" | "gzip")[];

/** The names that each reader knows, exactly. What else cloud-init takes for plain text, and Ignition for an error, is neither here. */
const ENCODINGS: Readonly<Record<BootDataReader, ReadonlyMap<string, Steps>>> = {
  "cloud-init": new Map<string, Steps>([
    ["", []],
    ["plaintext", []],
    ["base64", ["base64"]],
    ["b64", ["base64"]],
    ["gzip+base64", ["base64", "gzip"]],
    ["gz+b64", ["base64", "gzip"]],
  ]),
  ignition: new Map<string, Steps>([
    ["", []],
    ["base64", ["base64"]],
    ["b64", ["base64"]],
    ["gzip+base64", ["base64", "gzip"]],
    ["gz+base64", ["base64", "gzip"]],
    ["gzip+b64", ["base64", "gzip"]],
    ["gz+b64", ["base64", "gzip"]],
    ["gzip", ["gzip"]],
    ["gz", ["gzip"]],
  ]),
};

/** What cloud-init writes over data that it was told to remove, its encoding then being one space. */
const REDACTED = "---";
/** What `ignition-rmcfg` writes over a configuration: an empty one. */
const EMPTY_CONFIG = "{}\n";
const PLAIN = "plain";

const unpack = promisify(gunzip);

/**
 * Decodes a value as the reader of its key does, but for the names of encodings that cloud-init does not know and takes for plain
 * text in silence.
 * @param encoding what the key beside it says; empty where there is none
 * @throws PvbusError `ERR_VALUE_INVALID` for an unknown encoding and for what is not encoded so, `ERR_VALUE_TOO_LONG`
 */
export async function decodeNamed(
  reader: BootDataReader,
  value: Uint8Array,
  encoding: string,
): Promise<Decoded> {
  const isCloudInit = reader === "cloud-init";
  // cloud-init cuts white space off the ends of whatever it reads; Ignition takes everything as it is.
  const name = isCloudInit ? encoding.trim() : encoding;
  const stored = isCloudInit ? withoutEnd(value) : value;
  const known = name === "" ? PLAIN : name;
  if (stored.length === 0) {
    const absent = value.length === 0 ? "it is empty" : "it is blank: its reader has removed it";
    return { encoding: known, absent };
  }
  if (isCloudInit && Buffer.from(stored).toString("latin1") === REDACTED)
    return { encoding: known, absent: "cloud-init has removed it" };
  const steps = ENCODINGS[reader].get(name);
  if (steps === undefined) throw unknownEncoding(reader, name);
  let decoded: Uint8Array = stored;
  for (const step of steps)
    decoded = step === "gzip" ? await unpackGzip(decoded, known) : fromBase64(decoded, known, reader);
  if (!isCloudInit && steps.length > 0 && Buffer.from(decoded).toString("latin1") === EMPTY_CONFIG)
    return { encoding: known, absent: "Ignition has removed it" };
  return { encoding: known, value: withinLimit(decoded) };
}

/** Returns a value as it is. @throws PvbusError `ERR_VALUE_TOO_LONG` */
export function decodePlain(value: Uint8Array): Decoded {
  if (value.length === 0) return { encoding: PLAIN, absent: "it is empty" };
  return { encoding: PLAIN, value: withinLimit(value) };
}

/** Decodes base64, and takes what is none as the text that it is. @throws PvbusError `ERR_VALUE_TOO_LONG` */
export function decodeBase64OrText(text: string): Decoded {
  const bytes = decodeBase64(text.replace(/\s+/g, ""));
  if (bytes === undefined || bytes.length === 0) return decodePlain(Buffer.from(text));
  return { encoding: "base64", value: withinLimit(bytes) };
}

/** Decodes base64 that a key beside it announces. @throws PvbusError `ERR_VALUE_INVALID`, `ERR_VALUE_TOO_LONG` */
export function decodeAnnounced(value: Uint8Array): Decoded {
  if (value.length === 0) return { encoding: "base64", absent: "it is empty" };
  return { encoding: "base64", value: withinLimit(fromBase64(value, "base64", "cloud-init")) };
}

/** Line ends stand inside what people paste; cloud-init passes over all white space, Ignition over line ends alone. */
function fromBase64(value: Uint8Array, name: string, reader: BootDataReader): Uint8Array {
  const text = Buffer.from(value).toString("latin1");
  const bytes = decodeBase64(text.replace(reader === "cloud-init" ? /\s+/g : /[\r\n]+/g, ""));
  if (bytes !== undefined) return bytes;
  throw pvbusError(
    "ERR_VALUE_INVALID",
    `the value is said to be ${name} but is no padded base64; set it again`,
  );
}

async function unpackGzip(value: Uint8Array, name: string): Promise<Uint8Array> {
  try {
    return await unpack(value, { maxOutputLength: MAX_BOOT_DATA_BYTES });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw tooLong();
    throw pvbusError("ERR_VALUE_INVALID", `the value is said to be ${name} but is no gzip; set it again`, {
      cause,
    });
  }
}

function withinLimit(value: Uint8Array): Uint8Array {
  if (value.length > MAX_BOOT_DATA_BYTES) throw tooLong();
  return value;
}

function tooLong(): Error {
  return pvbusError(
    "ERR_VALUE_TOO_LONG",
    `the value stands for more than ${MAX_BOOT_DATA_BYTES} bytes, which no boot configuration has; give it as a URL inside a short one`,
  );
}

function unknownEncoding(reader: BootDataReader, name: string): Error {
  const known = [...ENCODINGS[reader].keys()].filter((each) => each !== "").join(", ");
  const what =
    reader === "cloud-init" ? "cloud-init takes the value for plain text then" : "Ignition refuses it";
  return pvbusError(
    "ERR_VALUE_INVALID",
    `the encoding ${JSON.stringify(name)} is none that ${reader} knows (${known}): ${what}; set another one, or take the value --as-is`,
  );
}

/** Cuts white space off the end, as bytes. */
function withoutEnd(value: Uint8Array): Uint8Array {
  let end = value.length;
  while (end > 0 && isBlank(value[end - 1] as number)) end--;
  return value.subarray(0, end);
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}
