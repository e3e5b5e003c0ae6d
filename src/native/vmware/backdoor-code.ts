/*
 * Machine code of VMware's backdoor; its assembly is test/support/backdoor.s and backdoor-arm64.s, and a test compares both.
 * Leaf functions without a stack: what the caller keeps is parked in registers that nobody touches, on Windows also in the
 * caller's home space.
 *
 *   int64 calls(u64 registers[count][7], int64 count)  executes operations until one leaves bit 16 of ECX clear; returns how many
 *                                                      were left out
 *   int64 send/fill(u64 registers[7], int64)           one string instruction
 *   int64 probe(block)                                 tries one operation where a fault ends nothing
 */

export type BackdoorTarget = "linux-x64" | "linux-arm64" | "win32-x64";

/** What leaves to the hypervisor: `in eax, dx`, `vmcall`, `vmmcall`; on arm64 a system register. */
export type Trap = "in" | "vmcall" | "vmmcall" | "mrs";

export interface BackdoorCode {
  readonly calls: Buffer;
  /** Moves memory to the hypervisor; the same as {@link BackdoorCode.calls} where the trap itself moves it. */
  readonly send: Buffer;
  readonly fill: Buffer;
  /**
   * Tries one operation. On Linux in a child that shares this memory and has handlers of its own; returns its pid or −errno. On
   * Windows under the vectored exception handler that is part of it.
   */
  readonly probe: Buffer;
  /** Where in the probe the exception handler begins. */
  readonly handlerAt?: number;
}

/** Bytes of the probe's block: seven registers, the mark of survival, a signal's action. */
export const PROBE_BLOCK_SIZE = 128;
/** Where the probe's mark of survival is. */
export const PROBE_SURVIVED = 56;

/** Returns the target of a system; undefined where there is no code for it. */
export function backdoorTarget(platform: string, arch: string): BackdoorTarget | undefined {
  const targets = ["linux-x64", "linux-arm64", "win32-x64"] as const;
  return targets.find((target) => target === `${platform}-${arch}`);
}

/** Returns the traps that a target has, the port before the hypercalls. */
export function trapsOf(
  target: BackdoorTarget,
  hypercalls: readonly ("vmcall" | "vmmcall")[],
): readonly Trap[] {
  if (target === "linux-arm64") return ["mrs"];
  return target === "linux-x64" ? ["in", ...hypercalls] : ["in"];
}

export function backdoorCode(target: BackdoorTarget, trap: Trap): BackdoorCode {
  if (target === "linux-arm64") return ARM64;
  if (target === "win32-x64") return WIN64;
  const calls = sysvCalls(trap);
  const bulk = (instruction: string): Buffer =>
    trap === "in" ? code(SYSV_ENTRY, KEEP, LOAD, instruction, STORE, "31c0", RESTORE, "c3") : calls;
  return { calls, send: bulk(REP_OUTSB), fill: bulk(REP_INSB), probe: linuxProbe(trap) };
}

const OPCODE: Readonly<Record<string, string>> = { in: "ed", vmcall: "0f01c1", vmmcall: "0f01d9" };
const REP_OUTSB = "fcf36e";
const REP_INSB = "fcf36c";

const LOAD = "498b00498b5808498b4810498b5018498b7020498b7828498b6830";
const STORE = "498900498958084989481049895018498970204989782849896830";
const KEEP = "4989d94989ea";
const RESTORE = "4c89cb4c89d5";
const SYSV_ENTRY = "f30f1efa4989f8";
const WIN64_ENTRY = "f30f1efa4989c8";
const WIN64_KEEP = `${KEEP}4989f348897c2408`;
const WIN64_RESTORE = `${RESTORE}4c89de488b7c2408c3`;

function sysvCalls(trap: Trap): Buffer {
  const opcode = OPCODE[trap] ?? "";
  const next = `49ffcb740cf7c1000001004d8d403875${byte(0xb9 - opcode.length / 2)}4c89d8`;
  return code(SYSV_ENTRY, "4989f3", KEEP, LOAD, opcode, STORE, next, RESTORE, "c3");
}

function linuxProbe(trap: Trap): Buffer {
  const opcode = OPCODE[trap] ?? "";
  const size = opcode.length / 2;
  const handle = (signal: number): string => `bf${byte(signal)}000000b80d0000000f05`;
  return code(
    `${SYSV_ENTRY}488d05${byte(0xaf + size)}000000`,
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

const WIN64: BackdoorCode = {
  calls: code(
    WIN64_ENTRY,
    `${WIN64_KEEP}4889542410${LOAD}ed${STORE}`,
    "48ff4c2410740cf7c1000001004d8d403875b6488b442410",
    WIN64_RESTORE,
  ),
  send: code(WIN64_ENTRY, WIN64_KEEP, LOAD, REP_OUTSB, STORE, "31c0", WIN64_RESTORE),
  fill: code(WIN64_ENTRY, WIN64_KEEP, LOAD, REP_INSB, STORE, "31c0", WIN64_RESTORE),
  probe: code(
    `${WIN64_ENTRY}${WIN64_KEEP}49c7403800000000${LOAD}ed${STORE}49c740380100000031c0${WIN64_RESTORE}`,
    "f30f1efa488b5108488d05bcffffff483982f80000007514488d05d0ffffff488982f8000000b8ffffffffc331c0c3",
  ),
  handlerAt: 109,
};

const ARM64: BackdoorCode = {
  calls: code(
    "5f2403d5e90300aaea0301aa200540a9220d41a9241542a9261940f9c70180d2c710c0f21f0133d5200500a9220d01a9",
    "241502a9261900f94a0500f16000005429e1009142fe8737e0030aaac0035fd6",
  ),
  send: code(
    "5f2403d5e90300aa200540a9220d41a9241542a9261940f9070380d2c710c0f21f0133d5200500a9220d01a9241502a9",
    "261900f9000080d2c0035fd6",
  ),
  fill: code(
    "5f2403d5e90300aa200540a9220d41a9241542a9261940f9870380d2c710c0f21f0133d5200500a9220d01a9241502a9",
    "261900f9000080d2c0035fd6",
  ),
  probe: code(
    "5f2403d5e90300aa41060010212100f90280a8d2222500f9212900f93f2d00f93f1d00f9002088d2010080d2020080d2",
    "030080d2040080d2881b80d2010000d4600400b5800080d221010191020080d2030180d2c81080d2010000d4e00080d2",
    "21010191020080d2030180d2c81080d2010000d4600180d221010191020080d2030180d2c81080d2010000d4200540a9",
    "220d41a9241542a9261940f9c70180d2c710c0f21f0133d5200500a9220d01a9241502a9261900f9210080d2211d00f9",
    "000080d2c80b80d2010000d4c0035fd65f2403d5600180d2c80b80d2010000d4",
  ),
};

function byte(number: number): string {
  return (number & 0xff).toString(16).padStart(2, "0");
}

function code(...parts: readonly string[]): Buffer {
  return Buffer.from(parts.join(""), "hex");
}
