/**
 * The process of the workers campaign: workers come and go, some at a time, while its main thread opens and closes descriptors
 * of its own and looks after them.
 *
 * usage: workers-process.js COUNT SECONDS SEED
 */
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { KvmHostSimulator } from "../../providers/testing.js";
import { isSystemError } from "../../src/base/system-error.js";
import { setNonBlocking } from "../../src/native/ffi/descriptor.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { DeviceStream } from "../../src/native/posix/device-stream.js";
import { tryLockFile } from "../../src/native/posix/file-lock.js";
import { type Random, random } from "../support/campaign.js";
import { DeviceDuplex, openPty } from "../support/device-duplex.js";
import { childrenOf } from "../support/lock-helpers.js";
import { PoolTree } from "../support/pools.js";
import { type Assignment, ENDS, type Held, JOBS, type WorkersReport } from "./workers.js";

const THREAD = fileURLToPath(new URL("./worker-thread.js", import.meta.url));
/** Workers at a time. */
const LANES = 3;
/** Workers after which caches and the allocator's arenas count as grown, at most half of all. */
const WARM_UP = 200;
/** Descriptors of the main thread. */
const OWN = 64;

const [count = 0, seconds = 0, seed = 0] = process.argv.slice(2).map(Number);
const chance = random(seed);
const deadline = performance.now() + seconds * 1000;

const folder = mkdtempSync(join(tmpdir(), "pvbus-workers-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** Descriptors that nobody else may close. */
class Own {
  readonly #path = join(folder, "own");
  readonly #open: number[] = [];
  readonly #inode: number;
  stolen = 0;

  constructor() {
    writeFileSync(this.#path, "");
    this.#open = Array.from({ length: OWN }, () => openSync(this.#path, "r"));
    this.#inode = fstatSync(this.#open[0] as number).ino;
  }

  /** Looks after them all, and opens some of them anew, so that numbers go from thread to thread. */
  look(): void {
    for (const [at, fd] of this.#open.entries()) {
      if (!this.#isOurs(fd)) this.stolen++;
      else if (chance.below(4) > 0) continue;
      else closeSync(fd);
      this.#open[at] = openSync(this.#path, "r");
    }
  }

  #isOurs(fd: number): boolean {
    try {
      return fstatSync(fd).ino === this.#inode;
    } catch {
      return false;
    }
  }
}

/** Sends a line, as long as the terminal has room. */
function say(fd: number): void {
  try {
    writeSync(fd, "line\n");
  } catch (error) {
    if (!isSystemError(error) || error.code !== "EAGAIN") throw error;
  }
}

/** Places of one lane: a terminal to wait at, and a serial line with a host. */
async function lane(chance: Random): Promise<() => Promise<void>> {
  const host = new KvmHostSimulator();
  host.set("key", "value");
  const line = openPty();
  host.serve(await DeviceDuplex.over((options) => new DeviceStream(line.fd, options)));
  const terminal = openPty();
  setNonBlocking(openLibc(), terminal.fd);
  terminals.push(terminal.fd);
  const paths = { terminal: terminal.path, serial: line.path, held, contested, sysroot: tree.sysroot };
  return async () => {
    const [job, end] = [chance.pick(JOBS), chance.pick(ENDS)];
    // Some end while they are loaded, some while they work, some when they are done.
    const endAfterMs = chance.below(chance.pick([3, 30, 2000]));
    await runWorker({ job, end, endAfterMs, paths });
  };
}

const workers: Record<string, number> = {};
const errors: string[] = [];
let done = 0;

function runWorker(assignment: Assignment): Promise<void> {
  const { job, end, endAfterMs } = assignment;
  const name = `${job}, ${end}`;
  workers[name] = (workers[name] ?? 0) + 1;
  return new Promise((resolve) => {
    const worker = new Worker(THREAD, { workerData: assignment });
    const stop = (): void => {
      setTimeout(() => void worker.terminate(), endAfterMs);
    };
    if (end === "terminate") {
      if (chance.below(3) === 0) stop();
      else worker.once("message", stop);
    }
    worker.on("message", (message) => {
      if (message !== "done") return;
      done++;
      if (end === "terminate") void worker.terminate();
    });
    worker.on("error", (error) => {
      if (error.message !== "as it was told") errors.push(`${name}: ${error.stack}`);
    });
    worker.once("exit", () => resolve());
  });
}

/** What Node's own loader opens with a promise stays open when its thread is stopped just then (Node 20). */
const isModule = (target: string): boolean => /\.(?:c?js|json)$/.test(target);

function targets(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      // The listing's own.
      return [];
    }
  });
}

/** A page of V8's heap lies at a multiple of its own size. */
const HEAP_PAGE = 0x40000;

/** Counts mappings, without the pages of V8's heap: they come and go with its collections, and are resident memory. */
function mappings(): number {
  const lines = readFileSync("/proc/self/maps", "latin1").trimEnd().split("\n");
  return lines.filter((line) => {
    const [, start = "", end = "", name] = /^(\w+)-(\w+)(?: +\S+){4} *(.*)$/.exec(line) ?? [];
    const [from, to] = [start, end].map((hex) => Number.parseInt(hex, 16)) as [number, number];
    return name !== "" || to - from !== HEAP_PAGE || from % HEAP_PAGE !== 0;
  }).length;
}

async function figures(): Promise<Held> {
  for (let time = 0; time < 3; time++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const open = targets();
  const status = readFileSync("/proc/self/status", "latin1");
  return {
    descriptors: open.filter((target) => !isModule(target)).length,
    modules: open.filter(isModule).length,
    mappings: mappings(),
    rssKiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]),
  };
}

const tree = new PoolTree();
const [held, contested] = ["held", "contested"].map((name) => {
  writeFileSync(join(folder, name), "");
  return join(folder, name);
}) as [string, string];
const heldFd = openSync(held, "r+");
if (tryLockFile(heldFd, { mode: "exclusive" }) === undefined) throw new Error("the lock is not ours");
const own = new Own();
/** What workers poll. */
const terminals: number[] = [];
const looking = setInterval(() => {
  own.look();
  for (const fd of terminals) say(fd);
}, 1);

const lanes = await Promise.all(Array.from({ length: LANES }, () => lane(chance)));
let started = 0;
async function untilDone(until: number, byTime: number, leastDone = 0): Promise<void> {
  await Promise.all(
    lanes.map(async (next) => {
      // On a busy machine the time may be over before a thread has come to the end of its work.
      while (count > 0 ? started < until : performance.now() < byTime || done < leastDone) {
        started++;
        await next();
      }
    }),
  );
}

const warm = Math.min(WARM_UP, Math.floor(count / 2));
await untilDone(warm, deadline - (seconds * 1000) / 2);
const before = await figures();
const from = started;
await untilDone(count, deadline, 1);
const after = await figures();
clearInterval(looking);
own.look();
const report: WorkersReport = {
  workers,
  done,
  errors,
  stolen: own.stolen,
  children: childrenOf(process.pid).length,
  before,
  after,
  between: started - from,
};
await tree[Symbol.asyncDispose]();
console.log(JSON.stringify(report));
process.exit(0);
