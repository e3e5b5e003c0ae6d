import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { HypervOptions } from "../../providers/hyperv/options.js";
import { decodeRecord, RECORD_SIZE } from "../../providers/hyperv/protocol/record.js";
import { type Bus, openPvbus, type PvInterface } from "../../src/index.js";

/** The repository's root, seen from the compiled tests. */
export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Returns the bytes of a genuine pool file or message; see test/fixtures/hyperv/README.md. */
export function fixture(name: string): Buffer {
  return readFileSync(join(ROOT, "test/fixtures/hyperv", name));
}

/** Returns the records of a pool image as text pairs, every slot, in file order. */
export function pairsOf(bytes: Buffer): [string, string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at + RECORD_SIZE <= bytes.length; at += RECORD_SIZE) {
    const { key, value } = decodeRecord(bytes, at);
    pairs.push([Buffer.from(key).toString(), Buffer.from(value).toString()]);
  }
  return pairs;
}

/** A throw-away sysroot with a pool directory and its five empty pools. */
export class PoolTree implements AsyncDisposable {
  readonly sysroot = mkdtempSync(join(tmpdir(), "pvbus-pools-"));
  readonly directory = join(this.sysroot, "var/lib/hyperv");
  readonly #buses: Bus[] = [];

  constructor() {
    mkdirSync(this.directory, { recursive: true });
    for (const number of [0, 1, 2, 3, 4]) this.put(number, Buffer.alloc(0));
  }

  path(number: number): string {
    return join(this.directory, `.kvp_pool_${number}`);
  }

  put(number: number, bytes: Uint8Array): void {
    writeFileSync(this.path(number), bytes);
  }

  get(number: number): Buffer {
    return readFileSync(this.path(number));
  }

  /** Opens the Hyper-V interface on the tree. */
  async open(options: HypervOptions = {}): Promise<PvInterface> {
    const bus = await openPvbus({
      sysroot: this.sysroot,
      interfaces: [{ type: "Hyper-V", options: { ...options } }],
    });
    this.#buses.push(bus);
    return bus.primary as PvInterface;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bus of this.#buses) await bus.close();
    rmSync(this.sysroot, { recursive: true, force: true });
  }
}

/** Collects what an async iterable yields. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
