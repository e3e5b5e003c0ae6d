/*
 * Machine code of VMware's backdoor for x86-64; its assembly is test/support/backdoor.s, and a test compares both. Leaf
 * functions: RBX and RBP (on Windows RSI and RDI too) are kept in registers or in the caller's home space, the block's
 * address in R8.
 */

/** The instruction that leaves to the hypervisor: `in eax, dx`, `vmcall`, `vmmcall`. */
export type Trap = "in" | "vmcall" | "vmmcall";

const OPCODE: Readonly<Record<Trap, string>> = { in: "ed", vmcall: "0f01c1", vmmcall: "0f01d9" };

const LOAD = "498b00498b5808498b4810498b5018498b7020498b7828498b6830";
const STORE = "498900498958084989481049895018498970204989782849896830";
const KEEP = "4989d94989ea";
const RESTORE = "4c89cb4c89d5";
const WIN64_RESTORE = `${RESTORE}4c89de488b7c2408c3`;

const byte = (number: number): string => (number & 0xff).toString(16).padStart(2, "0");
const code = (...parts: readonly string[]): Buffer => Buffer.from(parts.join(""), "hex");

/**
 * `int64 calls(u64 registers[count][7], int64 count)`: executes operations until one leaves bit 16 of ECX clear; gives how
 * many were left out.
 */
export function callsCode(trap: Trap, platform: NodeJS.Platform): Buffer {
  const opcode = OPCODE[trap];
  const size = opcode.length / 2;
  if (platform === "win32") {
    const home = "4989f348897c24084889542410";
    const next = `48ff4c2410740cf7c1000001004d8d403875${byte(0xb7 - size)}488b442410`;
    return code("f30f1efa4989c8", KEEP, home, LOAD, opcode, STORE, next, WIN64_RESTORE);
  }
  const next = `49ffcb740cf7c1000001004d8d403875${byte(0xb9 - size)}4c89d8`;
  return code("f30f1efa4989f84989f3", KEEP, LOAD, opcode, STORE, next, RESTORE, "c3");
}

/** `int64 bulk(u64 registers[7], int64)`: one string instruction, `rep outsb` or `rep insb`; gives 0. */
export function bulkCode(direction: "send" | "fill", platform: NodeJS.Platform): Buffer {
  const opcode = direction === "send" ? "fcf36e" : "fcf36c";
  if (platform === "win32")
    return code("f30f1efa4989c8", KEEP, "4989f348897c2408", LOAD, opcode, STORE, "31c0", WIN64_RESTORE);
  return code("f30f1efa4989f8", KEEP, LOAD, opcode, STORE, "31c0", RESTORE, "c3");
}

/** Bytes of the block of {@link probeCode}: seven registers, the mark of survival, a signal's action. */
export const PROBE_BLOCK_SIZE = 128;
/** Where the probe's mark of survival is. */
export const PROBE_SURVIVED = 56;

/**
 * `int64 probe(block)` for Linux: a child that shares this memory tries one operation under signal handlers of its own, so
 * that a fault ends nothing but itself; the parent goes on behind it. Gives the child's pid or −errno.
 */
export function probeCode(trap: Trap): Buffer {
  const opcode = OPCODE[trap];
  const size = opcode.length / 2;
  const handle = (signal: number): string => `bf${byte(signal)}000000b80d0000000f05`;
  return code(
    `f30f1efa4989f8488d05${byte(0xaf + size)}000000`,
    "4989404049c74048000000444989405049c740580000000049c7403800000000",
    `b838000000bf0041000031f631d24531d20f0585c075${byte(0x77 + size)}`,
    `498d704031d241ba08000000${handle(4)}${handle(7)}${handle(11)}`,
    LOAD,
    opcode,
    STORE,
    "49c740380100000031ffb8e70000000f05",
    "c3f30f1efabf0b000000b8e70000000f05",
  );
}
