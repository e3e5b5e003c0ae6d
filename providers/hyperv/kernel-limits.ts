import { pvbusError } from "../../src/base/errors.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import { checkPair, type WriteLimits } from "./keys.js";
import { poolCapabilities } from "./pool-files.js";

/** Bytes of the longest UTF-8 form of a Latin-1 character. */
const UTF8_PER_UNIT = 2;
const KEY_UNITS = 255;
const VALUE_UNITS = 255;

/**
 * What OpenBSD's kernel stores whole: it cuts written values at 255 characters in silence, though the protocol has 1023
 * (sys/dev/pv/hypervic.c).
 */
const KERNEL_LIMITS: WriteLimits = {
  keyUnits: KEY_UNITS,
  keyBytes: KEY_UNITS * UTF8_PER_UNIT,
  valueUnits: VALUE_UNITS,
  valueBytes: VALUE_UNITS * UTF8_PER_UNIT,
};

/** Returns what OpenBSD's pools can do: Guest takes new names, Auto new values, nothing is removed. */
export function kernelCapabilities(): Capabilities {
  return poolCapabilities(KERNEL_LIMITS, ({ name }) => ({
    write: name === "Guest" || name === "Auto",
    delete: false,
  }));
}

/**
 * Checks a pair for OpenBSD's kernel, whose text is Latin-1.
 * @throws PvbusError `ERR_KEY_INVALID` for a slash, which would change the pool, a line end, which would split the name
 *   in listings, or a character beyond U+00FF; `ERR_VALUE_INVALID` for one in the value; limits as {@link checkPair}
 */
export function checkKernelPair(key: string, value: Uint8Array): void {
  checkPair(key, value, KERNEL_LIMITS);
  if (/[/\n]/.test(key)) {
    throw pvbusError(
      "ERR_KEY_INVALID",
      "OpenBSD's kernel takes no slash and no line end in the name of a record; use another separator",
    );
  }
  if (!isLatin1(key))
    throw pvbusError("ERR_KEY_INVALID", "OpenBSD's kernel takes characters up to U+00FF only; encode others");
  if (!isLatin1(Buffer.from(value).toString("utf8"))) {
    throw pvbusError(
      "ERR_VALUE_INVALID",
      "OpenBSD's kernel takes characters up to U+00FF only; encode others (base64)",
    );
  }
}

/** Reports whether each character is one byte to the kernel. */
export function isLatin1(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0xff) return false;
  return true;
}
