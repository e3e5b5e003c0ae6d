import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeRecord } from "../../providers/hyperv/protocol/record.js";
import { PoolTree } from "./pools.js";
import { startWorker } from "./processes.js";

/** Value of every key that stands outside of the tree under test. */
export const OUTSIDE = "outside";
/** Value of every key that stands in it. */
export const INSIDE = "inside";

const POOLS = [0, 1, 2, 3, 4] as const;

/** Returns a pool in which `marker` has a value. */
export function markedPool(value: string): Buffer {
  return encodeRecord({ key: Buffer.from("marker"), value: Buffer.from(value) });
}

/** A tree with pools, and one beside it that nobody may read or change: links of the first lead there. */
export class TreeWithOutside implements AsyncDisposable {
  readonly tree = new PoolTree();
  readonly #other = new PoolTree();
  readonly #before: string;
  #swapper: ChildProcess | undefined;
  /** Swaps that were made, to the ten. */
  swaps = 0;

  constructor() {
    for (const number of POOLS) {
      this.tree.put(number, markedPool(INSIDE));
      this.#other.put(number, markedPool(OUTSIDE));
    }
    mkdirSync(join(this.outside, "dev/vmbus"), { recursive: true });
    writeFileSync(join(this.outside, "dev/vmbus/hv_kvp"), OUTSIDE);
    this.#before = this.#state();
  }

  /** The directory beside the tree. */
  get outside(): string {
    return this.#other.sysroot;
  }

  /** Reports whether anything was made, removed or written outside. */
  isUntouched(): boolean {
    return this.#state() === this.#before;
  }

  /** Inodes of all directories and files outside. */
  inodes(): ReadonlySet<number> {
    return new Set(["", ...this.#names()].map((name) => statSync(join(this.outside, name)).ino));
  }

  /** Starts the swapping of places in the tree for links to the same places outside. */
  async swap(seed: number, ...places: string[]): Promise<void> {
    const { child } = startWorker("tree-swapper", [this.tree.sysroot, this.outside, String(seed), ...places]);
    this.#swapper = child;
    child.stdout?.on("data", (text: string) => {
      this.swaps = Number(text.trim().split("\n").at(-1)) || this.swaps;
    });
    await once(child.stdout as NodeJS.ReadableStream, "data");
  }

  /** Ends the swapping; rejects when it has ended by itself, which no test expects. */
  async stop(): Promise<void> {
    const child = this.#swapper;
    if (child === undefined) return;
    this.#swapper = undefined;
    if (child.exitCode !== null) throw new Error("the swapper ended by itself");
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.tree[Symbol.asyncDispose]();
    await this.#other[Symbol.asyncDispose]();
  }

  #names(): string[] {
    return readdirSync(this.outside, { recursive: true }).map(String).sort();
  }

  #state(): string {
    const content = (name: string): string => {
      const path = join(this.outside, name);
      const { mode, nlink, mtimeMs, ctimeMs } = statSync(path);
      const bytes = statSync(path).isFile() ? readFileSync(path).toString("base64") : "";
      return [name, mode, nlink, mtimeMs, ctimeMs, bytes].join();
    };
    return this.#names().map(content).join("\n");
  }
}
