import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { MemoryProvider, memoryManifest } from "../../../providers/testing.js";
import { pause } from "../../../src/base/flow/abort.js";
import { type Bus, openPvbus, type PvInterface, pvbusError } from "../../../src/index.js";
import {
  keysBelow,
  portableValues,
  type SyncOptions,
  type SyncReport,
  type SyncSource,
  sync,
  syncOnce,
} from "../../../src/tools/index.js";
import { budget, random, repeat, report } from "../../support/campaign.js";
import { BARE } from "../../support/command-line.js";
import { systemdReads } from "../../support/environment-file.js";
import { codeOf, memoryInterface } from "../../support/memory-interface.js";
import { pending } from "../../support/pending.js";

const NS = "com.example.agent";
let place: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "pvbus-sync-"));
});
afterEach(() => rmSync(place, { recursive: true }));

const env = (): string => join(place, "env");
const variables = (): Record<string, string> =>
  existsSync(env()) ? Object.fromEntries(systemdReads(readFileSync(env(), "utf8"))) : {};

/** A bus with one memory store, and what its host does. */
async function memoryBus(): Promise<{ bus: Bus; store: PvInterface; give: MemoryProvider["give"] }> {
  const provider = new MemoryProvider(undefined, { limits: { maxKeyBytes: 300, maxValueBytes: 64 } });
  const bus = await openPvbus({
    snapshot: BARE,
    providers: [memoryManifest(provider)],
    interfaces: [{ type: "Memory" }],
  });
  return { bus, store: bus.byType("Memory") as PvInterface, give: (key, value) => provider.give(key, value) };
}

/** A sync that goes on while the test does things. */
class Running implements AsyncDisposable {
  readonly written: SyncReport[] = [];
  readonly problems: unknown[] = [];
  readonly done: Promise<string>;
  readonly #end = new AbortController();

  constructor(source: SyncSource, options: SyncOptions = {}) {
    this.done = codeOf(
      sync(source, {
        env: env(),
        ...options,
        signal: this.#end.signal,
        onWritten: (written) => this.written.push(written),
        onProblem: (error) => this.problems.push((error as { code?: string }).code),
      }),
    );
  }

  /** Waits until something holds; writes, problems and files come whenever they come. */
  async until(holds: () => boolean): Promise<void> {
    const over = this.done.then((code) => {
      throw new Error(`the sync has ended: ${code}`);
    });
    over.catch(() => undefined);
    while (!holds()) await Promise.race([pause(2), over]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.done;
  }
}

describe("sync", () => {
  it("keeps what lies below a prefix, which is cut, and follows it", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    give("host/app/role", "web");
    give("host/other", "x");
    await using running = new Running(keysBelow(store, "host/app"), { dir: join(place, "d") });
    await running.until(() => running.written.length === 1);
    expect(variables()).to.deep.equal({ ROLE: "web" });
    give("host/app/role", "db");
    give("host/app/a/b", "1");
    await running.until(() => variables()["A_B"] === "1" && variables()["ROLE"] === "db");
    give("host/app/role", undefined);
    await running.until(() => running.written.at(-1)?.keys === 1 && running.written.length > 2);
    expect(variables()).to.deep.equal({ A_B: "1" });
    expect(readdirSync(join(place, "d"))).to.deep.equal(["a%2Fb"]);
    expect(running.written.at(-1)).to.deep.equal({ keys: 1, changed: [], gone: ["role"] });
    expect(running.problems).to.deep.equal([]);
  });

  it("cuts the prefix with or without its slash; one that is a key itself counts by its last part where it is alone", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    const namesBelow = async (prefix: string): Promise<string[]> => {
      const source = keysBelow(store, prefix);
      return [...source.named(await source.read()).keys()];
    };
    give("host/app", "top");
    expect(await namesBelow("host/app")).to.deep.equal(["app"]);
    give("host/app/a", "1");
    give("host/apple", "2");
    for (const prefix of ["host/app", "host/app/"])
      expect(await namesBelow(prefix), prefix).to.deep.equal(["a"]);
    expect(await namesBelow("host")).to.have.members(["app", "app/a", "apple"]);
    expect(await namesBelow("")).to.have.members(["host/app", "host/app/a", "host/apple"]);
    const folded: SyncSource = keysBelow(store, "HOST/app");
    expect([...folded.named(new Map([["host/app/x", Buffer.from("1")]])).keys()]).to.deep.equal(["x"]);
  });

  it("keeps what the host gave in a namespace, sets joined, not what the guest says", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    give(`host/${NS}/role`, "web");
    await bus.portable(NS).publish("role", "the guest's");
    await bus.portable(NS).publish("status", "ready");
    // What the guest has left torn is none of the host's.
    await store.write(`guest/${NS}/torn`, `pvbus-set-1 a 2 100 ${"0".repeat(32)}`);
    await using running = new Running(await portableValues(bus, NS, []));
    await running.until(() => running.written.length === 1);
    expect(variables()).to.deep.equal({ ROLE: "web" });
    const long = "0123456789".repeat(10);
    const sum = createHash("sha256").update(long).digest("hex").slice(0, 32);
    give(`host/${NS}/role__a_1`, long.slice(0, 60));
    give(`host/${NS}/role__a_2`, long.slice(60));
    give(`host/${NS}/role`, `pvbus-set-1 a 2 100 ${sum}`);
    await running.until(() => variables()["ROLE"] === long);
    expect(variables()).to.deep.equal({ ROLE: long });
    give(`host/${NS}/level`, "1");
    await running.until(() => variables()["LEVEL"] === "1");
  });

  it("keeps the names that are given, and no others", async () => {
    const { bus, give } = await memoryBus();
    await using _bus = bus;
    give(`host/${NS}/role`, "web");
    give(`host/${NS}/other`, "x");
    await using running = new Running(await portableValues(bus, NS, ["role", "level", "role"]));
    await running.until(() => running.written.length === 1);
    expect(variables()).to.deep.equal({ ROLE: "web" });
    give(`host/${NS}/other`, "y");
    give(`host/${NS}/level`, "1");
    await running.until(() => variables()["LEVEL"] === "1");
    expect(variables()).to.deep.equal({ LEVEL: "1", ROLE: "web" });
  });

  it("needs names where a store cannot list, or shares keys between directions", async () => {
    const { bus } = await memoryBus();
    await using _bus = bus;
    const provider = new MemoryProvider();
    const cannotList = await memoryInterface(provider, (store) => ({
      capabilities: { ...store.capabilities, list: false },
    }));
    expect(() => keysBelow(cannotList, "host/"))
      .to.throw(/sync -n NAMESPACE NAME/)
      .with.property("code", "ERR_NOT_SUPPORTED");
    const shared = await memoryInterface(provider, (store) => ({
      portable: { ...store.portable, guestKey: (ns: string, name: string) => `host/${ns}/${name}` } as never,
    }));
    for (const target of [cannotList, shared]) {
      const one = { interfaces: [target], portable: bus.portable.bind(bus) } as unknown as Bus;
      const refused = await portableValues(one, NS, []).catch((error: unknown) => error);
      expect(refused).to.have.property("code", "ERR_NOT_SUPPORTED");
      expect((refused as Error).message).to.contain(`sync -n ${NS} NAME`);
      expect(await codeOf(portableValues(one, NS, ["role"]))).to.equal("none");
    }
  });

  it("reads a store that tells of no change once a second", async () => {
    const provider = new MemoryProvider();
    const target = await memoryInterface(provider, (store) => ({
      capabilities: { ...store.capabilities, watch: false },
    }));
    provider.give("host/role", "web");
    await using running = new Running(keysBelow(target, "host/"));
    await running.until(() => variables()["ROLE"] === "web");
    provider.give("host/role", "db");
    await running.until(() => variables()["ROLE"] === "db");
  });

  it("does not follow what never changes, and reads it once", async () => {
    const provider = new MemoryProvider(undefined, { given: { "host/role": "web" } });
    const target = await memoryInterface(provider, () => ({ isFixed: (key) => key.startsWith("host") }));
    expect(await codeOf(sync(keysBelow(target, "host"), { env: env() }))).to.equal("ERR_NOT_SUPPORTED");
    await syncOnce(keysBelow(target, "host"), { env: env() });
    expect(variables()).to.deep.equal({ ROLE: "web" });
  });

  it("does it one time", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    give("host/role", "web");
    const reports: SyncReport[] = [];
    const command = ["sh", "-c", 'cat "$0" >"$0.seen"', env()];
    await syncOnce(keysBelow(store, "host"), {
      env: env(),
      command,
      onWritten: (each) => reports.push(each),
    });
    expect(readFileSync(`${env()}.seen`, "utf8")).to.equal("ROLE=web\n");
    expect(reports).to.deep.equal([{ keys: 1, changed: ["role"], gone: [] }]);
    const failing = syncOnce(keysBelow(store, "host"), { env: env(), command: ["sh", "-c", "exit 3"] });
    expect(await codeOf(failing)).to.equal("ERR_UNAVAILABLE");
    const hanging = syncOnce(keysBelow(store, "host"), { command: ["sleep", "600"], timeoutMs: 100 });
    expect(await codeOf(hanging)).to.equal("ERR_TIMEOUT");
  });

  it("ends at once where the first content cannot be kept, with its code", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    give("host/a.b", "1");
    give("host/a-b", "2");
    for (const run of [sync, syncOnce])
      expect(await codeOf(run(keysBelow(store, "host"), { env: env() }))).to.equal("ERR_CONFLICT");
    expect(existsSync(env())).to.equal(false);
  });

  it("tells later content that cannot be kept, keeps what it has, and goes on", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    give("host/a", "1");
    await using running = new Running(keysBelow(store, "host"), {
      command: ["sh", "-c", 'echo >>"$0"', join(place, "runs")],
    });
    await running.until(() => existsSync(join(place, "runs")));
    give("host/b.c", "1");
    give("host/b-c", "2");
    await running.until(() => running.problems.includes("ERR_CONFLICT"));
    expect(variables()).to.deep.equal({ A: "1" });
    give("host/b-c", undefined);
    await running.until(() => variables()["B_C"] === "1");
    await running.until(() => readFileSync(join(place, "runs"), "utf8") === "\n\n");
  });

  it("tells a full disk, keeps what it has, and writes when there is room though nothing changes", async function () {
    const small = join(place, "small");
    mkdirSync(small);
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", small]).status !== 0)
      return pending(this, "mounting a tmpfs needs root");
    const file = join(small, "env");
    try {
      const provider = new MemoryProvider(undefined, { limits: { maxValueBytes: 1 << 20 } });
      const target = await memoryInterface(provider);
      provider.give("host/a", "1");
      await using running = new Running(keysBelow(target, "host"), { env: file });
      await running.until(() => running.written.length === 1);
      provider.give("host/a", "x".repeat(200_000));
      await running.until(() => running.problems.includes("ERR_NO_SPACE"));
      expect(readFileSync(file, "utf8")).to.equal("A=1\n");
      expect(readdirSync(small)).to.deep.equal(["env"]);
      spawnSync("mount", ["-o", "remount,size=1m", small]);
      await running.until(() => readFileSync(file, "utf8").length > 200_000);
    } finally {
      spawnSync("umount", ["-l", small]);
    }
  });

  it("tells a store that is lost, keeps what it has, and follows again when it is back", async () => {
    const provider = new MemoryProvider();
    let isLost = false;
    let lose = (): void => undefined;
    const target = await memoryInterface(provider, (store) => ({
      list: (prefix, call) => {
        if (isLost) throw pvbusError("ERR_UNAVAILABLE", "the daemon is not running");
        return store.list?.(prefix, call) as never;
      },
      watch: async function* (prefix, call, hooks) {
        if (isLost) throw pvbusError("ERR_UNAVAILABLE", "the daemon is not running");
        const changes = store.watch?.(prefix, call, hooks)[Symbol.asyncIterator]() as AsyncIterator<never>;
        const lost = new Promise<never>((_, reject) => {
          lose = () => reject(pvbusError("ERR_DISCONNECTED", "the daemon has closed the connection"));
        });
        for (;;) {
          const next = await Promise.race([changes.next(), lost]);
          if (next.done === true) return;
          yield next.value;
        }
      },
    }));
    provider.give("host/role", "web");
    await using running = new Running(keysBelow(target, "host"));
    await running.until(() => running.written.length === 1);
    isLost = true;
    lose();
    await running.until(() => running.problems.length >= 2);
    expect(running.problems.slice(0, 2)).to.deep.equal(["ERR_DISCONNECTED", "ERR_UNAVAILABLE"]);
    expect(variables()).to.deep.equal({ ROLE: "web" });
    provider.give("host/role", "db");
    isLost = false;
    await running.until(() => variables()["ROLE"] === "db");
    provider.give("host/role", "cache");
    await running.until(() => variables()["ROLE"] === "cache");
  });

  it("ends with what is for good, and without an error at the end of its time", async () => {
    const { bus, store, give } = await memoryBus();
    give("host/role", "web");
    await using running = new Running(keysBelow(store, "host"), {});
    await running.until(() => running.written.length === 1);
    expect(await codeOf(sync(keysBelow(store, "host"), { env: env(), timeoutMs: 200 }))).to.equal("none");
    const refusing = await memoryInterface(new MemoryProvider(), () => ({
      list: () => {
        throw pvbusError("ERR_PERMISSION", "no");
      },
    }));
    expect(await codeOf(sync(keysBelow(refusing, "host"), { env: env() }))).to.equal("ERR_PERMISSION");
    await bus.close();
  });

  it("runs the command once after the first write, then after changes of content alone", async () => {
    const { bus, store, give } = await memoryBus();
    await using _bus = bus;
    give("host/role", "web");
    const runs = join(place, "runs");
    const lines = (): number => (existsSync(runs) ? readFileSync(runs, "utf8").split("\n").length - 1 : 0);
    await using running = new Running(keysBelow(store, "host"), {
      command: ["sh", "-c", 'cat "$0" >>"$1"', env(), runs],
    });
    await running.until(() => lines() === 1);
    give("host/role", "web");
    give("host/role", "db");
    give("host/role", "web");
    give("host/other", "1");
    await running.until(() => variables()["OTHER"] === "1" && lines() === 3);
    // The same once more is no change: nothing tells that nothing has come of it.
    give("host/role", "web");
    await pause(300);
    give("host/role", "db");
    await running.until(() => lines() === 5);
    expect(readFileSync(runs, "utf8")).to.equal("ROLE=web\nOTHER=1\nROLE=web\nOTHER=1\nROLE=db\n");
  });

  it("of a burst of 1,000 changes ends in the last state, and no reader ever sees a part", async function () {
    const seconds = budget(1, 60);
    this.timeout(60_000 + seconds * 4000);
    const own = random();
    let changes = 0;
    let reads = 0;
    const bursts = await repeat(seconds, async (round) => {
      const folder = join(place, String(round));
      const file = join(folder, "env");
      const { bus, store, give } = await memoryBus();
      await using _bus = bus;
      give("host/state", "0");
      await using running = new Running(keysBelow(store, "host"), { env: file, dir: join(folder, "d") });
      await running.until(() => running.written.length === 1);
      let isOver = false;
      // Each value says its own length, so that a part is known: "12:xxxxxxxxxxxx".
      const isWhole = (value: string): boolean => value === sized(Number.parseInt(value, 10));
      const reader = (async () => {
        for (; !isOver; reads++) {
          const [text, state] = [readFileSync(file, "utf8"), readFileSync(join(folder, "d/state"), "utf8")];
          for (const [name, value] of systemdReads(text))
            if (!isWhole(value)) throw new Error(`${name}: ${value}`);
          if (!text.endsWith("\n") || !isWhole(state)) throw new Error(JSON.stringify([text, state]));
          await new Promise(setImmediate);
        }
      })();
      const last = new Map([["state", "0"]]);
      for (let left = 1000; left > 0; left--, changes++) {
        const name = own.pick(["state", "a", "b", "c/d"]);
        const value = name !== "state" && own() < 0.2 ? undefined : sized(own.below(50));
        give(`host/${name}`, value);
        if (value === undefined) last.delete(name);
        else last.set(name, value);
        if (own() < 0.05) await pause(own.below(20));
      }
      const wanted = Object.fromEntries([...last].map(([name, value]) => [name.replace("/", "%2F"), value]));
      const isThere = (): boolean => {
        const names = readdirSync(join(folder, "d"));
        return (
          names.length === last.size &&
          names.every((name) => readFileSync(join(folder, "d", name), "utf8") === wanted[name])
        );
      };
      await running.until(isThere);
      isOver = true;
      await reader;
      const found = Object.fromEntries(systemdReads(readFileSync(file, "utf8")));
      const expected = Object.fromEntries(
        [...last].map(([name, value]) => [name.toUpperCase().replace("/", "_"), value]),
      );
      expect(found).to.deep.equal(expected);
    });
    report("sync", { bursts, changes, reads });
    expect(reads).to.be.greaterThan(100);
  });
});

function sized(length: number): string {
  return length === 0 ? "0" : `${length}:${"x y".repeat(length).slice(0, length)}`;
}
