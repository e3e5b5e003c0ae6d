/**
 * The SMBIOS structure table (DMTF DSP0134): structures of a formatted area (type, length, handle, fields) and a set
 * of NUL-terminated strings that ends with an empty one; a field holds the number of its string, from 1.
 */

export interface SmbiosStructure {
  readonly type: number;
  /** The formatted area, header included; a view. */
  readonly fields: Uint8Array;
  /** Its strings without their NULs, views: all there are, whatever the fields count; one that the table's end cuts is none. */
  readonly strings: readonly Uint8Array[];
}

const HEADER_SIZE = 4;
const END_OF_TABLE = 127;
/** More than any firmware has; what follows is not looked at. */
const MAX_STRUCTURES = 4096;
/** Strings of the whole table, likewise. */
const MAX_STRINGS = 16_384;
const TWO_NULS = Buffer.alloc(2);

/**
 * Returns the structures of a table; any bytes are accepted, what is cut or out of bounds is left out.
 * @returns whether the table ends inside a structure
 */
export function* smbiosStructures(table: Uint8Array): Generator<SmbiosStructure, boolean, undefined> {
  let at = 0;
  let room = MAX_STRINGS;
  for (let count = 0; count < MAX_STRUCTURES && at + HEADER_SIZE <= table.length; count++) {
    const type = table[at] ?? END_OF_TABLE;
    const length = table[at + 1] ?? 0;
    if (type === END_OF_TABLE || length < HEADER_SIZE) return false;
    if (at + length > table.length) return true;
    const { strings, end } = readStrings(table, at + length, room);
    room -= strings.length;
    yield { type, fields: table.subarray(at, at + length), strings };
    at = end;
  }
  return at > table.length;
}

/** Returns the string whose number stands at an offset of the fields; undefined when there is none. */
export function smbiosString({ fields, strings }: SmbiosStructure, offset: number): Uint8Array | undefined {
  return strings[(fields[offset] ?? 0) - 1];
}

function readStrings(table: Uint8Array, start: number, room: number): { strings: Uint8Array[]; end: number } {
  // Without any string two NULs follow, else the one that is the empty string.
  if (start >= table.length || table[start] === 0) return { strings: [], end: start + 2 };
  const bytes = Buffer.from(table.buffer, table.byteOffset, table.length);
  const found = bytes.indexOf(TWO_NULS, start);
  const last = found < 0 ? table.length : found;
  const strings: Uint8Array[] = [];
  for (let at = start; at < last && strings.length < room; ) {
    const end = bytes.indexOf(0, at);
    // The table's end cuts it: nobody knows how it goes on.
    if (end < 0) break;
    strings.push(table.subarray(at, end));
    at = end + 1;
  }
  return { strings, end: found < 0 ? table.length + 1 : last + 2 };
}

/** Where the fields of /sys/class/dmi/id stand: structure type, offset of the string's number. */
const STRINGS: Readonly<Record<string, readonly [number, number]>> = {
  bios_vendor: [0, 0x04],
  bios_version: [0, 0x05],
  sys_vendor: [1, 0x04],
  product_name: [1, 0x05],
  product_version: [1, 0x06],
  product_serial: [1, 0x07],
  product_sku: [1, 0x19],
  product_family: [1, 0x1a],
  board_vendor: [2, 0x04],
  board_name: [2, 0x05],
  chassis_vendor: [3, 0x04],
  chassis_asset_tag: [3, 0x08],
};
/** Second extension byte of type 0 and its bit "is a virtual machine". */
const VM_BYTE = 0x13;
const VM_BIT = 0x10;

/** What the table says, as far as detection asks. */
export interface SmbiosTexts {
  /** Texts by the names of /sys/class/dmi/id; the first structure of a type counts. */
  readonly texts: ReadonlyMap<string, string>;
  /** The firmware says that this is a virtual machine; undefined when it says nothing about it. */
  readonly vmBit: boolean | undefined;
}

/** Reads a table; any bytes are accepted, what is cut or out of bounds is left out. */
export function parseSmbios(table: Uint8Array): SmbiosTexts {
  const texts = new Map<string, string>();
  const seen = new Set<number>();
  let vmBit: boolean | undefined;
  for (const structure of smbiosStructures(table)) {
    const { type, fields } = structure;
    if (seen.has(type)) continue;
    seen.add(type);
    for (const [name, text] of textsOf(structure)) texts.set(name, text);
    if (type === 0 && fields.length > VM_BYTE) vmBit = ((fields[VM_BYTE] ?? 0) & VM_BIT) !== 0;
  }
  return { texts, vmBit };
}

function* textsOf(structure: SmbiosStructure): Generator<[name: string, text: string]> {
  for (const [name, [owner, offset]] of Object.entries(STRINGS)) {
    const bytes = owner === structure.type ? smbiosString(structure, offset) : undefined;
    if (bytes !== undefined) yield [name, Buffer.from(bytes).toString("utf8").trim()];
  }
}
