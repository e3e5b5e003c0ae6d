/** `npm run bench`: prints figures of this machine, each beside what it is to be compared with, in one run. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { encodeRecord } from "../providers/hyperv/protocol/record.js";
import { openPvbus, type PvInterface } from "../src/index.js";
import { benchDetection } from "./detection.js";
import { median, ms, row, time } from "./report.js";
import { VendorWay } from "./vendor-way.js";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const PROGRAM = join(ROOT, "dist/bin/pvbus.cjs");
const LIBRARY = join(ROOT, "dist/lib/index.js");
const SIZES = [10, 1_000, 10_000] as const;
const STARTS = 30;

/** Milliseconds that the real daemon took, by number of records (reference, section 2.8; measured on another machine). */
const DAEMON_MS: Readonly<Record<string, readonly [number, number, number]>> = {
  "read by key": [0.03, 0.32, 2.5],
  "write existing": [0.24, 2.3, 27],
  "list all": [0.5, 210, 38_500],
};

/** A recorded machine without a hypervisor: opening asks the real one nothing. */
const NO_MACHINE = { os: "linux", arch: "x64", input: {} };

function makePool(records: number): { sysroot: string; path: string } {
  const sysroot = mkdtempSync(join(tmpdir(), "pvbus-bench-"));
  const path = join(sysroot, "var/lib/hyperv/.kvp_pool_1");
  mkdirSync(dirname(path), { recursive: true });
  const record = (i: number): Buffer =>
    encodeRecord({ key: Buffer.from(`key-${i}`), value: Buffer.from(`value of key ${i}`) });
  writeFileSync(path, Buffer.concat(Array.from({ length: records }, (_, i) => record(i))));
  return { sysroot, path };
}

async function listAll(hv: PvInterface): Promise<number> {
  let count = 0;
  for await (const _ of hv.list("Guest")) count++;
  return count;
}

function startUp(): void {
  const { sysroot } = makePool(10);
  const commands: readonly (readonly [string, readonly string[]])[] = [
    ["node -e 0", ["-e", "0"]],
    ["pvbus --version", [PROGRAM, "--version"]],
    ["pvbus get -t, pool of 10", [PROGRAM, "-t", "Hyper-V", "--sysroot", sysroot, "get", "Guest/key-3"]],
    ["pvbus get, pool of 10", [PROGRAM, "--sysroot", sysroot, "get", "Guest/key-3"]],
    ["pvbus set, pool of 10", [PROGRAM, "--sysroot", sysroot, "set", "Guest/key-3", "value"]],
    ["pvbus detect, live", [PROGRAM, "detect"]],
  ];
  const took = commands.map((): number[] => []);
  for (let round = 0; round < STARTS; round++) {
    for (const [index, [name, args]] of commands.entries()) {
      // A pool just written is read under a lock; the plain case is one that has come to rest.
      if (name.startsWith("pvbus get")) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);
      const before = performance.now();
      const { status } = spawnSync(process.execPath, args, { stdio: "ignore" });
      took[index]?.push(performance.now() - before);
      if (status !== 0) throw new Error(`${name} failed`);
    }
  }
  const base = median(took[0] ?? []);
  console.log(
    `Start-up, median of ${STARTS} (targets: get -t 1.25 on Node 20, 1.5 on Node 24; --version 1.1)`,
  );
  row("", "ms", "of node -e 0");
  for (const [index, [name]] of commands.entries())
    row(name, ms(median(took[index] ?? [])), (median(took[index] ?? []) / base).toFixed(2));
  rmSync(sysroot, { recursive: true });
}

/** Processor time of a program that uses the library, as it ships, beside that of an empty one. */
function library(): void {
  const cpu =
    "const cpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };";
  const open = `${cpu}
    const start = cpu();
    const { openPvbus } = await import(${JSON.stringify(pathToFileURL(LIBRARY).href)});
    const imported = cpu();
    const bus = await openPvbus();
    const first = cpu();
    await bus.close();
    const closed = cpu();
    const again = await openPvbus();
    const second = cpu();
    await again.close();
    console.log(JSON.stringify([start, imported - start, first - imported, second - closed]));`;
  const empty = `${cpu} console.log(JSON.stringify([cpu()]));`;
  const rows = ["node -e 0", "import of pvbus", "first openPvbus()", "second openPvbus()"] as const;
  const took: readonly number[][] = rows.map(() => []);
  const run = (args: readonly string[]): number[] =>
    JSON.parse(spawnSync(process.execPath, args, { encoding: "utf8" }).stdout);
  for (let round = 0; round < STARTS; round++) {
    const times = [...run(["-e", empty]), ...run(["--input-type=module", "-e", open]).slice(1)];
    for (const [index, ms] of times.entries()) took[index]?.push(ms);
  }
  console.log(
    `\nLibrary, ms of processor time, ${STARTS} runs (target for the first: 60 on Node 20, 40 on Node 24; second: 2)`,
  );
  row("", "median", "minimum");
  for (const [index, name] of rows.entries()) {
    const all = took[index] ?? [];
    row(name, ms(median(all)), ms(Math.min(...all)));
  }
}

async function pools(): Promise<void> {
  for (const [column, records] of SIZES.entries()) {
    const { sysroot, path } = makePool(records);
    // As on the live machine; below a sysroot each look at a name walks from the top.
    const open = (): ReturnType<typeof openPvbus> =>
      openPvbus({
        snapshot: NO_MACHINE,
        interfaces: [{ type: "Hyper-V", options: { directory: dirname(path) } }],
      });
    const bus = await open();
    const hv = bus.primary as PvInterface;
    const vendor = new VendorWay(path);
    const key = `key-${records - 1}`;
    await new Promise((done) => setTimeout(done, 100));

    console.log(`\nPool of ${records} records, median ms`);
    row("", "pvbus", "daemon's way", "times faster", "real daemon*");
    const compare = async (
      name: string,
      ours: () => unknown,
      theirs: () => unknown,
      factor = 1,
    ): Promise<void> => {
      const own = await time(ours);
      const other = (await time(theirs)) * factor;
      row(name, ms(own), ms(other), (other / own).toFixed(1), ms(DAEMON_MS[name]?.[column] ?? Number.NaN));
    };
    await compare(
      "read by key",
      () => hv.read(`Guest/${key}`),
      () => vendor.get(key),
    );
    const tree = await openPvbus({ sysroot, interfaces: [{ type: "Hyper-V" }] });
    const captured = tree.primary as PvInterface;
    row("read by key below a sysroot", ms(await time(() => captured.read(`Guest/${key}`))));
    await tree.close();
    await compare(
      "list all",
      () => listAll(hv),
      () => vendor.enumerate(records >> 1),
      records,
    );
    let n = 0;
    await compare(
      "write existing",
      () => hv.write(`Guest/${key}`, `v${n++}`),
      () => vendor.set(key, `v${n++}`),
    );
    const warm = await time(() => hv.read(`Guest/${key}`));
    const scan = await time(() => vendor.get(key));
    row("warm read of a full scan", (warm / scan).toFixed(4), records === 10_000 ? "target 0.1" : "");
    row("open and close", ms(await time(async () => (await open()).close())));
    vendor.close();
    await bus.close();
    rmSync(sysroot, { recursive: true });
  }
  console.log(
    "\n* measured on another machine with the real hv_kvp_daemon; a listing by it is one reload per record.",
  );
  console.log(
    '  "daemon\'s way" is its method in this process; its listing is computed from one reload times the records.',
  );
}

console.log(`Node ${process.version}, ${process.platform} ${process.arch}\n`);
startUp();
library();
await pools();
await benchDetection();
