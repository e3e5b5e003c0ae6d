import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { KvmHostSimulator, VmxHost, XenStoreSimulator } from "../../providers/testing.js";
import { pause } from "../../src/base/flow/abort.js";
import { budget, patience, random, repeat, report } from "../support/campaign.js";
import { PROGRAM } from "../support/command-line.js";
import { PoolTree } from "../support/pools.js";
import { SimulatedVmx } from "../support/vmware.js";

const SECONDS = budget(3, 90);
const KEY = "token";

/** A store with a value that can be erased. */
interface Place extends AsyncDisposable {
  readonly name: string;
  /** Arguments that choose it. */
  readonly args: readonly string[];
  readonly key: string;
  /** Puts the value there. */
  put(value: string): Promise<void> | void;
  /** What is there now. */
  get(): Promise<string | undefined> | string | undefined;
}

async function pool(): Promise<Place> {
  const tree = new PoolTree();
  const store = await tree.open();
  const key = `Guest/${KEY}`;
  return {
    name: "pool file",
    args: ["-t", "Hyper-V", "--sysroot", tree.sysroot],
    key,
    put: (value) => store.write(key, value),
    get: () => store.read(key),
    [Symbol.asyncDispose]: () => tree[Symbol.asyncDispose](),
  };
}

async function kvm(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-take-"));
  const host = new KvmHostSimulator();
  await host.listen(join(folder, "meta"));
  return {
    name: "KVM",
    args: ["-t", "KVM", "--channel", `unix:${join(folder, "meta")}`],
    key: `meta/${KEY}`,
    put: (value) => host.set(KEY, value),
    get: () => host.get(KEY)?.toString(),
    [Symbol.asyncDispose]: async () => {
      await host.stop();
      rmSync(folder, { recursive: true });
    },
  };
}

async function vmware(): Promise<Place> {
  const host = new VmxHost();
  const machine = await SimulatedVmx.start(host);
  const key = `guestinfo.${KEY}`;
  return {
    name: "VMware",
    args: ["-t", "VMware", "--channel", machine.channel],
    key,
    put: (value) => host.set(key, value),
    get: () => Buffer.from(host.get(key) ?? "").toString(),
    [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
  };
}

async function xen(): Promise<Place> {
  const host = await XenStoreSimulator.listen();
  host.createDomain(1);
  const socket = await host.listenFor(1);
  const key = `data/${KEY}`;
  return {
    name: "Xen",
    args: ["-t", "Xen", "--channel", `unix:${socket}`],
    key,
    put: (value) => host.write(`/local/domain/1/${key}`, value),
    get: () => host.read(`/local/domain/1/${key}`)?.toString(),
    [Symbol.asyncDispose]: () => host.close(),
  };
}

describe("kills of pvbus take", function () {
  this.timeout(patience(SECONDS));

  it("at any moment leave the value printed or still there", async () => {
    await using stack = new AsyncDisposableStackLike();
    const places: Place[] = [];
    for (const make of [pool, kvm, vmware, xen]) places.push(stack.use(await make()));
    const own = random();
    const counts = {
      "still there": 0,
      "printed and erased": 0,
      "printed and still there": 0,
      "ended before": 0,
    };
    const lost: string[] = [];
    /** How long a run takes, so that most kills meet it at work. */
    let usualMs = 300;
    const start = (place: Place): { child: ChildProcess; said: () => string; first: Promise<unknown> } => {
      const child = spawn(process.execPath, [PROGRAM, "take", place.key, ...place.args]);
      let stdout = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
      return {
        child,
        said: () => stdout,
        first: Promise.race([once(child.stdout, "data"), once(child, "exit")]),
      };
    };
    const kills = await repeat(
      SECONDS,
      async (round) => {
        const place = places[round % places.length] as Place;
        const value = `secret-${round}-${"x".repeat(own.below(200))}`;
        await place.put(value);
        const began = performance.now();
        const { child, said, first } = start(place);
        const ended = once(child, "close");
        // Between printing and erasing, or whenever.
        if (own() < 0.4) {
          await first;
          if (own() < 0.7) await pause(own() * 4);
        } else await Promise.race([pause(usualMs * own() * 1.1), ended]);
        child.kill("SIGKILL");
        const [code] = await ended;
        if (code === 0) {
          counts["ended before"]++;
          usualMs = (usualMs * 3 + (performance.now() - began)) / 4;
        }
        const isPrinted = said() === `${value}\n`;
        const isThere = (await place.get()) === value;
        if (isPrinted && isThere) counts["printed and still there"]++;
        else if (isPrinted) counts["printed and erased"]++;
        else if (isThere) counts["still there"]++;
        else lost.push(`${place.name}, round ${round}: printed ${JSON.stringify(said())}`);
      },
      places.length,
    );
    report("take", { kills, ...counts, lost: lost.length });
    expect(lost).to.deep.equal([]);
  });
});

/** Node 20 has no AsyncDisposableStack. */
class AsyncDisposableStackLike implements AsyncDisposable {
  readonly #all: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(each: T): T {
    this.#all.push(each);
    return each;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#all.reverse()) await each[Symbol.asyncDispose]();
  }
}
