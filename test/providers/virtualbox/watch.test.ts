import { expect } from "chai";
import { VirtualBoxSimulator } from "../../../providers/testing.js";
import type { VirtualBoxStore } from "../../../providers/virtualbox/index.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call } from "../../../src/index.js";
import { rejects } from "../../support/rejects.js";

const text = (value: Uint8Array | undefined): string | undefined => value && Buffer.from(value).toString();

/** What a watch has told, and a way to wait for what it tells. */
class Follower {
  readonly seen: (readonly [string, string | undefined])[] = [];
  readonly state = new Map<string, string>();
  readonly end = new AbortController();
  readonly ready: Promise<void>;
  readonly over: Promise<unknown>;
  #look = (): void => undefined;

  constructor(store: VirtualBoxStore, prefix: string) {
    let ready = (): void => undefined;
    this.ready = new Promise((resolve) => {
      ready = resolve;
    });
    this.over = this.#follow(store, prefix, ready).catch((error: unknown) => error);
  }

  async #follow(store: VirtualBoxStore, prefix: string, ready: () => void): Promise<void> {
    for await (const { key, value } of store.watch(prefix, Call.endless(this.end.signal), { ready })) {
      this.seen.push([key, text(value)]);
      const now = text(value);
      if (now === undefined) this.state.delete(key);
      else this.state.set(key, now);
      this.#look();
    }
  }

  /** Resolves when a property has that value. */
  sees(name: string, value: string | undefined): Promise<void> {
    return new Promise((resolve) => {
      this.#look = () => {
        if (this.state.get(name) === value && this.seen.some(([key]) => key === name)) resolve();
      };
      this.#look();
    });
  }
}

describe("watches of guest properties", () => {
  let simulator: VirtualBoxSimulator;
  let store: VirtualBoxStore;
  const followers: Follower[] = [];
  const follow = async (prefix: string): Promise<Follower> => {
    const follower = new Follower(store, prefix);
    followers.push(follower);
    await Promise.race([follower.ready, follower.over]);
    return follower;
  };

  beforeEach(async () => {
    simulator = new VirtualBoxSimulator();
    store = await simulator.provider(nodeHost({ platform: "linux" })).open({}, new Call());
  });
  afterEach(async () => {
    for (const { end } of followers) end.abort();
    await Promise.all(followers.splice(0).map(({ over }) => over));
    await store.close();
    expect(simulator.driver.openFiles, "open files").to.equal(0);
    expect(simulator.service.waiting, "waits").to.equal(0);
  });

  it("tell of what is set, changed and deleted, by either side, once", async () => {
    simulator.set("/w/old", "there");
    const watch = await follow("/w/");
    simulator.set("/w/a", "1");
    await watch.sees("/w/a", "1");
    simulator.set("/w/a", "1");
    simulator.set("/other", "x");
    await store.write("/w/b", Buffer.from("own"), new Call());
    await watch.sees("/w/b", "own");
    simulator.delete("/w/old");
    await watch.sees("/w/old", undefined);
    expect(watch.seen).to.deep.equal([
      ["/w/a", "1"],
      ["/w/b", "own"],
      ["/w/old", undefined],
    ]);
  });

  it("share one wait, whoever comes and goes", async () => {
    const [one, two] = [await follow("/one/"), await follow("/two/")];
    expect(simulator.service.waiting).to.equal(1);
    simulator.set("/two/a", "1");
    simulator.set("/one/a", "1");
    await Promise.all([one.sees("/one/a", "1"), two.sees("/two/a", "1")]);
    expect(one.seen).to.deep.equal([["/one/a", "1"]]);
    one.end.abort();
    await one.over;
    simulator.set("/two/a", "2");
    await two.sees("/two/a", "2");
    const three = await follow("/three/");
    simulator.set("/three/a", "1");
    await three.sees("/three/a", "1");
  });

  it("take values from a read: an event may tell of a state that is over", async () => {
    const watch = await follow("/w/");
    simulator.set("/w/a", "1");
    simulator.delete("/w/a");
    simulator.set("/w/b", "end");
    await watch.sees("/w/b", "end");
    expect(watch.state.has("/w/a")).to.equal(false);
    simulator.delete("/w/b");
    simulator.set("/w/b", "made again");
    await watch.sees("/w/b", "made again");
    expect(watch.seen.filter(([, value]) => value === "").length, "empty values").to.equal(0);
  });

  it("compare everything when more happened than the host remembers", async () => {
    simulator.set("/w/gone", "x");
    const watch = await follow("/w/");
    // The wait answers the first change; the others come before the next one.
    simulator.set("/w/first", "1");
    simulator.delete("/w/gone");
    simulator.set("/w/early", "1");
    for (let n = 0; n < 300; n++) simulator.set("/noise", `${n}`);
    simulator.set("/w/last", "1");
    await watch.sees("/w/last", "1");
    await watch.sees("/w/gone", undefined);
    await watch.sees("/w/early", "1");
    expect(Object.fromEntries(watch.state)).to.deep.equal({
      "/w/first": "1",
      "/w/early": "1",
      "/w/last": "1",
    });
  });

  it("see at once what a restored machine has", async () => {
    simulator.set("/w/a", "before");
    simulator.set("/w/b", "stays");
    const watch = await follow("/w/");
    // A snapshot's properties come without events.
    const { service } = simulator;
    service.load({ "/w/a": "restored", "/w/c": "new", "/w/b": undefined });
    service.restore();
    await watch.sees("/w/a", "restored");
    await watch.sees("/w/b", undefined);
    await watch.sees("/w/c", "new");
  });

  it("go on by old times when the host's clock is set back", async () => {
    let time = 2_000_000_000_000_000_000n;
    const host = new VirtualBoxSimulator({ clock: () => (time += 1_000n) });
    const other = await host.provider(nodeHost({ platform: "linux" })).open({}, new Call());
    const watch = new Follower(other, "/w/");
    await watch.ready;
    host.set("/w/a", "1");
    await watch.sees("/w/a", "1");
    time -= 3_600_000_000_000n;
    for (const value of ["2", "3"]) {
      host.set("/w/a", value);
      await watch.sees("/w/a", value);
    }
    watch.end.abort();
    await watch.over;
    await other.close();
  });

  it("live through the death of the host's side, and see what changed meanwhile", async () => {
    simulator.set("/w/a", "1");
    const watch = await follow("/w/");
    for (let round = 2; round < 6; round++) {
      simulator.crash();
      simulator.set("/w/a", `${round}`);
      if (round % 2 === 0) await new Promise(setImmediate);
      simulator.start();
      await watch.sees("/w/a", `${round}`);
    }
  });

  it("live through clients that the host forgets, and events larger than their room", async () => {
    const watch = await follow("/w/");
    simulator.service.faults.forgetClients = 2;
    simulator.set("/w/a", "1");
    await watch.sees("/w/a", "1");
    simulator.service.faults.tamper = (fn, answer) => {
      if (fn !== 6) return answer;
      simulator.service.faults.tamper = undefined;
      return {
        status: -41,
        numbers: new Map([
          [3, 5_000n],
          [1, 1n],
        ]),
      };
    };
    simulator.set("/w/a", "2");
    await watch.sees("/w/a", "2");
  });

  it("live through a host that lies about events", async () => {
    const watch = await follow("/w/");
    const lies = [
      {
        status: 0,
        numbers: new Map([
          [3, 1_000_000n],
          [1, 1n],
        ]),
      },
      {
        status: 0,
        numbers: new Map([
          [3, 3n],
          [1, 1n],
        ]),
        bytes: new Map([[2, Buffer.from("/w/")]]),
      },
      {
        status: -41,
        numbers: new Map([
          [3, 1n],
          [1, 1n],
        ]),
      },
      { status: -4242 },
      { status: -80 },
      {
        status: 0,
        numbers: new Map([
          [3, 7n],
          [1, 1n],
        ]),
        bytes: new Map([[2, Buffer.from("\0\0\0\0")]]),
      },
    ];
    for (const [n, lie] of lies.entries()) {
      simulator.service.faults.tamper = (fn, answer) => {
        if (fn !== 6) return answer;
        simulator.service.faults.tamper = undefined;
        return lie;
      };
      simulator.set("/w/a", `${n}`);
      await watch.sees("/w/a", `${n}`);
    }
  });

  it("say what is wrong before they have begun, and end with their store", async () => {
    const watch = await follow("/w/");
    simulator.crash();
    const late = new Follower(store, "/late/");
    expect(await late.over)
      .to.have.property("code")
      .that.is.oneOf(["ERR_UNAVAILABLE", "ERR_DISCONNECTED"]);
    simulator.start();
    await store.close();
    expect(await watch.over).to.have.property("code", "ERR_DISCONNECTED");
    await rejects(store.read("/a", new Call()), "ERR_DISCONNECTED");
  });

  it("end with an error where the host has no such call", async () => {
    simulator.service.faults.tamper = (fn, answer) => (fn === 6 ? { status: -12 } : answer);
    const watch = await follow("/w/");
    simulator.set("/w/a", "1");
    expect(await watch.over).to.have.property("code", "ERR_NOT_SUPPORTED");
  });

  it("leave Ignition's configuration out unless it is named", async () => {
    const [all, ignition] = [await follow(""), await follow("/Ignition/")];
    simulator.set("/Ignition/Config", "{}");
    simulator.set("/w/a", "1");
    await ignition.sees("/Ignition/Config", "{}");
    await all.sees("/w/a", "1");
    expect(all.seen.map(([name]) => name)).to.deep.equal(["/w/a"]);
  });

  it("have one wait with all names where the prefixes are too long for a pattern", async () => {
    const prefixes = Array.from({ length: 30 }, (_, n) => `/${"p".repeat(50)}/${n}/`);
    const watches = await Promise.all(prefixes.map(follow));
    for (const [n, prefix] of prefixes.entries()) simulator.set(`${prefix}a`, `${n}`);
    await Promise.all(watches.map((watch, n) => watch.sees(`${prefixes[n]}a`, `${n}`)));
    const strange = await follow("/w*");
    simulator.set("/wx", "1");
    await store.write("/w/seen by nobody", Buffer.from("1"), new Call());
    expect(strange.seen).to.deep.equal([]);
  });
});
