import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { Libc } from "../../../src/native/ffi/libc.js";
import { openLibc } from "../../../src/native/ffi/open-libc.js";

/* Linux sys/ptrace.h, for x86-64. */
const PTRACE_CONT = 7;
const PTRACE_GETREGS = 12;
const PTRACE_SETREGS = 13;
const PTRACE_SYSCALL = 24;
const PTRACE_SEIZE = 0x4206;
/** TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, EXITKILL. */
const OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x10_0000;
const WALL = 0x4000_0000;
const WUNTRACED = 2;
const SIGCONT = 18;
const REGISTER_COUNT = 27;

/** Places of registers in user_regs_struct. */
const PLACE = {
  rbp: 4,
  rbx: 5,
  rax: 10,
  rcx: 11,
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

  /** Starts a program that this traces from its exec on, with this process's standard streams. */
  start(command: readonly string[], env: NodeJS.ProcessEnv): number {
    const argv = ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", ...command];
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

  /** Waits for any thread; undefined when there is none left. */
  wait(): Stop | undefined {
    const bytes = Buffer.alloc(4);
    const { rc: tid } = this.#libc.call(this.#waitpid, -1, bytes, WALL);
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
    const actions = Buffer.alloc(512);
    this.#libc.function("int posix_spawn_file_actions_init(void *)")(actions);
    // Node keeps its standard streams from children unless they are handed over by name.
    const dup = this.#libc.function("int posix_spawn_file_actions_adddup2(void *, int, int)");
    for (const fd of [0, 1, 2]) dup(actions, fd, fd);
    const pid = [0];
    const rc = spawn(pid, path, actions, null, [...argv, null], [...env, null]) as number;
    if (rc !== 0) throw this.#libc.systemError("posix_spawn", rc);
    return pid[0] ?? 0;
  }
}
