import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { ServedPool } from "../../providers/hyperv/kvpd/served-pool.js";
import { KvpDeviceSimulator } from "../../providers/hyperv/testing/kvp-device/simulator.js";
import { Call } from "../../src/base/flow/call.js";
import { budget, count, isLong, patience, type Random, random, report } from "../support/campaign.js";
import { whyNoAgent } from "../support/kvp-agents.js";
import { pending } from "../support/pending.js";
import { PoolTree, ROOT } from "../support/pools.js";
import { findPython, start } from "../support/processes.js";
import { recordsAt } from "./actors.js";
import { type MixedResult, STABLE_KEYS, stableValue } from "./mixed.js";
import { Faults } from "./model.js";
import { fileOf, hostView, type Pair, recordsOf } from "./readers.js";
import { SlowWrites } from "./slow-writes.js";
import { ApiWriter, HostWriter } from "./writers.js";

/** Actions of the full form, by hand; the others are cut by seconds. */
const WANTED = count(Infinity, Infinity);
const SECONDS = WANTED === Infinity ? budget(2, 90) : Infinity;
/** Longest that an action may take where lockers pause: on a machine that does nothing else, and at any time. */
const SLOWEST_MS = isLong ? 1000 : 5000;
const GUEST = 1;
const EXTERNAL = 0;
const API_PROCESSES = 3;
const PAUSE_MS = 3;

const stablePairs = (): Pair[] =>
  Array.from({ length: STABLE_KEYS }, (_, at) => ({ key: `stable${at}`, value: stableValue(at) }));

interface Part {
  readonly name: string;
  readonly result: Promise<MixedResult>;
}

function part(name: string, command: string, args: readonly string[]): Part {
  const { done } = start(command, args);
  const result = done.then(({ code, stdout, stderr }) => {
    if (code !== 0) throw new Error(`${name} failed: ${stderr}`);
    return JSON.parse(stdout) as MixedResult;
  });
  result.catch(() => undefined);
  return { name, result };
}

/** The host's part behind our daemon: it sets and deletes its own keys of pool Guest. */
async function hostsPart(host: HostWriter, random: Random, seconds: number): Promise<MixedResult> {
  const own = new Map<string, string>();
  const faults: string[] = [];
  let slowest: [string, number] = ["", 0];
  let actions = 0;
  for (const end = performance.now() + seconds * 1000; performance.now() < end; actions++) {
    const key = `host${random.below(10)}`;
    const began = performance.now();
    if (random() < 0.3) {
      const was = await host.act({ kind: "unset", key });
      if (was !== own.has(key)) faults.push(`host: deleting ${key} said ${was}`);
      own.delete(key);
    } else {
      const value = `${key} ${actions};`.repeat(1 + random.below(90)).slice(0, 1022);
      await host.act({ kind: "set", key, value });
      own.set(key, value);
    }
    const took = performance.now() - began;
    if (took > slowest[1]) slowest = ["daemon", took];
    await sleep(random() * PAUSE_MS);
  }
  return { actions, faults, own: Object.fromEntries(own), slowest };
}

/**
 * The host's part behind the vendor's daemon. What that reads and what it then writes are two locks, so whoever changes a pool
 * beside its changes loses to it: it lists pool Guest, and changes External, where we read.
 */
async function vendorsPart(
  simulator: KvpDeviceSimulator,
  tree: PoolTree,
  random: Random,
  seconds: number,
): Promise<MixedResult> {
  const faults: string[] = [];
  let slowest: [string, number] = ["", 0];
  let actions = 0;
  const own = new Map<string, string>();
  const reader = await tree.open();
  for (const end = performance.now() + seconds * 1000; performance.now() < end; actions++) {
    const began = performance.now();
    const dice = random();
    const key = `vendor${random.below(12)}`;
    if (dice < 0.3) {
      for (const { key, value } of await simulator.list(GUEST))
        if (key.startsWith("stable") && value !== stableValue(Number(key.slice(6))))
          faults.push(`the vendor's daemon has ${key} as ${value.slice(0, 20)}`);
    } else if (dice < 0.55) {
      const value = `${key} ${actions};`.repeat(1 + random.below(90)).slice(0, 1022);
      if ((await simulator.set(EXTERNAL, key, value)) !== 0) faults.push(`the vendor's refused ${key}`);
      own.set(key, value);
    } else if (dice < 0.65) {
      if (((await simulator.delete(EXTERNAL, key)) === 0) !== own.has(key))
        faults.push(`the vendor's lost ${key}`);
      own.delete(key);
    } else {
      const pairs = new Map<string, string | undefined>();
      for await (const { key, value } of reader.list("External")) pairs.set(key.slice(9), value);
      for (const pair of [...stablePairs(), ...[...own].map(([key, value]) => ({ key, value }))])
        if (pairs.get(pair.key) !== pair.value) faults.push(`our listing lacks ${pair.key} of External`);
      const took = performance.now() - began;
      if (took > slowest[1]) slowest = ["list", took];
    }
    await sleep(random() * PAUSE_MS);
  }
  await reader.close();
  return { actions, faults, own: {}, slowest };
}

describe("mixed load", function () {
  this.timeout(patience(SECONDS) * 2);

  for (const [family, mode] of [
    ["record locks", "fcntl"],
    ["flock", "flock"],
  ] as const) {
    it(`of several processes, one with ${family} of its own, loses nothing`, async function () {
      const python = findPython("import fcntl");
      if (python === undefined) return pending(this, "Python 3; apt-get install python3");
      const why = whyNoAgent("ours");
      if (why !== undefined) return pending(this, why);
      await using tree = new PoolTree();
      await using ours = await KvpDeviceSimulator.start({ directory: tree.directory });
      const vendor =
        whyNoAgent("vendor") === undefined
          ? await KvpDeviceSimulator.start({ directory: tree.directory })
          : undefined;
      const own = random();
      const faults: string[] = [];
      let [actions, rounds] = [0, 0];
      let slowest: readonly [string, number] = ["", 0];
      try {
        const began = performance.now();
        do {
          const round = rounds++;
          const left = SECONDS / 2 - (performance.now() - began) / 1000;
          const seconds = Math.max(1, Math.min(left, 20));
          for (const pool of [GUEST, EXTERNAL]) tree.put(pool, fileOf(stablePairs()));
          const host = await HostWriter.start(ours, "ours");
          const vendors = vendor && (await HostWriter.start(vendor, "vendor"));
          await Promise.all([host.ready(), vendors?.ready()]);
          const parts: Part[] = Array.from({ length: API_PROCESSES }, (_, at) =>
            part(`API process ${at}`, process.execPath, [
              join(ROOT, "dist/test/campaigns/mixed-process.js"),
              tree.sysroot,
              `api${"abc"[at]}`,
              String(seconds),
              String(own.below(2 ** 32)),
              String(PAUSE_MS),
            ]),
          );
          parts.push(
            part(mode, python, [
              join(ROOT, "test/campaigns/lockers.py"),
              mode,
              tree.path(GUEST),
              "python",
              String(seconds),
              String(own.below(2 ** 32)),
            ]),
            { name: "host", result: hostsPart(host, own, seconds) },
          );
          if (vendor !== undefined)
            parts.push({
              name: "vendor",
              result: vendorsPart(vendor, tree, random(own.below(2 ** 32)), seconds),
            });
          const expected = new Map(stablePairs().map(({ key, value }) => [key, value]));
          for (const each of await Promise.allSettled(parts.map(({ result }) => result))) {
            if (each.status === "rejected") {
              faults.push(String(each.reason));
              continue;
            }
            const { value } = each;
            actions += value.actions;
            faults.push(...value.faults);
            if (value.slowest[1] > slowest[1]) slowest = value.slowest;
            for (const [key, text] of Object.entries(value.own)) expected.set(key, text);
          }
          for (const daemon of [host, vendors]) {
            daemon?.kill();
            await daemon?.ended;
          }
          faults.push(
            ...leftFaults(tree.get(GUEST), expected).map((fault) => `round ${round}, in the end: ${fault}`),
          );
        } while (actions < WANTED / 2 && performance.now() - began < (SECONDS / 2) * 1000);
      } finally {
        await vendor?.close();
      }
      report(`mixed load with ${family}`, {
        actions,
        "ms the slowest": `${slowest[1].toFixed(0)} (${slowest[0]})`,
        faults: faults.length,
      });
      expect(faults.slice(0, 10), `${faults.length} faults`).to.deep.equal([]);
      expect(slowest[1], `the slowest action, ${slowest[0]}`).to.be.lessThan(SLOWEST_MS);
    });
  }
});

/** Says how a file differs from what all together leave, shared keys aside. */
function leftFaults(file: Buffer, expected: ReadonlyMap<string, string>): string[] {
  const { pairs } = hostView(file);
  const faults: string[] = [];
  for (const [key, value] of expected)
    if (pairs.get(key) !== value)
      faults.push(`${key} is ${pairs.get(key)?.slice(0, 20)}, not ${value.slice(0, 20)}`);
  for (const key of pairs.keys())
    if (!expected.has(key) && !key.startsWith("shared")) faults.push(`${key} came back`);
  return faults;
}

/** A file system of its own whose stamps change with the kernel's tick only, seen by programs that are run inside. */
class CoarseTree implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "pvbus-coarse-"));
  readonly #holder: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor() {
    const script = 'mount -t ramfs ramfs "$1" && mkdir -p "$1/var/lib/hyperv" && echo mounted && exec cat';
    this.#holder = spawn(
      "unshare",
      ["--mount", "--propagation", "private", "sh", "-c", script, "sh", this.#folder],
      { stdio: ["pipe", "pipe", "ignore"] },
    );
    this.#ended = new Promise((resolve) => {
      this.#holder.once("close", () => resolve());
      this.#holder.once("error", () => resolve());
    });
  }

  /** Mounts one; resolves with nothing where that cannot be done. */
  static async mount(): Promise<CoarseTree | undefined> {
    if (process.platform !== "linux" || process.geteuid?.() !== 0) return undefined;
    const tree = new CoarseTree();
    const mounted = new Promise<boolean>((resolve) => tree.#holder.stdout?.once("data", () => resolve(true)));
    if (await Promise.race([mounted, tree.#ended.then(() => false)])) return tree;
    await tree[Symbol.asyncDispose]();
    return undefined;
  }

  get sysroot(): string {
    return this.#folder;
  }

  /** What comes before a command that is to run inside. */
  get inside(): readonly string[] {
    return ["nsenter", `--mount=/proc/${this.#holder.pid}/ns/mnt`, "--wdns=/", "--"];
  }

  /** Path of the Guest pool as this process sees it. */
  get path(): string {
    return `/proc/${this.#holder.pid}/root${this.#folder}/var/lib/hyperv/.kvp_pool_1`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#holder.kill("SIGKILL");
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

describe("two writers within one tick of a coarse clock", function () {
  const seconds = WANTED === Infinity ? budget(2, 30) : 60;
  this.timeout(patience(seconds));

  const MOVED = 10;

  it("leave the records of third keys alone", async function () {
    const tree = await CoarseTree.mount();
    if (tree === undefined) return pending(this, "the right to mount a ramfs; run it as root on Linux");
    const faults = new Faults();
    const writers: ApiWriter[] = [];
    let [rounds, actions] = [0, 0];
    try {
      const keysOf = (name: string, many: number): Pair[] =>
        Array.from({ length: many }, (_, at) => ({ key: `${name}${at}`, value: "before" }));
      const third = Array.from({ length: 3 }, (_, at) => ({ key: `third${at}`, value: stableValue(at) }));
      for (let at = 0; at < 2; at++) writers.push(new ApiWriter(tree.sysroot, process.env, {}, tree.inside));
      await Promise.all(writers.map((writer) => writer.ready()));
      for (const began = performance.now(); performance.now() - began < seconds * 1000; rounds++) {
        writeFileSync(tree.path, fileOf([...keysOf("moved", MOVED), ...third, ...keysOf("updated", 1)]));
        const bursts = await Promise.all([
          writers[0]?.burst(
            keysOf("moved", MOVED).map(({ key }) => key),
            true,
            100,
          ),
          writers[1]?.burst(
            keysOf("updated", 1).map(({ key }) => key),
            false,
            14,
          ),
        ] as Promise<MixedResult>[]);
        const all = [...keysOf("moved", MOVED), ...third, ...keysOf("updated", 1)];
        const expected = new Map(all.map(({ key, value }) => [key, value]));
        for (const { own, faults: said, actions: done } of bursts) {
          actions += done;
          for (const fault of said) faults.add("answer", fault, `round ${rounds}`);
          for (const [key, value] of Object.entries(own)) expected.set(key, value);
        }
        const file = readFileSync(tree.path);
        const wrong = leftFaults(file, expected);
        if (wrong[0] !== undefined)
          faults.add("rounds with losses", wrong[0], `round ${rounds}, ${wrong.length} keys`);
        else if (recordsOf(file).length !== expected.size) faults.add("doubled", "a key", `round ${rounds}`);
      }
    } finally {
      for (const writer of writers) {
        writer.kill();
        await writer.ended;
      }
      await tree[Symbol.asyncDispose]();
    }
    report("two writers within one tick", { rounds, actions, faults: `${faults}` });
    expect(faults.first, `${faults}`).to.deep.equal([]);
    expect(actions).to.be.greaterThan(rounds);
  });
});

describe("a slow listing while the daemon writes past it", function () {
  const seconds = WANTED === Infinity ? budget(1, 20) : 30;
  this.timeout(patience(seconds));
  const KEYS = 2400;

  it("misses no key silently", async function () {
    await using tree = new PoolTree();
    const slow = SlowWrites.compile(tree.sysroot);
    if (typeof slow === "string") return pending(this, slow);
    const own = random();
    const pairs = Array.from({ length: KEYS }, (_, at) => ({ key: `key ${at}`, value: `value ${at}` }));
    const reader = new ApiWriter(tree.sysroot, slow.environment({ reads: 4000 }));
    const faults = new Faults();
    let [rounds, said, complete, changes] = [0, 0, 0, 0];
    try {
      await reader.ready();
      for (const began = performance.now(); performance.now() - began < seconds * 1000; rounds++) {
        tree.put(GUEST, fileOf(pairs));
        // It heeds no lock: so does the daemon when a reader has kept it too long.
        const daemon = new ServedPool(recordsAt(tree.path(GUEST), false));
        const gone = new Set<string>();
        const listing = reader.list();
        let listed = false;
        const over = listing.finally(() => {
          listed = true;
        });
        over.catch(() => undefined);
        for (let at = 0; at < 6 && !listed; at++) {
          await sleep(own() * 60);
          const key = `key ${at}`;
          gone.add(key);
          await daemon.delete(Buffer.from(key), new Call());
          changes++;
        }
        await daemon.close();
        const found = await listing.catch((error: Error) => error);
        if (found instanceof Error) {
          said++;
          continue;
        }
        complete++;
        const missing = pairs.filter(({ key, value }) => !gone.has(key) && found.get(key) !== value);
        if (missing[0] !== undefined)
          faults.add("missed", `${missing.length} of ${KEYS}`, `round ${rounds}, first ${missing[0].key}`);
      }
    } finally {
      reader.kill();
      await reader.ended;
    }
    report("slow listings", { rounds, complete, "that said so": said, changes, faults: `${faults}` });
    expect(faults.first, `${faults}`).to.deep.equal([]);
    expect(changes).to.be.greaterThan(rounds);
  });
});
