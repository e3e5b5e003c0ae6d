import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { pvbusError } from "../../../src/base/errors.js";

/** Longest value that is unpacked: what a small packed one may grow to. */
const MAX_UNPACKED_BYTES = 64 * 1024 * 1024;

const BASE64 = ["base64", "b64"];
const PACKED = ["gzip+base64", "gz+base64", "gzip+b64", "gz+b64"];
/** Spaces and line ends stand anywhere in what people paste. */
const BASE64_TEXT = /^[A-Za-z0-9+/]*={0,2}$/;

const unpack = promisify(gunzip);

/**
 * Decodes a value by what its companion key `….encoding` says, as cloud-init and Ignition do: base64, gzip in base64, and
 * anything else is plain.
 * @throws PvbusError `ERR_CORRUPT` for a value that is not what the encoding says, or that unpacks to more than 64 MiB
 */
export async function decodeValue(value: Uint8Array, encoding: string): Promise<Uint8Array> {
  const name = encoding.trim().toLowerCase();
  if (BASE64.includes(name)) return fromBase64(value, name);
  if (!PACKED.includes(name)) return value;
  try {
    return await unpack(fromBase64(value, name), { maxOutputLength: MAX_UNPACKED_BYTES });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ERR_CORRUPT") throw error;
    const why = code === "ERR_BUFFER_TOO_LARGE" ? "unpacks to more than 64 MiB" : "is no gzip";
    throw pvbusError("ERR_CORRUPT", `the value is said to be ${name} but ${why}; set it again`, {
      cause: error,
    });
  }
}

function fromBase64(value: Uint8Array, name: string): Buffer {
  const text = Buffer.from(value).toString("latin1").replace(/\s/g, "");
  if (BASE64_TEXT.test(text) && text.length % 4 !== 1) return Buffer.from(text, "base64");
  throw pvbusError("ERR_CORRUPT", `the value is said to be ${name} but is no base64; set it again`);
}
