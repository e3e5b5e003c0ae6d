/**
 * `npm run bench:xen`: reads of one value on Debian's real daemons, ours beside the C library, a raw pipelined C program and
 * the spawned tool, in one run. Rounds are interleaved, medians compared: a shared machine's single rounds differ widely.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { XenStoreClient } from "../providers/xen/index.js";
import { SocketTransport } from "../providers/xen/transport/socket.js";
import { ROOT } from "../test/support/pools.js";
import {
  type Daemon,
  startOxenstored,
  startXenstored,
  whyNoOxenstored,
  whyNoXenstored,
} from "../test/support/xen/daemons.js";
import { compiled, environmentOf } from "../test/support/xen/tools.js";
import { median, row } from "./report.js";

const KEY = "/bench/k";
const ROUNDS = 9;
const READS = 30_000;
const SPAWNS = 40;
const MILLION = 1_000_000;
/** More than go out at a time: the others wait in the client. */
const IN_FLIGHT = 512;

/** Returns reads per second. */
type Measure = () => number | Promise<number>;

function readers(xs: XenStoreClient, atATime: number, reads: number): Measure {
  return async () => {
    let left = reads;
    const reader = async (): Promise<void> => {
      while (left-- > 0) await xs.read(KEY);
    };
    const begin = performance.now();
    await Promise.all(Array.from({ length: atATime }, reader));
    return (reads / (performance.now() - begin)) * 1000;
  };
}

/** @param args the program's, which prints the nanoseconds of READS reads */
function inC(daemon: Daemon, program: string, ...args: readonly string[]): Measure {
  return () => {
    const { stdout, status } = spawnSync(program, args, { env: environmentOf(daemon), encoding: "utf8" });
    if (status !== 0) throw new Error(`${program} failed`);
    return (READS / Number(stdout)) * 1e9;
  };
}

function spawned(daemon: Daemon): Measure {
  const tool = join(daemon.packages, "usr/bin/xenstore-read");
  return () => {
    const begin = performance.now();
    for (let left = SPAWNS; left > 0; left--) spawnSync(tool, [KEY], { env: environmentOf(daemon) });
    return (SPAWNS / (performance.now() - begin)) * 1000;
  };
}

async function compare(title: string, daemon: Daemon): Promise<void> {
  await using xs = new XenStoreClient(new SocketTransport(daemon.path));
  await xs.write(KEY, "0123456789abcdef");
  const library = compiled(daemon.packages, join(ROOT, "bench/xenstore/libxenstore.c"));
  const raw = compiled(daemon.packages, join(ROOT, "bench/xenstore/raw.c"));
  const measures: Record<string, Measure> = {
    "pvbus, one at a time": readers(xs, 1, READS),
    "pvbus, 16 in flight": readers(xs, 16, READS),
    "pvbus, 64 in flight": readers(xs, 64, READS),
    "xenstore-read, spawned": spawned(daemon),
  };
  if (library !== undefined)
    measures["libxenstore, one at a time"] = inC(daemon, library, KEY, String(READS));
  if (raw !== undefined) {
    measures["raw C, one at a time"] = inC(daemon, raw, daemon.path, KEY, String(READS), "1");
    measures["raw C, 64 in flight"] = inC(daemon, raw, daemon.path, KEY, String(READS), "64");
  } else console.log("no C compiler: nothing to compare with but the spawned tool");
  const rates = new Map<string, number[]>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, measure] of Object.entries(measures)) {
      const rate = await measure();
      rates.set(name, [...(rates.get(name) ?? []), rate]);
    }
  }
  const rate = (name: string): number => median(rates.get(name) ?? []);
  console.log(`\n${title}, reads of 16 bytes, median of ${ROUNDS} rounds`);
  row("", "reads/s");
  for (const name of Object.keys(measures)) row(name, Math.round(rate(name)).toString());
  const ratio = (ours: string, theirs: string, target: number): void => {
    const found = rate(ours) / rate(theirs);
    if (Number.isFinite(found)) console.log(`  ${ours} / ${theirs}: ${found.toFixed(2)} (target ${target})`);
  };
  ratio("pvbus, one at a time", "libxenstore, one at a time", 0.65);
  ratio("pvbus, 64 in flight", "libxenstore, one at a time", 1.4);
  ratio("pvbus, 64 in flight", "raw C, 64 in flight", 0.85);
  ratio("pvbus, one at a time", "xenstore-read, spawned", 50);
  ratio("pvbus, 64 in flight", "xenstore-read, spawned", 50);
}

async function memory(daemon: Daemon): Promise<void> {
  await using xs = new XenStoreClient(new SocketTransport(daemon.path));
  await xs.write(KEY, "0123456789abcdef");
  const used = (): string => {
    globalThis.gc?.();
    return `${(process.memoryUsage().heapUsed / 2 ** 20).toFixed(1)} MiB`;
  };
  await readers(xs, IN_FLIGHT, MILLION / 10)();
  const before = used();
  await readers(xs, IN_FLIGHT, MILLION)();
  console.log(`\nheap after ${MILLION / 10} requests ${before}, after ${MILLION} more ${used()}`);
}

const daemons = [
  ["oxenstored", whyNoOxenstored(), startOxenstored],
  ["C xenstored", whyNoXenstored(), startXenstored],
] as const;
for (const [title, why, start] of daemons) {
  if (why !== undefined) {
    console.log(`${title} cannot run here: ${why}`);
    continue;
  }
  await using daemon = await start();
  await compare(`Debian's ${title}`, daemon);
  if (title === "C xenstored") await memory(daemon);
}
