import { pvbusError } from "../base/errors.js";
import { Call, type CallOptions } from "../base/flow/call.js";
import type { KeyValues } from "../contract/key-values.js";

/** Options of {@link readNumbered}. */
export interface NumberedOptions extends CallOptions {
  /** Number of the first part. Default 0. */
  readonly first?: number | undefined;
  /** Most bytes of the whole value. Default 16 MiB. */
  readonly maxBytes?: number | undefined;
}

/** A value that stood under numbered keys. */
export interface NumberedValue {
  /** All parts in their order, with nothing between them. */
  readonly value: Uint8Array;
  /** How many parts there were. */
  readonly parts: number;
  /** Whether there is a part behind the gap that ended it: somebody has lost one, or left an old one. */
  readonly isGapped: boolean;
}

const MAX_BYTES = 16 * 1024 * 1024;
/** How far behind a gap is looked for a further part. */
const LOOK_AHEAD = 3;

/**
 * Reads a value that another program's host side has split over numbered keys, as libhvee does with `ignition.config.0`,
 * `ignition.config.1`, …: the first missing number ends it. Nothing says whether it is whole.
 * @param prefix native key up to the number: `External/ignition.config.`
 * @returns undefined when there is no first part
 * @throws PvbusError `ERR_VALUE_TOO_LONG`, and those of the reading
 */
export async function readNumbered(
  keys: Pick<KeyValues, "readBytes">,
  prefix: string,
  { first = 0, maxBytes = MAX_BYTES, ...options }: NumberedOptions = {},
): Promise<NumberedValue | undefined> {
  const call = new Call(options);
  const read = (at: number): Promise<Uint8Array | undefined> =>
    keys.readBytes(`${prefix}${at}`, { signal: call.signal, timeoutMs: call.remainingMs });
  const parts: Uint8Array[] = [];
  let length = 0;
  for (let part = await read(first); part !== undefined; part = await read(first + parts.length)) {
    length += part.length;
    if (length > maxBytes)
      throw pvbusError("ERR_VALUE_TOO_LONG", `the parts below "${prefix}" have more than ${maxBytes} bytes`);
    parts.push(part);
  }
  if (parts.length === 0) return undefined;
  let isGapped = false;
  for (let ahead = 1; ahead <= LOOK_AHEAD && !isGapped; ahead++)
    isGapped = (await read(first + parts.length + ahead)) !== undefined;
  return { value: Buffer.concat(parts, length), parts: parts.length, isGapped };
}
