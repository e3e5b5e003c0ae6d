import { expect } from "chai";
import { MemoryProvider } from "../../../providers/testing.js";
import { pvbusError } from "../../../src/base/errors.js";
import type { PvInterface } from "../../../src/bus/interface/interface.js";
import { checksum, chunkName, encodeHead } from "../../../src/bus/portable/layout.js";
import { PortableView } from "../../../src/bus/portable/view.js";
import type { PortableChange } from "../../../src/contract/portable.js";
import type { ProviderStore } from "../../../src/contract/store.js";
import { codeOf, memoryInterface } from "../../support/memory-interface.js";

const SPACE = "com.example";
const key = (name: string): string => `host/${SPACE}/${name}`;
const SOON = { timeoutMs: 5_000 };

/** Gives a set as a host does: chunks first, then the head record. */
async function giveSet(
  host: MemoryProvider,
  name: string,
  text: string,
  slot: "a" | "b" = "a",
): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const chunks = text.match(/.{1,60}/gs) ?? [];
  for (const [at, chunk] of chunks.entries()) host.give(key(chunkName(name, slot, at + 1)), chunk);
  const sum = await checksum(bytes, () => undefined);
  host.give(key(name), encodeHead({ slot, count: chunks.length, bytes: bytes.length, sum }));
}

/** A watch that runs, and what it has told. */
class Watching {
  readonly changes: PortableChange[] = [];
  readonly ended: Promise<string>;
  readonly #abort = new AbortController();
  #wake = (): void => undefined;

  static readonly #all: Watching[] = [];

  /** Ends those of a test, also of one that has failed. */
  static async endAll(): Promise<void> {
    for (const each of Watching.#all.splice(0)) await each.end();
  }

  private constructor(view: PortableView, name: string | undefined, ready: () => void) {
    this.ended = codeOf(
      (async () => {
        for await (const change of view.watch(name, { signal: this.#abort.signal, ready })) {
          this.changes.push(change);
          this.#wake();
        }
      })(),
    );
  }

  /** Begins, and resolves when it is armed. */
  static async begin(view: PortableView, name?: string): Promise<Watching> {
    let ready = (): void => undefined;
    const armed = new Promise<void>((resolve) => {
      ready = resolve;
    });
    const watching = new Watching(view, name, ready);
    Watching.#all.push(watching);
    await Promise.race([armed, watching.ended]);
    return watching;
  }

  /** Resolves with the last change as soon as it fits. */
  async until(fits: (change: PortableChange) => boolean): Promise<PortableChange> {
    for (;;) {
      const last = this.changes.at(-1);
      if (last !== undefined && fits(last)) return last;
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const early = await Promise.race([woken, this.ended]);
      if (typeof early === "string") throw new Error(`the watch ended: ${early}`);
    }
  }

  async end(): Promise<string> {
    this.#abort.abort();
    return this.ended;
  }
}

describe("PortableView follows the host", () => {
  let host: MemoryProvider;
  let view: PortableView;
  let reads: string[];

  async function make(
    change: (store: ProviderStore) => Partial<ProviderStore> = () => ({}),
  ): Promise<PvInterface> {
    host = new MemoryProvider(undefined, { limits: { maxKeyBytes: 300, maxValueBytes: 64 }, erasable: true });
    reads = [];
    const face = await memoryInterface(host, (store) => ({
      read: async (at, call) => {
        reads.push(at);
        return store.read?.(at, call);
      },
      ...change(store),
    }));
    view = new PortableView(face, SPACE);
    return face;
  }

  beforeEach(() => make());
  afterEach(() => Watching.endAll());

  describe("watch", () => {
    it("tells what the host gives, changes and takes away, of the namespace alone", async () => {
      host.give(key("before"), "is there");
      const watching = await Watching.begin(view);
      host.give("host/com.other/name", "another's");
      host.give(key("name"), "one");
      await watching.until(({ value }) => value === "one");
      host.give(key("name"), "two");
      await watching.until(({ value }) => value === "two");
      host.give(key("name"), undefined);
      await watching.until(({ value }) => value === undefined);
      expect(await watching.end()).to.equal("none");
      expect(watching.changes).to.deep.equal([
        { name: "name", value: "one" },
        { name: "name", value: "two" },
        { name: "name", value: undefined },
      ]);
    });

    it("tells of one name alone where one is given", async () => {
      const watching = await Watching.begin(view, "name");
      host.give(key("other"), "x");
      host.give(key("name"), "value");
      await watching.until(({ value }) => value === "value");
      await watching.end();
      expect(watching.changes).to.deep.equal([{ name: "name", value: "value" }]);
    });

    it("reads a long set once, when its head record comes", async () => {
      const long = "0123456789".repeat(60);
      const watching = await Watching.begin(view);
      await giveSet(host, "long", long);
      await watching.until(({ value }) => value === long);
      expect(watching.changes).to.deep.equal([{ name: "long", value: long }]);
      const chunks = reads.filter((each) => each.includes("__a_"));
      expect(chunks.length, "each of ten chunks once").to.equal(10);
      await watching.end();
    });

    it("says nothing when the same set comes in the other slot", async () => {
      const long = "0123456789".repeat(20);
      await giveSet(host, "long", long);
      const watching = await Watching.begin(view);
      await giveSet(host, "long", long, "b");
      host.give(key("name"), "after");
      await watching.until(({ value }) => value === "after");
      expect(watching.changes).to.deep.equal([{ name: "name", value: "after" }]);
      await watching.end();
    });

    it("tells a set that is torn as soon as it is whole", async () => {
      const long = "0123456789".repeat(20);
      const watching = await Watching.begin(view);
      await giveSet(host, "long", long);
      host.give(key("long__a_2"), undefined);
      host.give(key("name"), "meanwhile");
      await watching.until(({ name }) => name === "name");
      // No head record comes any more: what is missing does.
      host.give(key("long__a_2"), long.slice(60, 120));
      await watching.until(({ value }) => value === long);
      expect(watching.changes.filter(({ name }) => name === "long")).to.deep.equal([
        { name: "long", value: long },
      ]);
      await watching.end();
    }).timeout(10_000);

    it("gives bytes that are no text as bytes too", async () => {
      const watching = await Watching.begin(view, "name");
      const store = await host.open({}, (await import("../../../src/base/flow/call.js")).Call.endless());
      void store;
      host.give(key("name"), "\u00e9");
      await watching.until(({ value }) => value === "\u00e9");
      await watching.end();
      expect(watching.changes[0]).to.not.have.property("bytes");
    });

    it("ends at its time, and with ERR_DISCONNECTED when the interface is closed", async () => {
      for await (const _ of view.watch(undefined, { timeoutMs: 20 })) expect.fail("nothing changes");
      const face = await make();
      const watching = await Watching.begin(view);
      await face.close();
      expect(await watching.ended).to.equal("ERR_DISCONNECTED");
    });

    it("looks once a second where the store has no watch", async () => {
      await make((store) => ({
        capabilities: { ...store.capabilities, watch: false },
        watch: undefined as never,
      }));
      const watching = await Watching.begin(view);
      host.give(key("name"), "value");
      await watching.until(({ value }) => value === "value");
      await watching.end();
    });
  });

  describe("wait", () => {
    it("gives what is there at once, without a watch", async () => {
      await make(() => ({
        watch: () => {
          throw new Error("nobody asked for a watch");
        },
      }));
      host.give(key("name"), "value");
      expect(await view.wait("name", SOON)).to.equal("value");
    });

    it("gives a value as soon as it comes, a set when it is whole", async () => {
      const waiting = view.wait("name", SOON);
      host.give(key("other"), "x");
      host.give(key("name"), "value");
      expect(await waiting).to.equal("value");
      const long = "0123456789".repeat(20);
      const whole = view.wait("long", SOON);
      await giveSet(host, "long", long);
      expect(await whole).to.equal(long);
    });

    it("ends with ERR_TIMEOUT and ERR_ABORTED", async () => {
      expect(await codeOf(view.wait("name", { timeoutMs: 20 }))).to.equal("ERR_TIMEOUT");
      expect(await codeOf(view.wait("name", { signal: AbortSignal.abort() }))).to.equal("ERR_ABORTED");
    });

    it("takes a transport that is missing or lost for not there yet, and nothing else", async () => {
      for (const code of ["ERR_UNAVAILABLE", "ERR_DISCONNECTED", "ERR_BUSY"] as const) {
        let attempts = 0;
        await make((store) => ({
          read: async (at, call) => {
            if (++attempts === 1) throw pvbusError(code, "as the test says");
            return store.read?.(at, call);
          },
        }));
        host.give(key("name"), "value");
        expect(await view.wait("name", SOON), code).to.equal("value");
      }
      for (const code of ["ERR_PERMISSION", "ERR_CORRUPT"] as const) {
        await make(() => ({
          read: async () => {
            throw pvbusError(code, "as the test says");
          },
        }));
        expect(await codeOf(view.wait("name", SOON))).to.equal(code);
      }
      expect(await codeOf(view.wait("a/b", SOON))).to.equal("ERR_KEY_INVALID");
    }).timeout(15_000);

    it("goes on with a watch that breaks", async () => {
      let watches = 0;
      await make((store) => ({
        async *watch(prefix, call, hooks) {
          if (++watches === 1) throw pvbusError("ERR_DISCONNECTED", "as the test says");
          for await (const change of store.watch?.(prefix, call, hooks) ?? []) yield change;
        },
      }));
      const waiting = view.wait("name", SOON);
      await new Promise<void>((resolve) => {
        const look = (): void => void (watches > 0 ? resolve() : setImmediate(look));
        look();
      });
      host.give(key("name"), "value");
      expect(await waiting).to.equal("value");
    });

    it("says ERR_NOT_SUPPORTED where nothing can change, and gives what is there", async () => {
      await make(() => ({ isFixed: () => true }));
      expect(await codeOf(view.wait("name", SOON))).to.equal("ERR_NOT_SUPPORTED");
      host.give(key("name"), "value");
      expect(await view.wait("name", SOON)).to.equal("value");
    });

    it("ends when the interface is closed", async () => {
      const face = await make();
      const waiting = codeOf(view.wait("name", SOON));
      await face.close();
      expect(await waiting).to.equal("ERR_DISCONNECTED");
    });
  });

  describe("PvInterface.wait", () => {
    it("waits for a native key in the same way", async () => {
      const face = await make();
      const waiting = face.wait("guest/k", SOON);
      host.give("guest/kk", "another's");
      host.give("guest/k", "value");
      expect(await waiting).to.equal("value");
      expect(await codeOf(face.wait("guest/none", { timeoutMs: 20 }))).to.equal("ERR_TIMEOUT");
      expect(await codeOf(face.wait("elsewhere/k", SOON))).to.equal("ERR_KEY_INVALID");
    });

    it("says ERR_NOT_SUPPORTED of a key that cannot come", async () => {
      const face = await make(() => ({ isFixed: (at) => at.startsWith("host/") }));
      expect(await codeOf(face.wait("host/k", SOON))).to.equal("ERR_NOT_SUPPORTED");
    });
  });
});
