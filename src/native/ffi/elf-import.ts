/** A 64-bit little-endian ELF object as it lies in memory. */
export interface ElfImage {
  readonly base: number;
  /** Returns bytes at an address. @throws Error where nothing is to be read */
  read(address: number, bytes: number): Buffer;
}

const ELF_64_LITTLE_1 = Buffer.from("7f454c46020101", "hex");
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const [DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_STRSZ, DT_PLTREL, DT_JMPREL] = [2, 5, 6, 7, 10, 20, 23];
const DYNAMIC_BYTES = 16;
const RELA_BYTES = 24;
const SYMBOL_BYTES = 24;
/** R_X86_64_JUMP_SLOT and R_AARCH64_JUMP_SLOT, by e_machine. */
const JUMP_SLOT: Readonly<Record<number, number>> = { 62: 7, 183: 1026 };

/**
 * Finds the slots through which an object calls imported functions (ELF gABI, dynamic linking).
 * @returns their addresses by the functions' names; none of what is no such object
 * @throws Error when the object points outside of what may be read
 */
export function importSlots(image: ElfImage): ReadonlyMap<string, number> {
  const slots = new Map<string, number>();
  const header = image.read(image.base, HEADER_BYTES);
  const jumpSlot = JUMP_SLOT[header.readUInt16LE(18)];
  if (!header.subarray(0, ELF_64_LITTLE_1.length).equals(ELF_64_LITTLE_1) || jumpSlot === undefined)
    return slots;
  const dynamic = readDynamic(image, header);
  if (dynamic?.get(DT_PLTREL) !== DT_RELA) return slots;
  const area = (at: number, bytes: number): Buffer => {
    const address = dynamic.get(at) ?? 0;
    // glibc has added the base to what it found here, musl has not.
    return image.read(address < image.base ? image.base + address : address, bytes);
  };
  const entries = rowsOf(area(DT_JMPREL, dynamic.get(DT_PLTRELSZ) ?? 0), RELA_BYTES).map((row) => ({
    offset: Number(row.readBigUInt64LE(0)),
    type: row.readUInt32LE(8),
    symbol: row.readUInt32LE(12),
  }));
  const last = entries.reduce((most, entry) => Math.max(most, entry.symbol), 0);
  const symbols = area(DT_SYMTAB, (last + 1) * SYMBOL_BYTES);
  const names = area(DT_STRTAB, dynamic.get(DT_STRSZ) ?? 0);
  for (const { offset, type, symbol } of entries) {
    const name = symbols.readUInt32LE(symbol * SYMBOL_BYTES);
    const end = names.indexOf(0, name);
    if (type === jumpSlot && end > name) slots.set(names.toString("latin1", name, end), image.base + offset);
  }
  return slots;
}

/** Returns the values of the dynamic section by their tags. */
function readDynamic(image: ElfImage, header: Buffer): ReadonlyMap<number, number> | undefined {
  const first = Number(header.readBigUInt64LE(32));
  const [each, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
  if (each !== PROGRAM_HEADER_BYTES) return undefined;
  const headers = rowsOf(image.read(image.base + first, each * count), each).map((row) => ({
    type: row.readUInt32LE(0),
    address: Number(row.readBigUInt64LE(16)),
    bytes: Number(row.readBigUInt64LE(40)),
  }));
  const dynamic = headers.find(({ type }) => type === PT_DYNAMIC);
  // Only then the base is where the object's first page is.
  if (dynamic === undefined || headers.find(({ type }) => type === PT_LOAD)?.address !== 0) return undefined;
  const values = new Map<number, number>();
  for (const row of rowsOf(image.read(image.base + dynamic.address, dynamic.bytes), DYNAMIC_BYTES)) {
    const tag = Number(row.readBigUInt64LE(0));
    if (tag === 0) break;
    values.set(tag, Number(row.readBigUInt64LE(8)));
  }
  return values;
}

function rowsOf(table: Buffer, bytes: number): Buffer[] {
  const count = Math.floor(table.length / bytes);
  return Array.from({ length: count }, (_, index) => table.subarray(index * bytes, (index + 1) * bytes));
}
