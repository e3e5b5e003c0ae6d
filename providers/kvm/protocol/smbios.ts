import { type SmbiosStructure, smbiosString, smbiosStructures } from "../../../src/base/firmware/smbios.js";
import { decodeBase64InSteps } from "../../../src/mdata/base64.js";
import type { Steps } from "../../../src/mdata/steps.js";

/** One field of the firmware's description: names as dmidecode's keywords have them, with a slash. */
export interface SmbiosField {
  readonly name: string;
  /** Name of its file in Linux' /sys/class/dmi/id. */
  readonly file: string;
  readonly type: number;
  /** Offset of the string's number; of the UUID itself for {@link UUID_FIELD}. */
  readonly offset: number;
}

/** The machine's UUID, the one field that is no string. */
export const UUID_FIELD: SmbiosField = { name: "system/uuid", file: "product_uuid", type: 1, offset: 8 };

/** The fields, in the order in which they are listed (DMTF DSP0134, types 0 to 3). */
export const FIELDS: readonly SmbiosField[] = [
  { name: "bios/vendor", file: "bios_vendor", type: 0, offset: 4 },
  { name: "bios/version", file: "bios_version", type: 0, offset: 5 },
  { name: "bios/release-date", file: "bios_date", type: 0, offset: 8 },
  { name: "system/manufacturer", file: "sys_vendor", type: 1, offset: 4 },
  { name: "system/product-name", file: "product_name", type: 1, offset: 5 },
  { name: "system/version", file: "product_version", type: 1, offset: 6 },
  { name: "system/serial-number", file: "product_serial", type: 1, offset: 7 },
  UUID_FIELD,
  { name: "system/sku-number", file: "product_sku", type: 1, offset: 25 },
  { name: "system/family", file: "product_family", type: 1, offset: 26 },
  { name: "baseboard/manufacturer", file: "board_vendor", type: 2, offset: 4 },
  { name: "baseboard/product-name", file: "board_name", type: 2, offset: 5 },
  { name: "baseboard/version", file: "board_version", type: 2, offset: 6 },
  { name: "baseboard/serial-number", file: "board_serial", type: 2, offset: 7 },
  { name: "baseboard/asset-tag", file: "board_asset_tag", type: 2, offset: 8 },
  { name: "chassis/manufacturer", file: "chassis_vendor", type: 3, offset: 4 },
  { name: "chassis/version", file: "chassis_version", type: 3, offset: 6 },
  { name: "chassis/serial-number", file: "chassis_serial", type: 3, offset: 7 },
  { name: "chassis/asset-tag", file: "chassis_asset_tag", type: 3, offset: 8 },
];

const OEM_TYPE = 11;
const UUID_BYTES = 16;
/** More than any firmware has: what follows is left out. */
const MAX_STRINGS = 4096;
/** The name of a value ends within so many bytes. */
const MAX_NAME_BYTES = 1024;
/** `APP:NAME=VALUE`, with systemd's form of the application for values in base64: `APP.binary:NAME=BASE64`. */
const NAMED = /^([A-Za-z0-9._-]+):([^=]+)=/;
const BINARY = ".binary";

/** @returns values by name, OEM strings by number too; whether the table ends inside a structure, which is left out */
export function* readTable(
  table: Uint8Array,
  hasMixedUuid: boolean,
): Steps<{ readonly values: Map<string, Uint8Array>; readonly isCut: boolean }> {
  const values = new Map<string, Uint8Array>();
  const seen = new Set<number>();
  const strings: Uint8Array[] = [];
  const structures = smbiosStructures(table);
  let next = structures.next();
  for (; next.done !== true; next = structures.next()) {
    const structure = next.value;
    // All there are: the count says their number modulo 256 at best, and there may be several such structures.
    if (structure.type === OEM_TYPE)
      for (const string of structure.strings.slice(0, MAX_STRINGS - strings.length)) strings.push(string);
    yield undefined;
    if (seen.has(structure.type)) continue;
    seen.add(structure.type);
    for (const field of FIELDS.filter(({ type }) => type === structure.type)) {
      const value =
        field === UUID_FIELD ? uuid(structure, hasMixedUuid) : smbiosString(structure, field.offset);
      if (value !== undefined) values.set(field.name, value);
    }
  }
  for (const string of strings) {
    const named = yield* namedString(string);
    if (named !== undefined && !values.has(`oem/${named.name}`)) values.set(`oem/${named.name}`, named.value);
  }
  for (const [at, string] of strings.entries()) values.set(`oem/${at + 1}`, string);
  return { values, isCut: next.value };
}

/** Returns the names to be listed: an OEM string that has a name of its own is listed under that alone. */
export function* listedNames(values: ReadonlyMap<string, Uint8Array>): Steps<string[]> {
  const names: string[] = [];
  for (const [name, value] of values) {
    const named = /^oem\/\d+$/.test(name) ? yield* namedString(value) : undefined;
    const first = named && values.get(`oem/${named.name}`);
    // Of two strings with one name the first is read by it: the second keeps its number.
    if (named === undefined || first === undefined || Buffer.compare(first, named.value) !== 0)
      names.push(name);
  }
  return names;
}

/** Reports whether the entry point, of either form, is of SMBIOS 2.6 or later: there UUIDs are mixed-endian. */
export function hasMixedUuids(entryPoint: Uint8Array): boolean {
  const text = Buffer.from(entryPoint).toString("latin1", 0, 5);
  const at = text === "_SM3_" ? 7 : text.startsWith("_SM_") ? 6 : undefined;
  if (at === undefined) return true;
  const [major = 0, minor = 0] = entryPoint.subarray(at, at + 2);
  return major > 2 || (major === 2 && minor >= 6);
}

/** Returns name (`APP:NAME`) and value of an OEM string that has both, the value out of base64 where it is said to be in it. */
function* namedString(
  string: Uint8Array,
): Steps<{ readonly name: string; readonly value: Uint8Array } | undefined> {
  yield undefined;
  const bytes = Buffer.from(string.buffer, string.byteOffset, string.byteLength);
  const found = NAMED.exec(bytes.toString("latin1", 0, MAX_NAME_BYTES));
  if (found === null) return undefined;
  const [{ length }, app, name] = found as unknown as [string, string, string];
  const value = bytes.subarray(length);
  const text = Buffer.from(name, "latin1").toString("utf8");
  if (!app.endsWith(BINARY)) return { name: `${app}:${text}`, value };
  const decoded = yield* decodeBase64InSteps(value.toString("latin1"));
  if (decoded === undefined) return { name: `${app}:${text}`, value };
  return { name: `${app.slice(0, -BINARY.length)}:${text}`, value: decoded };
}

/** Returns the UUID as text; all zeros and all ones stand for none. */
function uuid({ fields }: SmbiosStructure, isMixed: boolean): Uint8Array | undefined {
  const bytes = Buffer.from(fields.subarray(UUID_FIELD.offset, UUID_FIELD.offset + UUID_BYTES));
  if (bytes.length < UUID_BYTES || bytes.every((byte) => byte === 0) || bytes.every((byte) => byte === 0xff))
    return undefined;
  if (isMixed) {
    bytes.subarray(0, 4).reverse();
    bytes.subarray(4, 6).reverse();
    bytes.subarray(6, 8).reverse();
  }
  return Buffer.from(bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"));
}
