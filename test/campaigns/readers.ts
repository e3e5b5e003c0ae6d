/*
 * Four kinds of readers of a pool file, each as its own documents and sources have it. They share nothing with
 * providers/hyperv on purpose: what they see judges what that writes.
 */

/** Bytes of a key's field. */
export const KEY_BYTES = 512;
/** Bytes of a value's field. */
export const VALUE_BYTES = 2048;
/** Bytes of a record. */
export const RECORD_BYTES = KEY_BYTES + VALUE_BYTES;

/** One pair as text. */
export interface Pair {
  readonly key: string;
  readonly value: string;
}

/** What a reader made of a file. */
export interface View {
  /** Who read. */
  readonly reader: string;
  /** Its value of each key. */
  readonly pairs: ReadonlyMap<string, string>;
  /** Why it does not read the file at all, or not to its end. */
  readonly refusal?: string;
}

const untilNul = (field: Buffer): string => {
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? field.length : end);
};

/** Returns one record's bytes, NULs behind both texts. */
export function recordOf({ key, value }: Pair): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  record.write(key, 0, "utf8");
  record.write(value, KEY_BYTES, "utf8");
  return record;
}

/** Returns a whole file. */
export function fileOf(pairs: readonly Pair[]): Buffer {
  return Buffer.concat(pairs.map(recordOf), pairs.length * RECORD_BYTES);
}

/** Returns every whole slot in order, those not in use (empty key) included. */
export function slotsOf(file: Buffer): Pair[] {
  const slots: Pair[] = [];
  for (let at = 0; at + RECORD_BYTES <= file.length; at += RECORD_BYTES) {
    slots.push({
      key: untilNul(file.subarray(at, at + KEY_BYTES)),
      value: untilNul(file.subarray(at + KEY_BYTES, at + RECORD_BYTES)),
    });
  }
  return slots;
}

/** Returns the records in order, without the slots that are not in use. */
export function recordsOf(file: Buffer): Pair[] {
  return slotsOf(file).filter(({ key }) => key !== "");
}

/** The host behind the vendor's daemon: enumerates all records, a later one replaces an earlier one of the same key. */
export function hostView(file: Buffer): View {
  return { reader: "host", pairs: new Map(recordsOf(file).map(({ key, value }) => [key, value])) };
}

/** The vendor's daemon for GET, SET and DELETE: the first match counts. */
export function vendorView(file: Buffer): View {
  const pairs = new Map<string, string>();
  for (const { key, value } of recordsOf(file)) if (!pairs.has(key)) pairs.set(key, value);
  return { reader: "vendor's daemon", pairs };
}

/**
 * cloud-init's HyperVKvpReportingHandler: whole records up to a torn tail, each field decoded whole (bytes that are no
 * UTF-8 end the reading), NULs stripped at both ends, so that what stands behind a NUL counts.
 */
export function cloudInitView(file: Buffer): View {
  return wholeFields("cloud-init", file, (text) => text.replace(/^\0+|\0+$/g, ""));
}

/** libazureinit-kvp: as cloud-init, but NULs are stripped at the end only and a file with a torn tail is refused. */
export function azureInitView(file: Buffer): View {
  if (file.length % RECORD_BYTES !== 0)
    return { reader: "azure-init", pairs: new Map(), refusal: `${file.length} bytes are no whole records` };
  return wholeFields("azure-init", file, (text) => text.replace(/\0+$/, ""));
}

function wholeFields(reader: string, file: Buffer, strip: (text: string) => string): View {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const pairs = new Map<string, string>();
  for (let at = 0; at + RECORD_BYTES <= file.length; at += RECORD_BYTES) {
    try {
      const key = strip(decoder.decode(file.subarray(at, at + KEY_BYTES)));
      // A slot that is not in use is no pair. Its value may end inside a character: a page border can divide one.
      if (file[at] === 0) continue;
      pairs.set(key, strip(decoder.decode(file.subarray(at + KEY_BYTES, at + RECORD_BYTES))));
    } catch {
      return { reader, pairs, refusal: `record ${at / RECORD_BYTES} is not UTF-8` };
    }
  }
  return { reader, pairs };
}

/** Who reads a field as a whole, bytes behind its NUL included, fails on what the vendor's daemon leaves there. */
export type Tails = "clean" | "vendor's";

/** Returns what the four see, without our own reader. */
export function viewsOf(file: Buffer, tails: Tails): View[] {
  const views = [hostView(file), vendorView(file)];
  return tails === "clean" ? [...views, cloudInitView(file), azureInitView(file)] : views;
}
