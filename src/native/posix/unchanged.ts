import type { KoffiLoader } from "../ffi/koffi.js";
import type { Libc, NativeFunction } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";

/* struct statx of Linux's uapi, the same on every architecture. */
const STATX_SIZE = 256;
/** Attributes, links, owner, mode, inode, size and blocks; behind it is the time of the last access, which reading changes. */
const ABOUT_FILE = [8, 64] as const;
/** Times of birth, change and modification, and the device. */
const ABOUT_CHANGE = [80, 144] as const;
const STATX_BASIC_STATS = 0x7ff;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

class Look {
  readonly block = Buffer.alloc(STATX_SIZE);
  readonly #file = this.block.subarray(...ABOUT_FILE);
  readonly #change = this.block.subarray(...ABOUT_CHANGE);

  equals(other: Look): boolean {
    return this.#change.equals(other.#change) && this.#file.equals(other.#file);
  }
}

/**
 * Compares what a name stands for with what it stood for at the look before: half the time of lstat(2) by Node, which makes an
 * object of it with four dates.
 */
export class UnchangedName {
  readonly #name: string;
  readonly #statx: NativeFunction;
  #last = new Look();
  #next = new Look();
  #seen = false;

  /** @internal Use {@link unchangedName}. */
  constructor(libc: Libc, name: string) {
    this.#name = name;
    this.#statx = libc.function("int statx(int, const char *, int, unsigned int, void *)");
  }

  /** Looks again. @returns whether it is the same file in the same state as at the last look; false when it cannot be seen */
  look(): boolean {
    const next = this.#next;
    if (this.#statx(AT_FDCWD, this.#name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, next.block) !== 0) {
      this.#seen = false;
      return false;
    }
    const same = this.#seen && next.equals(this.#last);
    this.#next = this.#last;
    this.#last = next;
    this.#seen = true;
    return same;
  }
}

/** Returns what looks at a name; undefined where the system or its C library has no statx(2), or native calls are missing. */
export function unchangedName(name: string, koffi?: KoffiLoader): UnchangedName | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    return new UnchangedName(openLibc(koffi), name);
  } catch {
    return undefined;
  }
}
