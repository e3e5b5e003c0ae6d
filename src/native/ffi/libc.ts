import { ownEntry } from "../../base/own.js";
import type { Koffi } from "./koffi.js";

/** What a libc function takes: numbers, descriptors, addresses, bytes, and the type names before variadic values. */
export type NativeArgument = number | bigint | string | Uint8Array | null;

/** A declared libc function that returns an integer. */
export interface NativeFunction {
  /** Calls it on this thread; read {@link Libc.errno} in the very next statement. */
  (...args: NativeArgument[]): number;
  /** Calls it on a thread of libuv's pool: only src/native/ffi/async-call.ts may do that. */
  async(...args: [...NativeArgument[], (error: unknown, rc: number) => void]): void;
}

/** What a native call left: its return value, and errno as it was right behind it. */
export interface NativeResult {
  /** Return value, −1 on failure. */
  readonly rc: number;
  /** errno; means something only when rc shows a failure. */
  readonly errno: number;
}

/** An error of the operating system in the form of Node's own, see {@link isSystemError}. */
export interface SystemError extends Error {
  /** Symbolic errno, `EBADF`. */
  readonly code: string;
  /** The number, negative as Node has it. */
  readonly errno: number;
  /** What failed, `fcntl`. */
  readonly syscall: string;
}

/** The C library of this process, each function declared once on first use; opened by `openLibc`. */
export class Libc {
  /** The module beneath. */
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

  /** Calls a declared function and reads errno right behind it. */
  call(declared: NativeFunction, ...args: NativeArgument[]): NativeResult {
    const rc = declared(...args);
    return { rc, errno: this.koffi.errno() };
  }

  /** Returns errno of the last native call of this thread; anything in between spoils it. */
  errno(): number {
    return this.koffi.errno();
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

  /** Makes the error of a failed call. */
  systemError(syscall: string, errno: number): SystemError {
    const code = this.errnoName(errno);
    return Object.assign(new Error(`${code}: ${syscall}`), { code, errno: -errno, syscall });
  }
}
