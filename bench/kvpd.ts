/**
 * `npm run bench:kvpd`: our KVP daemon and the vendor's on the same kind of device, in turns, in one run. Numbers behind it are those of
 * records, `npm run bench:kvpd -- 10`; PVBUS_BENCH_NODE has options of Node for our daemon.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  EMPTY_IP_INFO,
  encodeRequest,
  type KvpRequest,
  LINUX_KVP,
  replyStatus,
} from "../providers/hyperv/protocol/messages.js";
import { encodeRecord } from "../providers/hyperv/protocol/record.js";
import { KvpDeviceSimulator } from "../providers/hyperv/testing/kvp-device/simulator.js";
import { someMac } from "../test/support/kvp-agents.js";
import { fuseLinks, type KvpLink, preparePoolPlace, type StartKvpLink, socketLinks } from "./kvp-link.js";
import { median, row } from "./report.js";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const VENDOR = "/usr/sbin/hv_kvp_daemon";
const GIVEN = process.argv.slice(2).map(Number);
const SIZES: readonly number[] = GIVEN.length > 0 ? GIVEN : [10, 1_000, 10_000];
const NODE_OPTIONS = process.env["PVBUS_BENCH_NODE"]?.split(" ") ?? [];
const POOL = 0;
/** Requests before anything counts: the compiler of our side needs some thousands. */
const WARM_UP = 5_000;
const ROUNDS = 20;
/** Longest time that one round of a row takes, in milliseconds. */
const ROUND_MS = 60;
const LISTINGS_MS = 1_500;
/** Byte of an ENUMERATE at which its index is. */
const INDEX_AT = 4;

type Known = Exclude<KvpRequest, { operation: "malformed" }>;
const encoded = (request: Known): Buffer => encodeRequest(request, LINUX_KVP);

function makePools(directory: string, records: number): string {
  mkdirSync(directory);
  const pool = Array.from({ length: records }, (_, at) =>
    encodeRecord({ key: Buffer.from(`key ${at}`), value: Buffer.from(`value ${at}`) }),
  );
  writeFileSync(join(directory, `.kvp_pool_${POOL}`), Buffer.concat(pool));
  return directory;
}

async function timed(link: KvpLink, message: Buffer): Promise<number> {
  const before = performance.now();
  const reply = link.request(message);
  const whole = reply instanceof Buffer ? reply : await reply;
  const took = performance.now() - before;
  if (replyStatus(whole) !== 0) throw new Error(`refused with 0x${replyStatus(whole).toString(16)}`);
  return took;
}

/** Asks both in turns; gives the median of each in ms. */
async function inTurns(links: readonly KvpLink[], message: () => Buffer): Promise<readonly number[]> {
  const took = links.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [which, link] of links.entries()) {
      const until = performance.now() + ROUND_MS;
      do took[which]?.push(await timed(link, message()));
      while (performance.now() < until);
    }
  }
  return took.map(median);
}

/** The host's listing, each index until the first error; the median of as many as fit the time. */
async function listing(link: KvpLink, records: number): Promise<number> {
  const message = encoded({ operation: "enumerate", pool: POOL, index: 0 });
  const took: number[] = [];
  const until = performance.now() + LISTINGS_MS;
  do {
    const before = performance.now();
    let index = 0;
    for (;;) {
      message.writeUInt32LE(index, INDEX_AT);
      const reply = link.request(message);
      if (replyStatus(reply instanceof Buffer ? reply : await reply) !== 0) break;
      index++;
    }
    took.push(performance.now() - before);
    if (index !== records) throw new Error(`listed ${index} of ${records} records`);
  } while (performance.now() < until);
  return median(took);
}

function figures(name: string, [ours = Number.NaN, vendor = Number.NaN]: readonly number[]): void {
  const text = (value: number): string => (value >= 10 ? value.toFixed(1) : value.toFixed(4));
  row(name, text(ours), text(vendor), (vendor / ours).toFixed(2));
}

async function compare(start: StartKvpLink, scratch: string, records: number): Promise<void> {
  const programs = [
    [process.execPath, ...NODE_OPTIONS, join(ROOT, "dist/bin/pvbus.cjs"), "kvpd", "-n"],
    [VENDOR, "-n"],
  ];
  const links: KvpLink[] = [];
  try {
    for (const [which, program] of programs.entries())
      links.push(await start(program, makePools(join(scratch, `${records}-${which}`), records)));
    const last = records - 1;
    const enumerate = encoded({ operation: "enumerate", pool: POOL, index: last });
    const key = Buffer.from(`key ${last}`);
    const sets = ["one", "other"].map((text) =>
      encoded({ operation: "set", pool: POOL, key, value: Buffer.from(text) }),
    );
    let turn = 0;
    const set = (): Buffer => sets[turn++ & 1] as Buffer;
    const ours = links[0] as KvpLink;
    for (let at = 0; at < WARM_UP; at++) await ours.request(at & 1 ? enumerate : set());

    console.log(`\nPool of ${records} records`);
    row("median ms", "pvbus kvpd", "vendor's", "vendor/ours");
    figures("ENUMERATE the last", await inTurns(links, () => enumerate));
    const get = encoded({ operation: "get", pool: POOL, key, valueSize: 2048 });
    figures("GET the last", await inTurns(links, () => get));
    figures("SET the last", await inTurns(links, set));
    const listings: number[] = [];
    for (const link of links) listings.push(await listing(link, records));
    figures("the host lists all", listings);
    const mac = someMac();
    if (mac !== undefined && records === SIZES[0]) {
      const info = { ...EMPTY_IP_INFO, adapterId: mac };
      const request = encoded({ operation: "getIpInfo", info });
      figures("GET_IP_INFO", await inTurns(links, () => request));
    }
    figures(
      "resident MiB",
      links.map((link) => link.rss()),
    );
  } finally {
    for (const link of links) await link.close();
  }
}

const why = KvpDeviceSimulator.whyNot() ?? (existsSync(VENDOR) ? undefined : `${VENDOR} is missing`);
if (why !== undefined) {
  console.error(`cannot compare with the vendor's daemon: ${why}`);
  process.exit(1);
}
const scratch = mkdtempSync(join(tmpdir(), "pvbus-bench-"));
try {
  preparePoolPlace();
  const sockets = socketLinks(ROOT, scratch);
  console.log(
    sockets === undefined
      ? "Device: the simulated one (a C compiler would give a faster one, that shows the daemons themselves)"
      : "Device: a socket in the place of the device file, host and daemon on one processor",
  );
  for (const records of SIZES) await compare(sockets ?? fuseLinks, scratch, records);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
