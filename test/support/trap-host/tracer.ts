import { basename } from "node:path";
import type { VmxBackdoor } from "../../../providers/testing.js";
import type { CpuidReader } from "../../../src/base/firmware/cpuid.js";
import { openCpuid } from "../../../src/native/cpu/cpuid.js";
import type { Registers } from "../../../src/native/vmware/backdoor-port.js";
import { cpuidOffsets, executableMappings } from "./cpuid-sites.js";
import { Ptrace, type RegisterName, type Stop, ThreadRegisters } from "./ptrace.js";

/** What plays the machine around a program. */
export interface TrapWorld {
  /** The backdoor behind the port instructions; undefined: they fault as on hardware. */
  readonly backdoor: VmxBackdoor | undefined;
  /** `vmcall` is offered in place of the port, which then faults. */
  readonly vmcall: boolean;
  /** Name that CPUID gives. */
  readonly signature: string;
  /** UNIX socket that stands in for the host's vsock; undefined: there is no vsock. */
  readonly vsockPath: string | undefined;
  /** Refuses privileged ports, as to a user without rights. */
  readonly refusePrivilegedPorts: boolean;
  /** Clears the upper halves of changed registers, as programs need it that take all 64 bits of them. */
  readonly clearsUpperHalves: boolean;
}

/** What was seen of a program. */
export interface TrapRecord {
  /** Exit code; undefined when a signal ended it. */
  code: number | undefined;
  /** The signal that ended it. */
  signal: number | undefined;
  /** CPUID instructions executed. */
  cpuids: number;
  /** vsock connections: context, port and own port. */
  readonly connections: { readonly cid: number; readonly port: number; readonly from: number }[];
}

const SIGILL = 4;
const SIGSEGV = 11;
const EVENT_EXEC = 4;
const EVENT_SECCOMP = 7;
const EVENT_STOP = 128;

const SYS = {
  close: 3,
  mmap: 9,
  socket: 41,
  connect: 42,
  bind: 49,
  setsockopt: 54,
  prctl: 157,
  seccomp: 317,
} as const;
const PROT_EXEC = 4;
const MAP_ANONYMOUS = 0x20;
const PR_SET_NO_NEW_PRIVS = 38n;
const SECCOMP_SET_MODE_FILTER = 1n;
const AF_UNIX = 1;
const AF_VSOCK = 40;
const EACCES = 13;
const EAFNOSUPPORT = 97;
const RED_ZONE = 128;
const SUN_SIZE = 110;

const CPUID = Buffer.from("0fa2", "hex");
const VMCALL = Buffer.from("0f01c1", "hex");
const HAS_VMCALL = 2;
const LB_PORT = 0x5658;
const HB_PORT = 0x5659;
const UD2 = Buffer.from("0f0b", "hex");
/** Files whose CPUID instructions are the machine's to answer: VMware's programs, Ignition and our page of code. */
const OURS = /^(vmware-|vmtoolsd|libvmtools|ignition|memfd:pvbus)/;

const NAMES = ["eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"] as const;
const FULL: readonly RegisterName[] = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"];

type AfterSyscall = (registers: ThreadRegisters) => void;

/**
 * Runs an unmodified program under ptrace and plays VMware's virtual machine monitor: CPUID, the port instructions with
 * their string forms, and the host's vsock. Where the processor cannot make CPUID fault, the instructions of VMware's programs
 * and of our own page are replaced by an illegal one when they are mapped.
 */
export class Tracer {
  readonly #ptrace = new Ptrace();
  readonly #world: TrapWorld;
  readonly #record: TrapRecord = { code: undefined, signal: undefined, cpuids: 0, connections: [] };
  readonly #afterSyscall = new Map<number, AfterSyscall>();
  readonly #patched = new Set<bigint>();
  readonly #vsocks = new Set<number>();
  readonly #ownPorts = new Map<number, number>();
  readonly #cpuid: CpuidReader;
  #main = 0;
  #isFiltered = false;

  constructor(world: TrapWorld) {
    this.#world = world;
    const cpuid = openCpuid();
    if (!("read" in cpuid)) throw new Error(cpuid.unreadable);
    this.#cpuid = cpuid.read;
  }

  /** Runs a program to its end, blocking; what it prints goes to two files. */
  run(command: readonly string[], env: NodeJS.ProcessEnv, outputs: readonly [string, string]): TrapRecord {
    this.#main = this.#ptrace.start(command, env, outputs);
    for (let stop = this.#ptrace.wait(); stop !== undefined; stop = this.#ptrace.wait()) this.#handle(stop);
    return this.#record;
  }

  #handle(stop: Stop): void {
    const { tid, kind, number } = stop;
    switch (kind) {
      case "exited":
      case "killed":
        this.#ptrace.forget(tid);
        this.#afterSyscall.delete(tid);
        if (tid === this.#main) this.#record[kind === "exited" ? "code" : "signal"] = number;
        return;
      case "event":
        if (number === EVENT_EXEC) this.#begun(tid);
        else if (number === EVENT_STOP) this.#afterSyscall.delete(tid);
        else if (number === EVENT_SECCOMP) this.#entered(tid);
        this.#resume(tid);
        return;
      case "syscall":
        this.#left(tid);
        this.#resume(tid);
        return;
      default:
        this.#resume(tid, this.#emulated(tid, number) ? 0 : number);
    }
  }

  /** The filter stops a thread in front of a call; its end is of interest where something is due there. */
  #resume(tid: number, signal = 0): void {
    this.#ptrace.resume(tid, signal, this.#afterSyscall.has(tid));
  }

  /** A new program: its own file is mapped, its libraries come later. */
  #begun(tid: number): void {
    this.#ptrace.forget(tid);
    if (tid === this.#main) this.#vsocks.clear();
    this.#patch(tid);
    if (!this.#isFiltered) this.#filter(tid);
  }

  /**
   * Has the kernel stop the program in front of the calls that `#enter` looks at, and at no others: a start of Node makes ten
   * thousand, and two stops at each of them are most of what a run takes.
   */
  #filter(tid: number): void {
    this.#isFiltered = true;
    this.#ptrace.resume(tid);
    if (this.#ptrace.wait(tid)?.kind !== "syscall") throw new Error("exec did not come back");
    const program = filter(this.#world.vsockPath !== undefined);
    const place = new ThreadRegisters(this.#ptrace, tid).get("rsp") - BigInt(RED_ZONE + 1024);
    const head = Buffer.alloc(16);
    head.writeUInt16LE(program.length / 8, 0);
    head.writeBigUInt64LE(place + 16n, 8);
    this.#ptrace.write(tid, place, Buffer.concat([head, program]));
    const results = [
      this.#ptrace.inject(tid, SYS.prctl, PR_SET_NO_NEW_PRIVS, 1n),
      this.#ptrace.inject(tid, SYS.seccomp, SECCOMP_SET_MODE_FILTER, 0n, place),
    ];
    if (results.some((each) => each !== 0)) throw new Error(`the kernel takes no filter: ${results}`);
  }

  #patch(tid: number): void {
    for (const { start, end, offset, path } of executableMappings(tid)) {
      const name = basename(path.replace(/ \(deleted\)$/, ""));
      if (!OURS.test(name)) continue;
      const offsets = name.startsWith("memfd:") ? this.#inPage(tid, start) : cpuidOffsets(path);
      for (const each of offsets) {
        const address = start + each - offset;
        if (address < start || address >= end) continue;
        if (!this.#ptrace.read(tid, address, 2).equals(CPUID)) continue;
        this.#ptrace.write(tid, address, UD2);
        this.#patched.add(address);
      }
    }
  }

  /** Our own page holds one short function, in which these bytes are the instruction. */
  #inPage(tid: number, start: bigint): readonly bigint[] {
    const at = this.#ptrace.read(tid, start, 4096).indexOf(CPUID);
    return at < 0 ? [] : [BigInt(at)];
  }

  #emulated(tid: number, signal: number): boolean {
    if (signal !== SIGILL && signal !== SIGSEGV) return false;
    const registers = new ThreadRegisters(this.#ptrace, tid);
    const rip = registers.get("rip");
    if (signal === SIGILL && this.#patched.has(rip)) return this.#answerCpuid(registers, rip);
    if (this.#world.vmcall) return this.#answerVmcall(tid, registers, rip);
    const code = this.#ptrace.read(tid, rip, 2);
    const string = code[0] === 0xf3 && (code[1] === 0x6c || code[1] === 0x6e);
    if (this.#world.backdoor === undefined || (code[0] !== 0xed && !string)) return false;
    if (!string) this.#answerPort(registers, this.#world.backdoor);
    else this.#answerString(tid, registers, this.#world.backdoor, code[1] === 0x6e ? "send" : "fill");
    registers.set("rip", rip + (string ? 2n : 1n));
    registers.store();
    return true;
  }

  #answerCpuid(registers: ThreadRegisters, rip: bigint): boolean {
    const leaf = registers.low("rax");
    this.#record.cpuids++;
    const real = this.#cpuid(leaf, registers.low("rcx"));
    let { eax, ebx, ecx, edx } = real;
    if (leaf === 1) ecx |= 1 << 31;
    if (leaf === 0x4000_0000) {
      const name = Buffer.from(this.#world.signature, "latin1");
      [eax, ebx, ecx, edx] = [0x4000_0010, name.readUInt32LE(0), name.readUInt32LE(4), name.readUInt32LE(8)];
    }
    if (leaf === 0x4000_0010)
      [eax, ebx, ecx, edx] = [2_000_000, 66_000, this.#world.vmcall ? HAS_VMCALL : 0, 0];
    for (const [name, value] of [
      ["rax", eax],
      ["rbx", ebx],
      ["rcx", ecx],
      ["rdx", edx],
    ] as const)
      registers.set(name, BigInt(value >>> 0));
    registers.set("rip", rip + 2n);
    registers.store();
    return true;
  }

  /** The port of a hypercall is flags: bit 0 for memory, bit 1 for the guest's direction. */
  #answerVmcall(tid: number, registers: ThreadRegisters, rip: bigint): boolean {
    const { backdoor } = this.#world;
    if (backdoor === undefined || !this.#ptrace.read(tid, rip, 3).equals(VMCALL)) return false;
    const flags = registers.low("rdx") & 0xffff;
    const channel = registers.get("rdx") - BigInt(flags);
    registers.set("rdx", channel | BigInt(flags === 0 ? LB_PORT : HB_PORT));
    if (flags === 0) this.#answerPort(registers, backdoor);
    else this.#answerString(tid, registers, backdoor, flags === 3 ? "send" : "fill");
    registers.set("rip", rip + 3n);
    registers.store();
    return true;
  }

  #answerPort(registers: ThreadRegisters, backdoor: VmxBackdoor): void {
    const upper = this.#world.clearsUpperHalves ? 0n : GARBAGE;
    give(registers, backdoor.trap({ registers: take(registers) }), upper);
  }

  #answerString(
    tid: number,
    registers: ThreadRegisters,
    backdoor: VmxBackdoor,
    direction: "send" | "fill",
  ): void {
    const address = registers.get(direction === "send" ? "rsi" : "rdi");
    const length = registers.low("rcx");
    const bytes = direction === "send" ? this.#ptrace.read(tid, address, length) : Buffer.alloc(length);
    const out = backdoor.trap({ registers: take(registers), memory: { direction, bytes } });
    registers.set("rbx", BigInt(out.ebx));
    registers.set("rcx", BigInt(out.ecx));
    if (out.ecx !== 0) return;
    if (direction === "fill") this.#ptrace.write(tid, address, bytes);
    registers.set(direction === "send" ? "rsi" : "rdi", address + BigInt(length));
  }

  #entered(tid: number): void {
    const after = this.#enter(tid, new ThreadRegisters(this.#ptrace, tid));
    if (after !== undefined) this.#afterSyscall.set(tid, after);
  }

  #left(tid: number): void {
    const after = this.#afterSyscall.get(tid);
    this.#afterSyscall.delete(tid);
    after?.(new ThreadRegisters(this.#ptrace, tid));
  }

  /** Looks at a call before the kernel does; gives what is due behind it. */
  #enter(tid: number, registers: ThreadRegisters): AfterSyscall | undefined {
    const fd = registers.low("rdi");
    switch (Number(registers.get("orig_rax"))) {
      case SYS.mmap:
        return () => this.#patch(tid);
      case SYS.socket:
        return this.#socket(registers);
      case SYS.close:
        this.#vsocks.delete(fd);
        return undefined;
      case SYS.bind:
        return this.#vsocks.has(fd) ? this.#bind(tid, fd, registers) : undefined;
      case SYS.setsockopt:
        return this.#vsocks.has(fd) && registers.low("rsi") === AF_VSOCK ? skip(registers, 0) : undefined;
      case SYS.connect:
        if (this.#vsocks.has(fd)) this.#connect(tid, fd, registers);
        return undefined;
      default:
        return undefined;
    }
  }

  #socket(registers: ThreadRegisters): AfterSyscall {
    if (this.#world.vsockPath === undefined) return skip(registers, -EAFNOSUPPORT);
    registers.set("rdi", BigInt(AF_UNIX));
    registers.set("rdx", 0n);
    registers.store();
    return (after) => {
      const fd = Number(BigInt.asIntN(64, after.get("rax")));
      if (fd >= 0) this.#vsocks.add(fd);
    };
  }

  #bind(tid: number, fd: number, registers: ThreadRegisters): AfterSyscall {
    const port = this.#ptrace.read(tid, registers.get("rsi"), 16).readUInt32LE(4);
    if (port < 1024 && this.#world.refusePrivilegedPorts) return skip(registers, -EACCES);
    this.#ownPorts.set(fd, port);
    return skip(registers, 0);
  }

  #connect(tid: number, fd: number, registers: ThreadRegisters): void {
    const address = this.#ptrace.read(tid, registers.get("rsi"), 16);
    const from = this.#ownPorts.get(fd) ?? 0xffff_ffff;
    this.#record.connections.push({ port: address.readUInt32LE(4), cid: address.readUInt32LE(8), from });
    const place = registers.get("rsp") - BigInt(RED_ZONE + SUN_SIZE + 8);
    const name = Buffer.alloc(SUN_SIZE);
    name.writeUInt16LE(AF_UNIX);
    name.write(this.#world.vsockPath ?? "", 2);
    this.#ptrace.write(tid, place, name);
    registers.set("rsi", place);
    registers.set("rdx", BigInt(SUN_SIZE));
    registers.store();
  }
}

/**
 * A filter of system calls, in the kernel's own machine language: it stops the mapping of a file's code, and sockets for
 * vsock, and where there is a vsock what is done to any descriptor that may be one.
 */
function filter(hasVsock: boolean): Buffer {
  const [LOAD, EQUAL, SET, RETURN] = [0x20, 0x15, 0x45, 0x06];
  const [TRACE, ALLOW] = [0x7ff0_0000, 0x7fff_0000];
  // Where struct seccomp_data has the number, and the low half of an argument.
  const argument = (at: number): number => 16 + 8 * at;
  const one = (code: number, k: number, isTrue = 0, isFalse = 0): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16LE(code);
    bytes.writeUInt8(isTrue, 2);
    bytes.writeUInt8(isFalse, 3);
    bytes.writeUInt32LE(k, 4);
    return bytes;
  };
  const onDescriptors = hasVsock ? [SYS.close, SYS.connect, SYS.bind, SYS.setsockopt] : [];
  return Buffer.concat([
    one(LOAD, 0),
    ...onDescriptors.flatMap((number) => [one(EQUAL, number, 0, 1), one(RETURN, TRACE)]),
    one(EQUAL, SYS.socket, 0, 3),
    one(LOAD, argument(0)),
    one(EQUAL, AF_VSOCK, 0, 6),
    one(RETURN, TRACE),
    one(EQUAL, SYS.mmap, 0, 4),
    one(LOAD, argument(2)),
    one(SET, PROT_EXEC, 0, 2),
    one(LOAD, argument(3)),
    one(SET, MAP_ANONYMOUS, 0, 1),
    one(RETURN, ALLOW),
    one(RETURN, TRACE),
  ]);
}

/** Lets the kernel do nothing, and gives a result in its place. */
function skip(registers: ThreadRegisters, result: number): AfterSyscall {
  registers.set("orig_rax", -1n);
  registers.store();
  return (after) => {
    after.set("rax", BigInt(result));
    after.store();
  };
}

function take(registers: ThreadRegisters): Registers {
  const low = (at: number): number => registers.low(FULL[at] as RegisterName);
  return { eax: low(0), ebx: low(1), ecx: low(2), edx: low(3), esi: low(4), edi: low(5), ebp: low(6) };
}

/** What stands in the upper halves of changed registers is nobody's to rely on. */
const GARBAGE = 0xdead_beef_0000_0000n;

function give(registers: ThreadRegisters, out: Registers, upper: bigint): void {
  for (const [at, name] of NAMES.entries()) {
    const full = FULL[at] as RegisterName;
    if (registers.low(full) !== out[name]) registers.set(full, BigInt(out[name] >>> 0) | upper);
  }
}
