import type { HostAction } from "./model.js";
import { KEY_BYTES, RECORD_BYTES, recordOf, slotsOf } from "./readers.js";

/**
 * Returns the file as the vendor's daemon leaves it after a change: it takes the whole records, changes the first match by
 * string copies, which leave the bytes behind the NULs, and writes all of them again.
 */
export function vendorRewrite(file: Buffer, action: HostAction): Buffer {
  if (action.kind === "start") return file;
  const records = Buffer.from(file.subarray(0, file.length - (file.length % RECORD_BYTES)));
  const at = slotsOf(records).findIndex(({ key }) => key === action.key);
  if (action.kind === "set") {
    if (at < 0) return Buffer.concat([records, recordOf(action)]);
    copyText(records, at * RECORD_BYTES + KEY_BYTES, action.value);
    return records;
  }
  if (at < 0) return records;
  for (let to = at * RECORD_BYTES; to + RECORD_BYTES < records.length; to += RECORD_BYTES) {
    for (const [field, size] of [
      [to, KEY_BYTES],
      [to + KEY_BYTES, RECORD_BYTES - KEY_BYTES],
    ] as const) {
      const next = records.subarray(field + RECORD_BYTES, field + RECORD_BYTES + size);
      const end = next.indexOf(0);
      next.copy(records, field, 0, end < 0 ? size : end + 1);
    }
  }
  return records.subarray(0, records.length - RECORD_BYTES);
}

function copyText(into: Buffer, at: number, text: string): void {
  into[at + into.write(text, at, "utf8")] = 0;
}
