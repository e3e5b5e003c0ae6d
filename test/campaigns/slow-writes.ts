import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../support/pools.js";

const SOURCE = join(ROOT, "test/campaigns/slow-writes.c");
const COUNTERS = 4;

/** What went through it. */
export interface SlowCounts {
  readonly pages: number;
  readonly lengths: number;
  readonly syncs: number;
  readonly reads: number;
}

/** How slow it is, in microseconds. */
export interface Slowness {
  /** Longest pause before a page, a change of length and a sync. */
  readonly pause?: number;
  /** Pause before each read. */
  readonly reads?: number;
}

/** Slows the pool files' writes of unmodified programs by a library that is loaded before the C library. */
export class SlowWrites {
  readonly #library: string;
  readonly #counters: string;

  private constructor(library: string, counters: string) {
    this.#library = library;
    this.#counters = counters;
  }

  /** Compiles it into a folder. @returns why it cannot be had here where it cannot */
  static compile(folder: string): SlowWrites | string {
    const library = join(folder, "slow-writes.so");
    if (process.platform !== "linux") return "LD_PRELOAD is tried on Linux";
    const { status, error, stderr } = spawnSync(
      "gcc",
      ["-O2", "-Wall", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"],
      { encoding: "utf8" },
    );
    if (error !== undefined)
      return "gcc, which compiles the library that slows writes; apt-get install gcc libc6-dev";
    if (status !== 0) return `a C compiler that works; gcc said: ${stderr.trim().split("\n")[0]}`;
    const counters = join(folder, "slow-writes.counters");
    writeFileSync(counters, Buffer.alloc(COUNTERS * 8));
    return new SlowWrites(library, counters);
  }

  /** Returns the environment of a program that is to be slowed. */
  environment({ pause = 0, reads = 0 }: Slowness): NodeJS.ProcessEnv {
    return {
      ...process.env,
      LD_PRELOAD: this.#library,
      PVBUS_SLOW_PAUSE: String(pause),
      PVBUS_SLOW_READS: String(reads),
      PVBUS_SLOW_COUNT: this.#counters,
    };
  }

  /** What all programs together have done so far. */
  get counts(): SlowCounts {
    const bytes = readFileSync(this.#counters);
    const [pages = 0, lengths = 0, syncs = 0, reads = 0] = Array.from({ length: COUNTERS }, (_, at) =>
      Number(bytes.readBigUInt64LE(at * 8)),
    );
    return { pages, lengths, syncs, reads };
  }
}
