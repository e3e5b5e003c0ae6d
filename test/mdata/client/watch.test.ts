import { chmodSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import type { KvmStore } from "../../../providers/kvm/index.js";
import type { KvmHostDialect } from "../../../providers/testing.js";
import { Call } from "../../../src/index.js";
import { turn } from "../../support/descriptors.js";
import { KvmMachine } from "../../support/kvm-store.js";
import { rejects } from "../../support/rejects.js";
import { addFiles, asNobody } from "../../support/trees.js";

/** A running watch and what it told. */
class Watching {
  readonly changes: string[] = [];
  readonly ended: Promise<void>;
  readonly #abort = new AbortController();
  #news = (): void => undefined;

  private constructor(store: KvmStore, prefix: string, ready: () => void) {
    this.ended = this.#run(store, prefix, ready);
  }

  static async start(store: KvmStore, prefix: string): Promise<Watching> {
    let watching: Watching | undefined;
    await new Promise<void>((resolve, reject) => {
      watching = new Watching(store, prefix, resolve);
      watching.ended.catch(reject);
    });
    return watching as Watching;
  }

  async #run(store: KvmStore, prefix: string, ready: () => void): Promise<void> {
    const call = new Call({ signal: this.#abort.signal, timeoutMs: Number.POSITIVE_INFINITY });
    for await (const { key, value } of store.watch?.(prefix, call, { ready }) ?? []) {
      this.changes.push(value === undefined ? `-${key}` : `${key}=${Buffer.from(value)}`);
      this.#news();
    }
  }

  /** Waits until so many changes came. */
  async seen(count: number): Promise<string[]> {
    while (this.changes.length < count) await new Promise<void>((resolve) => (this.#news = resolve));
    return this.changes;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.ended;
  }
}

describe("watch of a metadata channel", () => {
  let machine: KvmMachine;
  afterEach(() => machine.end());

  async function watching(prefix: string, dialect: KvmHostDialect = "pvbus"): Promise<Watching> {
    machine = await KvmMachine.start({ dialect });
    machine.host.set("before", "1");
    machine.host.set("app/before", "1");
    return Watching.start(await machine.open({ pollMs: 10 }), prefix);
  }

  for (const dialect of ["pvbus", "smartos", "version-1"] as const) {
    it(`tells what is set, changed and removed, by a host of kind ${dialect}`, async () => {
      const watch = await watching("meta/", dialect);
      machine.host.set("a", "1");
      await watch.seen(1);
      machine.host.set("before", "2");
      await watch.seen(2);
      machine.host.delete("a");
      expect(await watch.seen(3)).to.deep.equal(["meta/a=1", "meta/before=2", "-meta/a"]);
      await watch.stop();
    });
  }

  it("asks a host of ours for nothing but what changed", async () => {
    const watch = await watching("meta/app/");
    const asked = machine.host.commands.length;
    machine.host.set("elsewhere", "x");
    machine.host.set("app/a", "1");
    expect(await watch.seen(1)).to.deep.equal(["meta/app/a=1"]);
    expect(machine.host.commands.slice(asked)).to.deep.equal(["GET"]);
    await watch.stop();
  });

  it("finds by comparing what changed while the host was away", async () => {
    const watch = await watching("meta/");
    await machine.host.stop();
    machine.host.set("while away", "1");
    machine.host.delete("before");
    await machine.listen();
    expect((await watch.seen(2)).toSorted()).to.deep.equal(["-meta/before", "meta/while away=1"]);
    machine.host.set("after", "2");
    expect((await watch.seen(3))[2]).to.equal("meta/after=2");
    await watch.stop();
    expect(watch.changes).to.have.length(3);
  });

  it("tells no change where a value was set to what it is", async () => {
    const watch = await watching("meta/");
    machine.host.set("before", "1");
    machine.host.set("before", "2");
    expect(await watch.seen(1)).to.deep.equal(["meta/before=2"]);
    await watch.stop();
  });

  for (const dialect of ["pvbus", "smartos"] as const) {
    it(`follows a key that is never listed when it is named, by a host of kind ${dialect}`, async () => {
      const watch = await watching("meta/sdc:hostname", dialect);
      machine.host.set("sdc:hostname", "web-1");
      await watch.seen(1);
      machine.host.set("sdc:hostname", "web-2");
      expect(await watch.seen(2)).to.deep.equal(["meta/sdc:hostname=web-1", "meta/sdc:hostname=web-2"]);
      await watch.stop();
    });
  }

  it("loses nothing of thousands of changes at once", async () => {
    const watch = await watching("meta/");
    for (let n = 0; n < 3000; n++) machine.host.set(`k${n}`, `${n}`);
    const seen = new Set(await watch.seen(3000));
    expect(seen.size).to.equal(3000);
    await watch.stop();
  });

  it("passes over events that are none of its own", async () => {
    const watch = await watching("meta/app/");
    for (const key of ["app/\n", "", "other", "app/ok"]) machine.host.set(key, "1");
    expect(await watch.seen(1)).to.deep.equal(["meta/app/ok=1"]);
    await watch.stop();
  });

  it("tells plain keys by their plain names, and the static value behind one that is gone", async () => {
    machine = await KvmMachine.start();
    machine.addFwCfg({ "opt/org.pvbus/app/k": "static" });
    machine.host.set("app/k", "live");
    const watch = await Watching.start(await machine.open(), "app/");
    machine.host.delete("app/k");
    machine.host.set("app/other", "1");
    expect((await watch.seen(2)).toSorted()).to.deep.equal(["app/k=static", "app/other=1"]);
    await watch.stop();
  });

  it("goes on when it may not look behind a key that is gone", async () => {
    machine = await KvmMachine.start();
    addFiles(machine.sysroot, { "sys/firmware/dmi/tables/DMI": "" });
    chmodSync(join(machine.sysroot, "sys/firmware/dmi/tables/DMI"), process.geteuid?.() === 0 ? 0o400 : 0);
    chmodSync(machine.sysroot, 0o755);
    chmodSync(join(machine.sysroot, "meta.sock"), 0o777);
    machine.host.set("app/k", "live");
    await asNobody(async () => {
      const watch = await Watching.start(await machine.open(), "app/");
      machine.host.delete("app/k");
      expect(await watch.seen(1)).to.deep.equal(["-app/k"]);
      await watch.stop();
    });
  });

  it("waits on what never changes until it is over", async () => {
    machine = await KvmMachine.start();
    machine.addFwCfg({});
    const store = await machine.open();
    const watch = await Watching.start(store, "fwcfg/");
    await watch.stop();
    const closed = await Watching.start(store, "fwcfg/");
    const ended = rejects(closed.ended, "ERR_DISCONNECTED");
    await store.close();
    await ended;
  });

  it("has several watches beside each other, and ends each on the host", async () => {
    machine = await KvmMachine.start();
    const store = await machine.open();
    const all = await Promise.all(
      ["meta/a", "meta/b", "meta/"].map((prefix) => Watching.start(store, prefix)),
    );
    machine.host.set("a", "1");
    machine.host.set("b", "2");
    expect(await all[0]?.seen(1)).to.deep.equal(["meta/a=1"]);
    expect(await all[1]?.seen(1)).to.deep.equal(["meta/b=2"]);
    expect((await all[2]?.seen(2))?.toSorted()).to.deep.equal(["meta/a=1", "meta/b=2"]);
    for (const watch of all) await watch.stop();
    while (machine.host.commands.filter((each) => each === "UNWATCH").length < 3) await turn();
    expect(machine.host.connections).to.equal(1);
  });

  it("lets go when the call ends while nobody takes the changes", async () => {
    machine = await KvmMachine.start();
    const store = await machine.open();
    const abort = new AbortController();
    const call = new Call({ signal: abort.signal, timeoutMs: Number.POSITIVE_INFINITY });
    const ready = (): void => machine.host.set("k", "1");
    const changes = store.watch?.("meta/", call, { ready });
    expect((await changes?.next())?.done).to.equal(false);
    abort.abort();
    while (!machine.host.commands.includes("UNWATCH")) await turn();
    expect((await changes?.next())?.done).to.equal(true);
  });

  it("fails when nobody answers at its beginning", async () => {
    machine = await KvmMachine.start();
    await machine.host.stop();
    const store = await machine.open();
    const call = new Call({ timeoutMs: 5_000 });
    await rejects(
      store.watch?.("", call, { ready: () => undefined }).next() as Promise<unknown>,
      "ERR_UNAVAILABLE",
    );
  });
});
