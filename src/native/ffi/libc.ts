import { ownEntry } from "../../base/own.js";
import type { Koffi } from "./koffi.js";

/** What a native function takes: numbers, descriptors, addresses, bytes, and the type names before variadic values. */
export type NativeArgument = number | bigint | string | Uint8Array | null;

/** A declared native function that returns an integer. */
export interface NativeFunction {
  /** Calls it on this thread; errno holds until the next call of any kind, see {@link Libc.call}. */
  (...args: NativeArgument[]): number;
  /** Calls it on a thread of libuv's pool: only src/native/ffi/async-call.ts may do that. */
  async(...args: [...NativeArgument[], (error: unknown, rc: number) => void]): void;
}

/** What a native call left: its return value, and errno as it was right behind it. */
export interface NativeResult {
  readonly rc: number;
  readonly errno: number;
}

/** Makes the error of a failed call in the form of Node's own. @param detail stands at the end of its message */
export function systemError(
  code: string,
  number: number,
  syscall: string,
  detail = "",
): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${syscall}${detail}`), { code, errno: -number, syscall });
}

/** Declares functions of a Windows library by short names, each as `void * VirtualAlloc(…)`: the name behind a space. */
export function windowsFunctions<N extends string>(
  koffi: Koffi,
  library: string,
  declarations: Readonly<Record<N, string>>,
): Readonly<Record<N, NativeFunction>> {
  const loaded = koffi.load(library);
  const declared = Object.entries<string>(declarations).map(([name, declaration]) => [
    name,
    loaded.func(declaration.replace(/ (?=\w+\()/, " __stdcall ")),
  ]);
  return Object.fromEntries(declared);
}

/** The C library of this process, each function declared once on first use; opened by `openLibc`. */
export class Libc {
  readonly koffi: Koffi;
  readonly #library: ReturnType<Koffi["load"]>;
  readonly #functions = new Map<string, NativeFunction>();
  #names: Map<number, string> | undefined;

  /** @internal Use `openLibc`, which prepares koffi for worker threads. */
  constructor(koffi: Koffi) {
    this.koffi = koffi;
    this.#library = koffi.load(null);
  }

  /**
   * Returns the function of a C declaration without named types, `int getppid(void)`. Keep it where calls are frequent.
   * @throws Error when the process has no such symbol
   */
  function(declaration: string): NativeFunction {
    let found = this.#functions.get(declaration);
    if (found === undefined) {
      found = this.#library.func(declaration) as NativeFunction;
      this.#functions.set(declaration, found);
    }
    return found;
  }

  /** Calls a function, declared or by its declaration, and reads errno right behind it. */
  call(declared: NativeFunction | string, ...args: NativeArgument[]): NativeResult {
    const rc = (typeof declared === "string" ? this.function(declared) : declared)(...args);
    return { rc, errno: this.koffi.errno() };
  }

  /** The same for one that fails with −1. @returns what it returns @throws a system error that names it */
  must(declaration: string, ...args: NativeArgument[]): number {
    const { rc, errno } = this.call(declaration, ...args);
    if (rc >= 0) return rc;
    throw this.systemError(/ (\w+)\(/.exec(declaration)?.[1] ?? declaration, errno);
  }

  /**
   * Calls ioctl(2) on this thread: for requests that return at once.
   * @param block the argument: bytes, or the address of a block that outlives the call
   * @returns what it returns, zero or more
   * @throws a system error
   */
  ioctl(fd: number, request: number, block: Uint8Array | bigint): number {
    // Variadic, as it is on every system: a fixed declaration passes the argument elsewhere on some.
    return this.must("int ioctl(int, unsigned long, ...)", fd, request, "void *", block);
  }

  /** Returns this system's number of a symbolic errno, `EAGAIN`; NaN, which equals nothing, where it has none. */
  errnoNumber(name: string): number {
    return ownEntry(this.koffi.os.errno, name) ?? Number.NaN;
  }

  /** Returns the symbolic name of an errno number, `EAGAIN` for the one it shares with `EWOULDBLOCK`. */
  errnoName(number: number): string {
    if (this.#names === undefined) {
      const entries = Object.entries(this.koffi.os.errno);
      this.#names = new Map(entries.map(([name, value]) => [value, name]));
      for (const name of ["EAGAIN", "EOPNOTSUPP", "EDEADLK"]) this.#names.set(this.errnoNumber(name), name);
    }
    return this.#names.get(number) ?? `errno ${number}`;
  }

  systemError(syscall: string, errno: number): NodeJS.ErrnoException {
    return systemError(this.errnoName(errno), errno, syscall);
  }
}
