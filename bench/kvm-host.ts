/**
 * `npm run bench:kvm-host`: the host of KVM's metadata channel with 1, 100 and 1,000 guests connected over UNIX sockets, beside a
 * server that answers every line with the same bytes at once: what sockets and Node alone take. Then one guest beside another one that
 * asks for thousands of keys, large values or writes without pause; `npm run bench:kvm-host -- flood` is that part alone,
 * and `-- get 1000` GETs of so many guests in turn with the other server, as a machine with other work needs it; a further number
 * is that of the requests' ids, of which the host knows the same bytes again only where there is one.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { openAdministration } from "../providers/kvm/host/index.js";
import { encodeAnswer } from "../src/mdata/answer.js";
import { encodeRequest, type Request } from "../src/mdata/request.js";
import { median, ms, row } from "./report.js";

const SCRIPT = fileURLToPath(import.meta.url);
const PROGRAM = join(resolve(dirname(SCRIPT), "../.."), "dist/bin/pvbus.cjs");
const GUESTS = [1, 100, 1_000];
const MEASURE_MS = 1_500;
const MIB = 1024 * 1024;
const LF = 0x0a;

/** One guest's connection: a request at a time. */
class Guest {
  readonly socket: Socket;
  #take = (): void => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      if (chunk[chunk.length - 1] === LF) this.#take();
    });
  }

  /** Sends a frame and waits for the answer's end. */
  ask(frame: Buffer): Promise<void> {
    return new Promise((resolve) => {
      this.#take = resolve;
      this.socket.write(frame);
    });
  }
}

async function connect(paths: readonly string[]): Promise<Guest[]> {
  return Promise.all(
    paths.map(async (path) => {
      const socket = createConnection(path);
      await once(socket, "connect");
      return new Guest(socket);
    }),
  );
}

interface Rate {
  readonly perSecond: number;
  readonly medianMs: number;
  readonly worstMs: number;
}

/** All guests ask for a while, each one thing at a time. */
async function measure(guests: readonly Guest[], frame: Buffer | (() => Buffer)): Promise<Rate> {
  const next = typeof frame === "function" ? frame : () => frame;
  const latencies: number[] = [];
  const began = performance.now();
  const end = began + MEASURE_MS;
  await Promise.all(
    guests.map(async (guest) => {
      for (let now = performance.now(); now < end; ) {
        await guest.ask(next());
        const later = performance.now();
        latencies.push(later - now);
        now = later;
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  const sorted = latencies.sort((a, b) => a - b);
  const worstMs = sorted[Math.floor(sorted.length * 0.99)] ?? 0;
  return { perSecond: latencies.length / seconds, medianMs: median(sorted), worstMs };
}

function request(what: Request): Buffer {
  return encodeRequest("00000001", what);
}

function put(bytes: number): Buffer {
  return request({ command: "PUT", key: "bench", value: Buffer.alloc(bytes, 0x62) });
}

function memoryMiB({ pid }: ChildProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

/** Returns the processor time that a process has taken. */
function cpuMs({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  // In ticks of 10 ms, on every Linux that Node runs on.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function startServer(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.setEncoding("utf8");
  for await (const text of child.stderr?.iterator({ destroyOnReturn: false }) ?? []) {
    said += text;
    if (said.includes('"serving"')) break;
  }
  child.stderr?.resume();
  if (!said.includes('"serving"')) throw new Error(said);
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  await once(child, "close");
}

/** The other server: no frame is looked at. */
async function answerAtOnce(folder: string, count: number): Promise<void> {
  const answer = encodeAnswer("00000001", { kind: "success", value: Buffer.from("web-1") });
  const serve = (socket: Socket): void => {
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      if (chunk[chunk.length - 1] === LF) socket.write(answer);
    });
  };
  for (let i = 0; i < count; i++) await once(createServer(serve).listen(join(folder, `e${i}`)), "listening");
  console.error('"serving"');
}

async function compare(folder: string, count: number): Promise<void> {
  const config = join(folder, "hosts.json");
  const state = join(folder, `state-${count}`);
  const paths = Array.from({ length: count }, (_, i) => join(folder, `g${i}`));
  const guests = paths.map((path, i) => [`guest-${i}`, { endpoints: [`unix:${path}`] }]);
  writeFileSync(config, JSON.stringify({ guests: Object.fromEntries(guests) }));
  const host = await startServer([PROGRAM, "host", "serve", "--state", state, "--config", config]);
  const idleMiB = memoryMiB(host);
  const connected = await connect(paths);
  // Every connection has been used once.
  await Promise.all(connected.map((guest) => guest.ask(request({ command: "GET", key: "hostname" }))));
  const connectedMiB = memoryMiB(host);
  await using administration = await openAdministration(state);
  for (let i = 0; i < count; i++) {
    await administration.set(`guest-${i}`, "hostname", Buffer.from("web-1"));
    if (i === 0) await administration.set("guest-0", "large", Buffer.alloc(MIB, 0x61));
  }
  const read = await measure(connected, request({ command: "GET", key: "hostname" }));
  const write = await measure(connected, put(20));
  const blocks = await measure(connected, put(64 * 1024));
  const [first] = connected as [Guest];
  const large = await measure([first], request({ command: "GET", key: "large" }));
  for (const { socket } of connected) socket.destroy();
  await stop(host);

  const other = await startServer([SCRIPT, "answer-at-once", folder, String(count)]);
  const beside = await connect(Array.from({ length: count }, (_, i) => join(folder, `e${i}`)));
  const bare = await measure(beside, request({ command: "GET", key: "hostname" }));
  for (const { socket } of beside) socket.destroy();
  await stop(other);
  for (let i = 0; i < count; i++) rmSync(join(folder, `e${i}`), { force: true });

  const figure = (value: number): string => Math.round(value).toLocaleString("en");
  const share = `${((read.perSecond / bare.perSecond) * 100).toFixed(0)} %`;
  console.log(`\n${count === 1 ? "1 guest" : `${figure(count)} guests`}`);
  row("", "per second", "median ms", "99th ms");
  const line = (name: string, rate: Rate, ...more: readonly string[]): void =>
    row(name, figure(rate.perSecond), ms(rate.medianMs), ms(rate.worstMs), ...more);
  line("answer at once, no protocol", bare);
  line("GET of 5 bytes", read, `${share} of that`);
  line("PUT of 20 bytes, on the disk", write);
  line("PUT of 64 KiB, on the disk", blocks, `${((blocks.perSecond * 64) / 1024).toFixed(1)} MiB/s`);
  line("GET of 1 MiB by one of them", large, `${large.perSecond.toFixed(1)} MiB/s`);
  row("memory: host alone", `${idleMiB.toFixed(1)} MiB`);
  const each = ((connectedMiB - idleMiB) / count) * 1024;
  row("memory: guests connected", `${connectedMiB.toFixed(1)} MiB`, `${each.toFixed(1)} KiB each`);
}

const PAIRS = 8;

/** Small GETs and answers at once, in turn. */
async function inPairs(folder: string, count: number, ids: number): Promise<void> {
  const config = join(folder, "pairs.json");
  const state = join(folder, "state-pairs");
  const names = Array.from({ length: count }, (_, i) => `guest-${i}`);
  const guests = names.map((name, i) => [name, { endpoints: [`unix:${join(folder, `g${i}`)}`] }]);
  writeFileSync(config, JSON.stringify({ guests: Object.fromEntries(guests) }));
  {
    await using administration = await openAdministration(state);
    for (const name of names) await administration.set(name, "hostname", Buffer.from("web-1"));
  }
  const profile = process.env["PVBUS_BENCH_PROFILE"]?.split(" ") ?? [];
  const serve = [PROGRAM, "host", "serve", "--state", state, "--config", config];
  const host = await startServer([...profile, ...serve]);
  const other = await startServer([SCRIPT, "answer-at-once", folder, String(count)]);
  const frames = Array.from({ length: ids }, (_, id) =>
    encodeRequest(`${id}`.padStart(8, "0"), { command: "GET", key: "hostname" }),
  );
  let turn = 0;
  const get = (): Buffer => frames[turn++ % ids] as Buffer;
  const [asking, beside] = [
    { server: host, guests: await connect(names.map((_, i) => join(folder, `g${i}`))) },
    { server: other, guests: await connect(names.map((_, i) => join(folder, `e${i}`))) },
  ];
  const shares: number[] = [];
  const used = [0, 0];
  for (let pair = 0; pair <= PAIRS; pair++) {
    const rates: number[] = [];
    for (const [at, { server, guests }] of [asking, beside].entries()) {
      const before = cpuMs(server);
      const { perSecond } = await measure(guests, get);
      rates.push(perSecond);
      used[at] = (used[at] ?? 0) + ((cpuMs(server) - before) * 1000) / (perSecond * (MEASURE_MS / 1000));
      if (pair === 0) used[at] = 0;
    }
    const [read = 0, bare = 1] = rates;
    // The first pair warms both up.
    if (pair === 0) continue;
    shares.push(read / bare);
    row(`${pair}`, Math.round(read).toLocaleString("en"), Math.round(bare).toLocaleString("en"));
  }
  console.log(
    `GET of ${count} guests: ${(median(shares.sort((a, b) => a - b)) * 100).toFixed(0)} % of an answer at once`,
  );
  const [own = 0, bare = 0] = used.map((us) => us / PAIRS);
  console.log(
    `processor time of a server: ${own.toFixed(1)} µs for a GET, ${bare.toFixed(1)} for an answer at once`,
  );
  for (const { guests } of [asking, beside]) for (const { socket } of guests) socket.destroy();
  await stop(host);
  await stop(other);
}

const FLOOD_CONNECTIONS = 8;
const FLOOD_KEYS = 20_000;
const FLOODS: Readonly<Record<string, () => Buffer>> = {
  "KEYS, 4 MiB of them": () => request({ command: "KEYS" }),
  "GET of 4 MiB": () => request({ command: "GET", key: "large" }),
  "PUT of 1 MiB": () => put(MIB),
};

/** A guest that asks through eight connections and reads all answers, as fast as it can; a process of its own. */
async function flood(path: string, name: string): Promise<void> {
  const frame = FLOODS[name]?.() ?? Buffer.alloc(0);
  const guests = await connect(Array.from({ length: FLOOD_CONNECTIONS }, () => path));
  console.error('"serving"');
  for (const guest of guests) {
    void (async () => {
      for (;;) await guest.ask(frame);
    })();
  }
}

/** One guest's requests, alone and beside a flood, in turn. */
async function beside(folder: string): Promise<void> {
  const state = join(folder, "state-flood");
  const [quiet, loud] = [join(folder, "quiet"), join(folder, "loud")];
  {
    await using administration = await openAdministration(state);
    const names = Array.from({ length: FLOOD_KEYS }, (_, i) => `${i}`.padStart(200, "k"));
    await Promise.all(names.map((name) => administration.set("loud", name, Buffer.from("v"))));
    await administration.set("loud", "large", Buffer.alloc(4 * MIB, 0x61));
    await administration.set("quiet", "hostname", Buffer.from("web-1"));
  }
  const config = join(folder, "flood.json");
  const limits = { maxKeys: 100_000, maxTotalBytes: 64 * MIB };
  const guests = {
    quiet: { endpoints: [`unix:${quiet}`] },
    loud: { endpoints: [`unix:${loud}`], limits },
  };
  writeFileSync(config, JSON.stringify({ guests }));
  const host = await startServer([PROGRAM, "host", "serve", "--state", state, "--config", config]);
  const neighbour = await connect([quiet]);
  const get = request({ command: "GET", key: "hostname" });
  await measure(neighbour, get);
  console.log("\nGET of 5 bytes, beside another guest with 8 connections");
  row("", "per second", "median ms", "99th ms");
  const figure = (name: string, { perSecond, medianMs, worstMs }: Rate): void =>
    row(name, Math.round(perSecond).toLocaleString("en"), ms(medianMs), ms(worstMs));
  for (const name of Object.keys(FLOODS)) {
    figure("alone", await measure(neighbour, get));
    const child = await startServer([SCRIPT, "flood", loud, name]);
    await measure(neighbour, get);
    figure(name, await measure(neighbour, get));
    await stop(child);
  }
  for (const { socket } of neighbour) socket.destroy();
  await stop(host);
}

const [mode, where = "", what = ""] = process.argv.slice(2);
if (mode === "answer-at-once") await answerAtOnce(where, Number(what));
else if (mode === "flood" && where !== "") await flood(where, what);
else {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-bench-"));
  try {
    if (mode === "get") await inPairs(folder, Number(where) || 1_000, Number(what) || 1);
    else if (mode !== "flood") for (const guests of GUESTS) await compare(folder, guests);
    if (mode !== "get") await beside(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
