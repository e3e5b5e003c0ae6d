import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { Libc } from "../../../src/native/ffi/libc.js";
import { openLibc } from "../../../src/native/ffi/open-libc.js";

/* Linux sys/ptrace.h, for x86-64. */
const PTRACE_CONT = 7;
const PTRACE_GETREGS = 12;
const PTRACE_SETREGS = 13;
const PTRACE_SYSCALL = 24;
const PTRACE_SEIZE = 0x4206;
/** TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACESECCOMP, EXITKILL. */
const OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x10_0000;
const WALL = 0x4000_0000;
const WUNTRACED = 2;
const SIGCONT = 18;
const REGISTER_COUNT = 27;
/** The instruction. */
const SYSCALL = Buffer.from("0f05", "hex");

/** Places of registers in user_regs_struct. */
const PLACE = {
  rbp: 4,
  rbx: 5,
  rax: 10,
  rcx: 11,
  r10: 7,
  r8: 9,
  rdx: 12,
  rsi: 13,
  rdi: 14,
  orig_rax: 15,
  rip: 16,
  rsp: 19,
} as const;

/** A register that the tracer looks at. */
export type RegisterName = keyof typeof PLACE;

/** The registers of a stopped thread. */
export class ThreadRegisters {
  readonly #bytes = Buffer.alloc(REGISTER_COUNT * 8);
  readonly #ptrace: Ptrace;
  readonly #tid: number;

  /** Reads them. */
  constructor(ptrace: Ptrace, tid: number) {
    this.#ptrace = ptrace;
    this.#tid = tid;
    ptrace.request(PTRACE_GETREGS, tid, this.#bytes);
  }

  get(name: RegisterName): bigint {
    return this.#bytes.readBigUInt64LE(PLACE[name] * 8);
  }

  /** The low 32 bits. */
  low(name: RegisterName): number {
    return this.#bytes.readUInt32LE(PLACE[name] * 8);
  }

  set(name: RegisterName, value: bigint): void {
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), PLACE[name] * 8);
  }

  /** Gives them back to the thread. */
  store(): void {
    this.#ptrace.request(PTRACE_SETREGS, this.#tid, this.#bytes);
  }
}

/** How a thread stopped or ended. */
export interface Stop {
  readonly tid: number;
  readonly kind: "exited" | "killed" | "event" | "syscall" | "signal";
  /** Exit code, signal or event. */
  readonly number: number;
}

/** ptrace(2) for a process of its own: every call on one thread, and waiting blocks it. */
export class Ptrace {
  readonly #libc: Libc = openLibc();
  readonly #ptrace = this.#libc.function("long ptrace(long, long, void *, void *)");
  readonly #waitpid = this.#libc.function("int waitpid(int, void *, int)");
  readonly #memory = new Map<number, number>();

  /** One request that takes bytes or a number for its data. */
  request(request: number, tid: number, data: Buffer | bigint): void {
    const { rc, errno } = this.#libc.call(this.#ptrace, request, tid, null, data);
    if (rc < 0) throw this.#libc.systemError(`ptrace ${request}`, errno);
  }

  /** Starts a program that this traces from its exec on; what it prints goes to files. */
  start(
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    [stdout, stderr]: readonly [string, string],
  ): number {
    const script = 'kill -STOP $$; out=$1 err=$2; shift 2; exec "$@" </dev/null >"$out" 2>"$err"';
    const argv = ["sh", "-c", script, "sh", stdout, stderr, ...command];
    const pid = this.#spawn(
      "/bin/sh",
      argv,
      Object.entries(env).map(([name, value]) => `${name}=${value ?? ""}`),
    );
    const status = Buffer.alloc(4);
    this.#libc.call(this.#waitpid, pid, status, WUNTRACED);
    this.request(PTRACE_SEIZE, pid, BigInt(OPTIONS));
    this.#libc.function("int kill(int, int)")(pid, SIGCONT);
    return pid;
  }

  /** Waits for a thread or any; undefined when there is none left. */
  wait(whom = -1): Stop | undefined {
    const bytes = Buffer.alloc(4);
    const { rc: tid } = this.#libc.call(this.#waitpid, whom, bytes, WALL);
    if (tid < 0) return undefined;
    const status = bytes.readInt32LE();
    if ((status & 0x7f) === 0) return { tid, kind: "exited", number: (status >> 8) & 0xff };
    if ((status & 0xff) !== 0x7f) return { tid, kind: "killed", number: status & 0x7f };
    const event = status >> 16;
    if (event !== 0) return { tid, kind: "event", number: event };
    const signal = (status >> 8) & 0xff;
    return (signal & 0x80) !== 0
      ? { tid, kind: "syscall", number: 0 }
      : { tid, kind: "signal", number: signal };
  }

  /** Lets a thread run to its next stop or system call, with a signal. A thread that is gone has nothing to do. */
  resume(tid: number, signal = 0, atSyscalls = true): void {
    try {
      this.request(atSyscalls ? PTRACE_SYSCALL : PTRACE_CONT, tid, BigInt(signal));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /**
   * Has a thread that stopped behind a system call make another one, with these arguments; returns its result. Everything of
   * the thread is as before then.
   */
  inject(tid: number, number: number, ...args: readonly bigint[]): number {
    const before = new ThreadRegisters(this, tid);
    const registers = new ThreadRegisters(this, tid);
    const place = before.get("rip");
    const code = this.read(tid, place, SYSCALL.length);
    this.write(tid, place, SYSCALL);
    registers.set("rax", BigInt(number));
    for (const [at, name] of (["rdi", "rsi", "rdx", "r10", "r8"] as const).entries())
      registers.set(name, args[at] ?? 0n);
    registers.store();
    // Into the call, and out of it.
    for (const _ of "io") {
      this.resume(tid);
      if (this.wait(tid)?.kind !== "syscall") throw new Error(`thread ${tid} made no call`);
    }
    const result = new ThreadRegisters(this, tid).get("rax");
    this.write(tid, place, code);
    before.store();
    return Number(BigInt.asIntN(64, result));
  }

  read(tid: number, address: bigint, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    const count = readSync(this.#memoryOf(tid), bytes, 0, length, address);
    return bytes.subarray(0, count);
  }

  /** Writes also where the thread itself may not. */
  write(tid: number, address: bigint, bytes: Uint8Array): void {
    writeSync(this.#memoryOf(tid), bytes, 0, bytes.length, Number(address));
  }

  /** Forgets a process's memory: it ended, or began another program. */
  forget(tid: number): void {
    const fd = this.#memory.get(tid);
    if (fd !== undefined) closeSync(fd);
    this.#memory.delete(tid);
  }

  #memoryOf(tid: number): number {
    const fd = this.#memory.get(tid) ?? openSync(`/proc/${tid}/mem`, "r+");
    this.#memory.set(tid, fd);
    return fd;
  }

  #spawn(path: string, argv: readonly string[], env: readonly string[]): number {
    const { koffi } = this.#libc;
    const spawn = koffi
      .load(null)
      .func("int posix_spawn(_Out_ int *, const char *, void *, void *, const char **, const char **)");
    const pid = [0];
    const rc = spawn(pid, path, null, null, [...argv, null], [...env, null]) as number;
    if (rc !== 0) throw this.#libc.systemError("posix_spawn", rc);
    return pid[0] ?? 0;
  }
}
