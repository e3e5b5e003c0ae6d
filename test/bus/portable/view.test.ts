import { expect } from "chai";
import fc from "fast-check";
import { MemoryProvider } from "../../../providers/testing.js";
import type { PvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import type { PvInterface } from "../../../src/bus/interface/interface.js";
import { PortableView } from "../../../src/bus/portable/view.js";
import type { ProviderStore } from "../../../src/contract/store.js";
import { work } from "../../support/event-loop.js";
import { codeOf, memoryInterface } from "../../support/memory-interface.js";

const SPACE = "com.example.agent";
const KEY = `guest/${SPACE}/value`;
const limits = { maxKeyBytes: 300, maxValueBytes: 64 };

/** Lets `allowed` changing operations through, then fails as a killed process would. */
function dying(allowed: number): (store: ProviderStore) => Partial<ProviderStore> {
  let left = allowed;
  const alive = (): void => {
    if (left-- <= 0) throw new Error("killed");
  };
  return (store) => ({
    write: async (...args) => {
      alive();
      await store.write?.(...args);
    },
    delete: async (...args) => {
      alive();
      return (await store.delete?.(...args)) ?? false;
    },
  });
}

async function keysOf(face: PvInterface): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of face.list("guest/")) keys.push(key);
  return keys.toSorted();
}

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 400 }),
  fc.string({ unit: "grapheme", maxLength: 300 }),
  fc.string({ maxLength: 70 }).map((tail) => `pvbus-set-1 ${tail}`),
);
const storable = text.filter((each) => !each.includes("\0") && each.isWellFormed());

describe("PortableView", () => {
  it("gives back any text that was published, and leaves no key behind", async () => {
    const face = await memoryInterface();
    const view = new PortableView(face, SPACE);
    await fc.assert(
      fc.asyncProperty(storable, async (value) => {
        await view.publish("value", value);
        expect(await view.published("value")).to.equal(value);
      }),
    );
    expect(await view.unpublish("value")).to.equal(true);
    expect(await view.unpublish("value")).to.equal(false);
    expect(await view.published("value")).to.equal(undefined);
    expect(await keysOf(face)).to.deep.equal([]);
  });

  it("keeps the old or the new value whole wherever a publisher is killed", async () => {
    const versions = [
      "plain",
      "a".repeat(500),
      "\u20ac".repeat(100),
      "pvbus-set-1 a 1 1 x",
      "",
      "b".repeat(1000),
      "end",
    ];
    for (let steps = 0; steps < 60; steps++) {
      const provider = new MemoryProvider(undefined, { limits });
      const reader = new PortableView(await memoryInterface(provider), SPACE);
      let before: string | undefined;
      for (const next of versions) {
        const mortal = new PortableView(await memoryInterface(provider, dying(steps)), SPACE);
        const killed = await codeOf(mortal.publish("value", next));
        const found = await reader.published("value");
        expect(found === before || found === next, `${next.slice(0, 9)} after ${steps} steps`).to.equal(true);
        if (killed === "none") expect(found).to.equal(next);
        before = found;
      }
      await reader.publish("value", "c".repeat(200));
      await reader.publish("value", "d".repeat(90));
      const left = await keysOf(await memoryInterface(provider));
      expect(left, `after ${steps} steps`).to.have.length(3);
    }
  });

  it("removes the chunks that a shorter value no longer needs", async () => {
    const face = await memoryInterface();
    const view = new PortableView(face, SPACE);
    await view.publish("value", "x".repeat(640));
    expect(await keysOf(face)).to.have.length(11);
    await view.publish("value", "y".repeat(128));
    expect(await keysOf(face)).to.have.length(3);
    await view.publish("value", "short");
    expect(await keysOf(face)).to.deep.equal([KEY]);
    expect(await face.read(KEY)).to.equal("short");
  });

  it("gives readers whole values while a publisher is at work", async () => {
    const provider = new MemoryProvider(undefined, { limits });
    const slow = (store: ProviderStore): Partial<ProviderStore> => ({
      write: async (...args) => {
        await new Promise(setImmediate);
        await store.write?.(...args);
      },
    });
    const writer = new PortableView(await memoryInterface(provider, slow), SPACE);
    const reader = new PortableView(await memoryInterface(provider), SPACE);
    const values = Array.from({ length: 10 }, (_, at) => `${at}`.repeat(at % 3 === 0 ? 20 : 150 + at));
    await writer.publish("value", values[0] ?? "");
    let writing = true;
    const publish = async (): Promise<void> => {
      for (let round = 0; round < 60; round++) await writer.publish("value", values[round % 10] ?? "");
      writing = false;
    };
    const read = async (): Promise<void> => {
      while (writing) {
        expect(values).to.include(await reader.published("value"));
        // Memory answers without a turn of the event loop, which the writer needs.
        await new Promise(setImmediate);
      }
    };
    await Promise.all([publish(), read()]);
  });

  it("lets publishers of one process take turns, and mends what two processes do to each other", async () => {
    const provider = new MemoryProvider(undefined, { limits });
    const faces = [await memoryInterface(provider), await memoryInterface(provider)];
    const values = Array.from({ length: 12 }, (_, at) => String.fromCharCode(97 + at).repeat(300 + at));
    const outcomes = await Promise.allSettled(
      values.map((value, at) =>
        new PortableView(faces[at % 2] as PvInterface, SPACE).publish("value", value),
      ),
    );
    expect(outcomes.some(({ status }) => status === "fulfilled")).to.equal(true);
    const own = new PortableView(faces[0] as PvInterface, SPACE);
    const left = await own.published("value").catch((error: unknown) => (error as PvbusError).code);
    expect([...values, "ERR_CONFLICT"]).to.include(left);
    await own.publish("value", values[0] as string);
    expect(await own.published("value")).to.equal(values[0]);
    await Promise.all(values.map((value) => own.publish("turns", value)));
    expect(await own.published("turns")).to.equal(values.at(-1));
  });

  it("reports a torn set as ERR_CONFLICT, and publishing mends it", async () => {
    const face = await memoryInterface();
    const view = new PortableView(face, SPACE);
    await view.publish("value", "x".repeat(200));
    await face.write(`${KEY}__a_2`, "y".repeat(64));
    expect(await codeOf(view.published("value"))).to.equal("ERR_CONFLICT");
    await face.delete(`${KEY}__a_2`);
    const error = await view.published("value").catch((caught: unknown) => caught);
    expect(error).to.include({ code: "ERR_CONFLICT", interface: "pvbus0", key: KEY });
    await view.publish("value", "x".repeat(200));
    expect(await view.published("value")).to.equal("x".repeat(200));
  });

  const sum = "0".repeat(32);
  for (const [record, code] of [
    [`pvbus-set-1 a 9000000000 10 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 a -1 10 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 a 1 9999999 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 a 1 1e6 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 a 5 4 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 a 0 4 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 c 1 1 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-1 a 01 1 ${sum}`, "ERR_CORRUPT"],
    [`pvbus-set-2 a 1 1 ${sum}`, "ERR_CORRUPT"],
    ["pvbus-set-", "ERR_CORRUPT"],
    [`pvbus-set-1 a 9999 1048576 ${sum}`, "ERR_CONFLICT"],
    [`pvbus-set-1 a 1 4 ${sum}`, "ERR_CONFLICT"],
  ] as const) {
    it(`answers ${code} to the head record "${record.slice(0, 32)}"`, async () => {
      const provider = new MemoryProvider(undefined, { limits, given: { [`host/${SPACE}/value`]: record } });
      provider.give(`host/${SPACE}/value__a_1`, "evil");
      expect(await codeOf(new PortableView(await memoryInterface(provider), SPACE).get("value"))).to.equal(
        code,
      );
    });
  }

  it("reads what the host gives, plain and as a set, with the same layout", async () => {
    const provider = new MemoryProvider(undefined, {
      limits,
      given: { [`host/${SPACE}/plain`]: "from the host" },
    });
    const face = await memoryInterface(provider);
    const view = new PortableView(face, SPACE);
    const value = "\u00fc".repeat(90);
    await view.publish("big", value);
    for (const key of await keysOf(face)) provider.give(key.replace("guest/", "host/"), await face.read(key));
    expect(await view.get("plain")).to.equal("from the host");
    expect(await view.get("big")).to.equal(value);
    expect(new TextDecoder().decode(await view.getBytes("big"))).to.equal(value);
    expect(await view.get("absent")).to.equal(undefined);
    expect(await view.facts()).to.have.property("vmName");
  });

  it("asks the next place when one cannot be asked, and does not take silence for absence", async () => {
    const provider = new MemoryProvider(undefined, { limits, given: { "host/here": "v" } });
    const layout = (keys: string[]) => (): Partial<ProviderStore> => ({
      portable: { hostKeys: () => keys, guestKey: () => undefined, chunkBytes: 64 },
    });
    const unavailable = async (keys: string[]): Promise<PortableView> => {
      const { pvbusError } = await import("../../../src/base/errors.js");
      const face = await memoryInterface(provider, (store) => ({
        ...layout(keys)(),
        read: async (key, call) => {
          if (key === "host/down") throw pvbusError("ERR_UNAVAILABLE", "module not loaded");
          return store.read?.(key, call);
        },
      }));
      return new PortableView(face, SPACE);
    };
    expect(await (await unavailable(["host/down", "nowhere/x", "host/here"])).get("n")).to.equal("v");
    expect(await codeOf((await unavailable(["host/down", "host/absent"])).get("n"))).to.equal(
      "ERR_UNAVAILABLE",
    );
    expect(await codeOf((await unavailable(["host/here"])).publish("n", "v"))).to.equal("ERR_NOT_SUPPORTED");
  });

  it("works where nothing can be deleted or listed", async () => {
    const provider = new MemoryProvider(undefined, { limits });
    const plain = (store: ProviderStore): Partial<ProviderStore> => ({
      capabilities: { ...store.capabilities, delete: false, list: false },
      list: () => expect.fail("listed"),
      delete: () => expect.fail("deleted"),
    });
    const view = new PortableView(await memoryInterface(provider, plain), SPACE);
    for (const value of ["v".repeat(300), "w".repeat(70), "", "plain"]) {
      await view.publish("value", value);
      expect(await view.published("value")).to.equal(value);
    }
    expect(await view.unpublish("value")).to.equal(true);
    expect(await view.published("value")).to.equal(undefined);
  });

  it("refuses names, namespaces and values that it cannot carry, before anything is written", async () => {
    const face = await memoryInterface();
    for (const bad of ["", ".", "..", "a/b", "a b", "\u00e9", "_a", "-a", "a\0", "x".repeat(101)]) {
      expect(() => new PortableView(face, bad), bad)
        .to.throw()
        .with.property("code", "ERR_KEY_INVALID");
      expect(await codeOf(new PortableView(face, SPACE).publish(bad, "v")), bad).to.equal("ERR_KEY_INVALID");
    }
    const view = new PortableView(face, SPACE);
    expect(await codeOf(view.get("a__b"))).to.equal("ERR_KEY_INVALID");
    expect(await codeOf(view.publish("n", "a\0"))).to.equal("ERR_VALUE_INVALID");
    expect(await codeOf(view.publish("n", "\ud800"))).to.equal("ERR_VALUE_INVALID");
    expect(await codeOf(view.publish("n", "x".repeat(1024 * 1024 + 1)))).to.equal("ERR_VALUE_TOO_LONG");
    expect(await codeOf(view.publish("n", "x".repeat(9999 * 64 + 1)))).to.equal("ERR_VALUE_TOO_LONG");
    expect(await codeOf(view.publish("n", 7 as never))).to.equal("TypeError");
    expect(await codeOf(view.publish("n", "v", { signal: AbortSignal.abort() }))).to.equal("ERR_ABORTED");
    expect(await codeOf(view.publish("n", "v".repeat(99), { timeoutMs: 0 }))).to.equal("ERR_TIMEOUT");
    expect(await keysOf(face)).to.deep.equal([]);
  });

  it("stores the example of docs/portable-keys.md byte for byte", async () => {
    const face = await memoryInterface();
    await new PortableView(face, SPACE).publish("value", `${"0123456789".repeat(6)}12\u20ac!`);
    expect(await face.read(KEY)).to.equal("pvbus-set-1 a 2 66 98c33edaa0ba4676552770291ccef9ea");
    expect(await face.read(`${KEY}__a_1`)).to.equal(`${"0123456789".repeat(6)}12`);
    expect(await face.read(`${KEY}__a_2`)).to.equal("\u20ac!");
  });

  it("lets timers fire while it publishes a mebibyte, and stops at its signal", async () => {
    const provider = new MemoryProvider(undefined, { limits: { maxKeyBytes: 300, maxValueBytes: 1024 } });
    // Stores that work in the process itself take about so long for a write.
    const face = await memoryInterface(provider, (store) => ({
      write: async (key, value, call) => {
        work(0.5);
        await store.write?.(key, value, call);
      },
    }));
    const abort = new AbortController();
    const publishing = codeOf(
      new PortableView(face, SPACE).publish("value", "x".repeat(1 << 20), { signal: abort.signal }),
    );
    let fired = 0;
    const timer = setInterval(() => {
      if (++fired === 3) abort.abort();
    }, 5);
    expect(await publishing).to.equal("ERR_ABORTED");
    clearInterval(timer);
    const written = (await face.store()).list?.("", new Call());
    let pieces = 0;
    for await (const _ of written ?? []) pieces++;
    // All 1024 pieces take half a second.
    expect(pieces).to.be.lessThan(700);
  });

  it("refuses what is far too long without looking through it", async () => {
    const view = new PortableView(await memoryInterface(), SPACE);
    const began = performance.now();
    expect(await codeOf(view.publish("value", "\u20ac".repeat(1 << 28)))).to.equal("ERR_VALUE_TOO_LONG");
    expect(performance.now() - began).to.be.lessThan(100);
  });
});
