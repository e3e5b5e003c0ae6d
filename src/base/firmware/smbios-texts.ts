import { type SmbiosStructure, smbiosString, smbiosStructures } from "./smbios-structures.js";

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
