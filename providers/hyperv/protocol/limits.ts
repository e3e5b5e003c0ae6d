import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../../src/base/errors.js";
import type { Limits } from "../../../src/contract/capabilities.js";
import { HV_KVP_EXCHANGE_MAX_KEY_SIZE, HV_KVP_EXCHANGE_MAX_VALUE_SIZE } from "./record.js";

/** Sizes that the store keeps to on writing. */
export type WriteLimits = Required<Limits>;

const KEY_BYTES = HV_KVP_EXCHANGE_MAX_KEY_SIZE - 1;
const VALUE_BYTES = HV_KVP_EXCHANGE_MAX_VALUE_SIZE - 1;

/** What the host surely gets whole: the kernel cuts longer ones silently (Linux drivers/hv/hv_kvp.c, kvp_respond_to_host). */
export const HOST_LIMITS = limits([254, KEY_BYTES], [1022, VALUE_BYTES]);
/** What the file fields hold; the host gets the first {@link HOST_LIMITS} units only. */
export const FILE_LIMITS = limits([KEY_BYTES, KEY_BYTES], [VALUE_BYTES, VALUE_BYTES]);
/** What Windows' service exchanges, characters of three bytes at most (Microsoft, "Using the Registry to exchange data"). */
export const REGISTRY_LIMITS = limits([255, 255 * 3], [1023, 1023 * 3]);
/**
 * What OpenBSD's kernel stores whole: it cuts written values at 255 characters in silence, though the protocol has 1023
 * (sys/dev/pv/hypervic.c). Its characters are Latin-1, of two bytes at most in UTF-8.
 */
export const OPENBSD_LIMITS = limits([255, 255 * 2], [255, 255 * 2]);

type UnitsAndBytes = readonly [units: number, bytes: number];

function limits(key: UnitsAndBytes, value: UnitsAndBytes): WriteLimits {
  return { maxKeyUnits: key[0], maxKeyBytes: key[1], maxValueUnits: value[0], maxValueBytes: value[1] };
}

/**
 * Checks a pair before anything is written: sizes in UTF-16 units as the host counts and in bytes as the record does,
 * and that the value is text without NUL. Invalid UTF-8 would hide every later record: the kernel fails that
 * index and the host stops enumerating there (Linux fs/nls/nls_base.c, drivers/hv/hv_kvp.c).
 * @throws PvbusError `ERR_KEY_TOO_LONG`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`
 */
export function checkPair(key: string, value: Uint8Array, limits: WriteLimits): void {
  const { maxKeyUnits, maxKeyBytes, maxValueUnits, maxValueBytes } = limits;
  const keyBytes = Buffer.byteLength(key);
  if (key.length > maxKeyUnits || keyBytes > maxKeyBytes) {
    throw pvbusError(
      "ERR_KEY_TOO_LONG",
      `the key has ${key.length} UTF-16 units and ${keyBytes} bytes; allowed are ${maxKeyUnits} units and ` +
        `${maxKeyBytes} bytes, shorten it`,
    );
  }
  if (!isUtf8(value) || value.includes(0)) {
    throw pvbusError(
      "ERR_VALUE_INVALID",
      "the value must be UTF-8 text without NUL; encode other bytes (base64)",
    );
  }
  const valueUnits = Buffer.from(value.buffer, value.byteOffset, value.length).toString("utf8").length;
  if (valueUnits > maxValueUnits || value.length > maxValueBytes) {
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the value has ${valueUnits} UTF-16 units and ${value.length} bytes; allowed are ${maxValueUnits} units and ` +
        `${maxValueBytes} bytes, shorten it or use bus.portable(), which splits`,
    );
  }
}

/**
 * Checks a pair for OpenBSD's kernel, whose text is Latin-1.
 * @throws PvbusError `ERR_KEY_INVALID` for a slash, which would change the pool, a line end, which would split the name
 *   in listings, or a character beyond U+00FF; `ERR_VALUE_INVALID` for one in the value; limits as {@link checkPair}
 */
export function checkOpenbsdPair(key: string, value: Uint8Array): void {
  checkPair(key, value, OPENBSD_LIMITS);
  if (/[/\n]/.test(key)) {
    throw pvbusError(
      "ERR_KEY_INVALID",
      "OpenBSD's kernel takes no slash and no line end in the name of a record; use another separator",
    );
  }
  const rule = "OpenBSD's kernel takes characters up to U+00FF only; encode others";
  if (!isLatin1(key)) throw pvbusError("ERR_KEY_INVALID", rule);
  if (!isLatin1(Buffer.from(value).toString("utf8")))
    throw pvbusError("ERR_VALUE_INVALID", `${rule} (base64)`);
}

/** Reports whether each character is one byte to the kernel. */
export function isLatin1(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0xff) return false;
  return true;
}
