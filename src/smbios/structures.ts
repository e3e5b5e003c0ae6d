/**
 * The SMBIOS structure table (DMTF DSP0134): structures of a formatted area (type, length, handle, fields) and a set
 * of NUL-terminated strings that ends with an empty one; a field holds the number of its string, from 1.
 */

/** One structure. */
export interface SmbiosStructure {
  /** Its type. */
  readonly type: number;
  /** The formatted area, header included; a view. */
  readonly fields: Uint8Array;
  /**
   * Its strings as bytes without their NULs; views. Counts inside the fields may say otherwise: these are all there are. One that
   * the table's end cuts is none of them: nobody knows what it was.
   */
  readonly strings: readonly Uint8Array[];
}

const HEADER_SIZE = 4;
const END_OF_TABLE = 127;
/** More than any firmware has; what follows is not looked at. */
const MAX_STRUCTURES = 4096;

/**
 * Gives the structures of a table; any bytes are accepted, what is cut or out of bounds is left out.
 * @returns whether the table ends inside a structure
 */
export function* smbiosStructures(table: Uint8Array): Generator<SmbiosStructure, boolean, undefined> {
  let at = 0;
  for (let count = 0; count < MAX_STRUCTURES && at + HEADER_SIZE <= table.length; count++) {
    const type = table[at] ?? END_OF_TABLE;
    const length = table[at + 1] ?? 0;
    if (type === END_OF_TABLE || length < HEADER_SIZE) return false;
    if (at + length > table.length) return true;
    const { strings, end } = readStrings(table, at + length);
    yield { type, fields: table.subarray(at, at + length), strings };
    at = end;
  }
  return at > table.length;
}

/** Tells whether a table ends inside a structure: what stood there is left out. */
export function isCutTable(table: Uint8Array): boolean {
  const structures = smbiosStructures(table);
  for (;;) {
    const { done, value } = structures.next();
    if (done === true) return value;
  }
}

/** Gives the string whose number stands at an offset of the fields; undefined when there is none. */
export function smbiosString({ fields, strings }: SmbiosStructure, offset: number): Uint8Array | undefined {
  return strings[(fields[offset] ?? 0) - 1];
}

function readStrings(table: Uint8Array, start: number): { strings: Uint8Array[]; end: number } {
  const strings: Uint8Array[] = [];
  let at = start;
  while (at < table.length && table[at] !== 0) {
    const end = table.indexOf(0, at);
    if (end < 0) return { strings, end: table.length + 1 };
    strings.push(table.subarray(at, end));
    at = end + 1;
  }
  // Without any string two NULs follow, else the one that is the empty string.
  return { strings, end: strings.length === 0 ? at + 2 : at + 1 };
}
