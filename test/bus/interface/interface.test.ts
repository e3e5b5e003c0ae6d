import { getEventListeners } from "node:events";
import { expect } from "chai";
import { MemoryProvider, MemoryStore } from "../../../providers/testing.js";
import { Call } from "../../../src/base/flow/call.js";
import { PvInterface } from "../../../src/bus/interface/interface.js";
import { PortableView } from "../../../src/bus/portable/view.js";
import type { Provider } from "../../../src/contract/provider.js";
import type { ProviderStore } from "../../../src/contract/store.js";
import { codeOf, memoryInterface } from "../../support/memory-interface.js";

const detected = {
  unit: 3,
  name: "pvbus3",
  id: "memory",
  type: "Memory",
  role: "guest",
  base: null,
  emulated: false,
  evidence: [],
  details: {},
} as const;

function interfaceOf(open: Provider["open"]): PvInterface {
  const inner = new MemoryProvider();
  const provider: Provider = {
    id: "memory",
    type: "Memory",
    capabilities: () => inner.capabilities(),
    open,
  };
  return new PvInterface({ detected, primary: true, provider, capabilities: inner.capabilities() });
}

const openMemory = (): Promise<ProviderStore> => new MemoryProvider().open({}, new Call());

describe("PvInterface", () => {
  it("refuses arguments of the wrong kind with TypeError and RangeError", async () => {
    const face = await memoryInterface();
    expect(await codeOf(face.read(7 as never))).to.equal("TypeError");
    expect(await codeOf(face.write("guest/a", 7 as never))).to.equal("TypeError");
    expect(await codeOf(face.read("guest/a", { timeoutMs: -1 }))).to.equal("RangeError");
    expect(await codeOf(face.read("guest/a", { signal: 7 as never }))).to.equal("TypeError");
    expect(await codeOf(face.list(7 as never).next())).to.equal("TypeError");
    expect(await codeOf(face.watch("", { ready: 7 as never }).next())).to.equal("TypeError");
  });

  it("names itself and the key in every failure", async () => {
    const face = interfaceOf(openMemory);
    const error = await face.write("host/a", "v").catch((caught: unknown) => caught);
    expect(error).to.include({ code: "ERR_READ_ONLY", interface: "pvbus3", key: "host/a" });
  });

  it("refuses keys and values that have no encoding", async () => {
    const face = await memoryInterface();
    for (const key of ["", "guest/\0", "guest/\ud800"]) {
      expect(await codeOf(face.write(key, "v"))).to.equal("ERR_KEY_INVALID");
      expect(await codeOf(face.read(key))).to.equal("ERR_KEY_INVALID");
    }
    for (const value of ["a\0", "\udc00", Uint8Array.of(0), Uint8Array.of(0xff)]) {
      expect(await codeOf(face.write("guest/a", value))).to.equal("ERR_VALUE_INVALID");
    }
  });

  it("opens once for all callers, and one caller's abort is its own", async () => {
    let opened = 0;
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const face = interfaceOf(async () => {
      opened++;
      await gate;
      return openMemory();
    });
    const abort = new AbortController();
    const second = face.read("guest/a");
    // Somebody has to wait while the others leave.
    await new Promise(setImmediate);
    const first = codeOf(face.read("guest/a", { signal: abort.signal }));
    const late = codeOf(face.read("guest/a", { timeoutMs: 5 }));
    abort.abort();
    expect(await first).to.equal("ERR_ABORTED");
    expect(await late).to.equal("ERR_TIMEOUT");
    go();
    expect(await second).to.equal(undefined);
    expect(opened).to.equal(1);
  });

  it("opens for as long as anybody waits, whatever the default limit, and no longer", async () => {
    const limits: number[] = [];
    const reasons: string[] = [];
    const face = interfaceOf(async (_target, call) => {
      limits.push(call.remainingMs);
      return call.sleep(60_000, "the host").catch((error) => {
        reasons.push(error.code);
        throw error;
      }) as never;
    });
    const abort = new AbortController();
    const short = codeOf(face.read("guest/a", { timeoutMs: 5 }));
    const long = codeOf(face.read("guest/a", { timeoutMs: 30_000, signal: abort.signal }));
    expect(await short).to.equal("ERR_TIMEOUT");
    expect(reasons).to.deep.equal([]);
    abort.abort();
    expect(await long).to.equal("ERR_ABORTED");
    await new Promise(setImmediate);
    expect(limits).to.have.length(1);
    expect(limits[0]).to.be.greaterThan(10_000);
    expect(reasons).to.deep.equal(["ERR_ABORTED"]);
  });

  it("opens again after an opening that was given up, once that has come to its end", async () => {
    const seen: string[] = [];
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const face = interfaceOf(async () => {
      const number = seen.push("open");
      const store = await openMemory();
      if (number > 1) return store;
      await gate;
      return Object.assign(store, { close: async () => void seen.push("close") });
    });
    expect(await codeOf(face.read("guest/a", { timeoutMs: 5 }))).to.equal("ERR_TIMEOUT");
    const second = face.read("guest/a");
    await new Promise(setImmediate);
    expect(seen).to.deep.equal(["open"]);
    go();
    expect(await second).to.equal(undefined);
    expect(seen).to.deep.equal(["open", "close", "open"]);
    await face.close();
  });

  it("ends an opening when it is closed, and with it all who wait", async () => {
    let signal: AbortSignal | undefined;
    const face = interfaceOf(async (_target, call) => {
      signal = call.signal;
      return call.sleep(60_000) as never;
    });
    const reading = codeOf(face.read("guest/a", { timeoutMs: 30_000 }));
    await new Promise(setImmediate);
    await face.close();
    expect(await reading).to.equal("ERR_DISCONNECTED");
    expect(signal?.aborted).to.equal(true);
  });

  it("waits for the opening of a watch no longer than for that of a read, where nothing is said", async () => {
    let left = 0;
    const face = interfaceOf(async () => {
      throw new Error("opened");
    });
    const wait = Call.prototype.within;
    Call.prototype.within = function (...args) {
      left = this.remainingMs;
      return wait.apply(this, args) as never;
    };
    try {
      expect(await codeOf(face.watch().next())).to.equal("Error");
    } finally {
      Call.prototype.within = wait;
    }
    expect(left).to.be.within(1, 10_000);
  });

  it("opens anew after an opening that failed", async () => {
    let opened = 0;
    const face = interfaceOf(async () =>
      opened++ === 0 ? Promise.reject(new Error("first")) : openMemory(),
    );
    expect(await codeOf(face.read("guest/a"))).to.equal("Error");
    expect(await face.read("guest/a")).to.equal(undefined);
  });

  it("does not open for a call that is over already", async () => {
    const face = interfaceOf(() => Promise.reject(new Error("opened")));
    const signal = AbortSignal.abort();
    for (const call of [face.store({ signal }), face.facts({ signal }), face.read("guest/a", { signal })]) {
      expect(await codeOf(call)).to.equal("ERR_ABORTED");
    }
  });

  it("closes a store that was still opening, once, and rejects from then on", async () => {
    let closed = 0;
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const face = interfaceOf(async () => {
      const store = await openMemory();
      await gate;
      return Object.assign(store, { close: async () => void closed++ });
    });
    const reading = codeOf(face.read("guest/a"));
    const closing = face.close();
    go();
    await Promise.all([closing, face.close()]);
    expect(await reading).to.equal("ERR_DISCONNECTED");
    expect(closed).to.equal(1);
    expect(await codeOf(face.facts())).to.equal("ERR_DISCONNECTED");
    expect(await codeOf(face.store())).to.equal("ERR_DISCONNECTED");
  });

  it("tells a verb that its store lacks from a key that is not there", async () => {
    const face = await memoryInterface(undefined, () => ({
      read: undefined as never,
      list: undefined as never,
      watch: undefined as never,
    }));
    for (const call of [face.read("guest/a"), face.list().next(), face.watch().next()]) {
      expect(await codeOf(call)).to.equal("ERR_NOT_SUPPORTED");
    }
  });

  it("gives text, and bytes beside it where they are no text", async () => {
    const bytes = Uint8Array.of(0x61, 0xff);
    const face = await memoryInterface(undefined, () => ({
      async *list() {
        yield { key: "a", value: bytes };
        yield { key: "b", value: Uint8Array.of(0x62) };
        yield { key: "c", value: undefined };
      },
    }));
    const entries = [];
    for await (const entry of face.list()) entries.push(entry);
    expect(entries).to.deep.equal([
      { key: "a", value: "a\ufffd", bytes },
      { key: "b", value: "b" },
      { key: "c" },
    ]);
  });

  it("stops a listing when it is closed or aborted between two entries", async () => {
    const provider = new MemoryProvider(undefined, { given: { "host/a": "1", "host/b": "2" } });
    const face = await memoryInterface(provider);
    const abort = new AbortController();
    const aborted = face.list("", { signal: abort.signal });
    await aborted.next();
    abort.abort();
    expect(await codeOf(aborted.next())).to.equal("ERR_ABORTED");
    const closed = face.list();
    await closed.next();
    await face.close();
    expect(await codeOf(closed.next())).to.equal("ERR_DISCONNECTED");
  });

  it("gives the provider's own store, and no kernel store where the kernel has none", async () => {
    const face = interfaceOf(openMemory);
    expect(await face.store<MemoryStore>()).to.be.instanceOf(MemoryStore);
    expect(await face.hostctlStore()).to.equal(undefined);
  });

  it("says that no provider serves it", async () => {
    const face = new PvInterface({ detected, primary: false });
    for (const call of [face.read("a"), face.facts(), face.store()]) {
      expect(await codeOf(call)).to.equal("ERR_NOT_SUPPORTED");
    }
  });

  it("counts the store's time against the limit of a listing, not its consumer's", async () => {
    const face = await memoryInterface();
    const keys = ["guest/a", "guest/b", "guest/c"];
    for (const key of keys) await face.write(key, "v");
    const listed: string[] = [];
    for await (const { key } of face.list("guest/", { timeoutMs: 500 })) {
      listed.push(key);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(listed).to.deep.equal(keys);
  });

  it("ends a listing whose store takes too long for one entry, also a later one", async () => {
    const face = await memoryInterface(undefined, (store) => ({
      async *list(prefix, call) {
        for await (const entry of store.list?.(prefix, call) ?? []) {
          yield entry;
          await call.sleep(60_000, "the next entry");
        }
      },
    }));
    await face.write("guest/a", "v");
    await face.write("guest/b", "v");
    const entries = face.list("guest/", { timeoutMs: 300 });
    expect((await entries.next()).value).to.include({ key: "guest/a" });
    expect(await codeOf(entries.next())).to.equal("ERR_TIMEOUT");
  });

  it("lets timers fire and honours signals beside endless loops, also of calls that fail at once", async () => {
    const face = await memoryInterface();
    await face.write("guest/a", "v");
    const closed = await memoryInterface();
    await closed.close();
    const aborted = { signal: AbortSignal.abort() };
    const view = new PortableView(face, "com.example.agent");
    const loops: Readonly<Record<string, (signal?: AbortSignal) => Promise<unknown>>> = {
      read: (signal) => face.read("guest/a", { signal }),
      write: (signal) => face.write("guest/a", "v", { signal }),
      delete: (signal) => face.delete("guest/none", { signal }),
      list: (signal) => face.list("", { signal }).next(),
      facts: (signal) => face.facts({ signal }),
      store: (signal) => face.store({ signal }),
      "portable get": (signal) => view.get("name", { signal }),
      "a bad key": () => codeOf(face.read("")),
      "a closed interface": () => codeOf(closed.read("guest/a")),
      "a signal that has fired": () => codeOf(face.read("guest/a", aborted)),
      "no string": () => codeOf(face.read(7 as never)),
      "a bad option": () => codeOf(face.read("guest/a", { timeoutMs: -1 })),
      "a closed listing": () => codeOf(closed.list().next()),
      "a bad name": () => codeOf(view.get("__")),
      diagnose: () => face.diagnose(),
      "closing twice": () => closed.close(),
    };
    for (const [name, call] of Object.entries(loops)) {
      const abort = new AbortController();
      const until = performance.now() + 2_000;
      setTimeout(() => abort.abort(), 1);
      while (!abort.signal.aborted && performance.now() < until)
        await call(abort.signal).catch(() => undefined);
      expect(abort.signal.aborted, `${name}: the timer fired`).to.equal(true);
    }
  });

  it("ends thousands of calls under one signal in a time that grows as they do", async () => {
    const face = await memoryInterface();
    const took = async (count: number): Promise<number> => {
      const abort = new AbortController();
      const began = process.cpuUsage();
      const calls = Array.from({ length: count }, () =>
        codeOf(face.read("guest/a", { signal: abort.signal })),
      );
      expect(getEventListeners(abort.signal, "abort").length).to.be.at.most(1);
      abort.abort();
      const codes = await Promise.all(calls);
      expect(codes.at(-1)).to.equal("ERR_ABORTED");
      const { user, system } = process.cpuUsage(began);
      return (user + system) / count;
    };
    await took(4_000);
    const few = Math.min(await took(4_000), await took(4_000));
    const many = await took(32_000);
    // A square would make it eight times as much for each.
    expect(many).to.be.lessThan(4 * few);
  });
});
