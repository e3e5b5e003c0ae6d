/**
 * The SMBIOS structure table (DMTF DSP0134): structures of a formatted area (type, length, handle, fields) and a set
 * of NUL-terminated strings that ends with an empty one; a field holds the number of its string, from 1.
 */

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
const HEADER_SIZE = 4;
const END_OF_TABLE = 127;
/** More than any firmware has; what follows is not looked at. */
const MAX_STRUCTURES = 4096;
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
  let at = 0;
  for (let count = 0; count < MAX_STRUCTURES && at + HEADER_SIZE <= table.length; count++) {
    const type = table[at] ?? END_OF_TABLE;
    const length = table[at + 1] ?? 0;
    if (type === END_OF_TABLE || length < HEADER_SIZE || at + length > table.length) break;
    const { strings, end } = readStrings(table, at + length);
    if (!seen.has(type)) {
      seen.add(type);
      for (const [name, [owner, offset]] of Object.entries(STRINGS)) {
        const number = owner === type && offset < length ? (table[at + offset] ?? 0) : 0;
        const text = strings[number - 1];
        if (text !== undefined) texts.set(name, text);
      }
      if (type === 0 && length > VM_BYTE) vmBit = ((table[at + VM_BYTE] ?? 0) & VM_BIT) !== 0;
    }
    at = end;
  }
  return { texts, vmBit };
}

function readStrings(table: Uint8Array, start: number): { strings: string[]; end: number } {
  const strings: string[] = [];
  let at = start;
  while (at < table.length && table[at] !== 0) {
    const nul = table.indexOf(0, at);
    const end = nul < 0 ? table.length : nul;
    strings.push(Buffer.from(table.subarray(at, end)).toString("utf8").trim());
    at = end + 1;
  }
  // Without any string two NULs follow, else the one that is the empty string.
  return { strings, end: strings.length === 0 ? at + 2 : at + 1 };
}
