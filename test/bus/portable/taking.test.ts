import { expect } from "chai";
import { MemoryProvider } from "../../../providers/testing.js";
import { chunkName } from "../../../src/bus/portable/layout.js";
import { PortableView } from "../../../src/bus/portable/view.js";
import type { ProviderStore, TakenValue } from "../../../src/contract/store.js";
import { codeOf, memoryInterface } from "../../support/memory-interface.js";

const SPACE = "com.example";
const key = (name: string): string => `host/${SPACE}/${name}`;
const LONG = "0123456789".repeat(30);
const textOf = (taken: TakenValue | undefined): string | undefined =>
  taken && Buffer.from(taken.value).toString();

describe("PortableView.take and insert", () => {
  let host: MemoryProvider;
  let view: PortableView;

  async function make(
    erasable = true,
    change: (store: ProviderStore) => Partial<ProviderStore> = () => ({}),
  ): Promise<void> {
    host = new MemoryProvider(undefined, { limits: { maxKeyBytes: 300, maxValueBytes: 64 }, erasable });
    const { Call } = await import("../../../src/base/flow/call.js");
    const own = await host.open({}, new Call());
    const face = await memoryInterface(host, (store) => ({
      take: (at, call) => own.take(at, call),
      erase: (at, call, expected) => own.erase(at, call, expected),
      insert: (at, value, call) => own.insert(at, value, call),
      ...change(store),
    }));
    view = new PortableView(face, SPACE);
  }

  /** Gives what the guest would publish, as the host's. */
  async function give(name: string, text: string): Promise<void> {
    const publisher = new PortableView(await memoryInterface(host), SPACE);
    await publisher.publish(name, text);
    const face = await memoryInterface(host);
    for await (const { key: at, value } of face.list(`guest/${SPACE}/`)) {
      host.give(at.replace("guest/", "host/"), value);
      host.give(at, undefined);
    }
  }

  /** Returns what is left of the host's keys. */
  async function left(): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key: at } of (await memoryInterface(host)).list(`host/${SPACE}/`)) keys.push(at);
    return keys;
  }

  for (const erase of ["after", "first"] as const)
    it(`gives a short value and a set whole, and leaves nothing of them, erasing ${erase}`, async () => {
      await make();
      for (const value of ["short", LONG]) {
        await give("secret", value);
        const delivered: string[] = [];
        const taken = await view.take("secret", {
          erase,
          deliver: async (bytes) => {
            delivered.push(Buffer.from(bytes).toString());
            expect((await left()).length > 0, "what is there when it is delivered").to.equal(
              erase === "after",
            );
          },
        });
        expect([textOf(taken), taken?.erased, delivered]).to.deep.equal([value, "host", [value]]);
        expect(await left()).to.deep.equal([]);
        expect(await view.take("secret", { erase })).to.equal(undefined);
      }
    });

  it("keeps a value that could not be delivered", async () => {
    await make();
    for (const value of ["short", LONG]) {
      await give("secret", value);
      const deliver = async (): Promise<void> => {
        throw new Error("no space left");
      };
      expect(await codeOf(view.take("secret", { deliver }))).to.equal("Error");
      expect(await view.get("secret")).to.equal(value);
    }
  });

  it("says that the host keeps a value, and with requireErase delivers nothing", async () => {
    await make(false);
    for (const value of ["short", LONG]) {
      await give("secret", value);
      for (const erase of ["after", "first"] as const)
        expect((await view.take("secret", { erase }))?.erased).to.equal("no");
      let delivered = 0;
      const deliver = async (): Promise<void> => void delivered++;
      expect(await codeOf(view.take("secret", { requireErase: true, deliver }))).to.equal("ERR_READ_ONLY");
      expect(delivered).to.equal(0);
      expect(await view.get("secret")).to.equal(value);
    }
  });

  it("leaves a value that came while it was delivered", async () => {
    await make();
    for (const value of ["short", LONG]) {
      await give("secret", value);
      const deliver = async (): Promise<void> => host.give(key("secret"), "newer");
      expect(await codeOf(view.take("secret", { deliver }))).to.equal("ERR_CONFLICT");
      expect(await view.get("secret")).to.equal("newer");
    }
  });

  it("takes what came in place of the set that it saw, whole", async () => {
    let replaced = false;
    await make(true, () => ({
      take: async (at, call) => {
        if (!replaced) host.give(key("secret"), "newer");
        replaced = true;
        const own = await host.open({}, call);
        return own.take(at, call);
      },
    }));
    await give("secret", LONG);
    expect(textOf(await view.take("secret", { erase: "first" }))).to.equal("newer");
  });

  it("gives one of several takers the value", async () => {
    await make();
    for (const value of ["short", LONG]) {
      await give("secret", value);
      const all = await Promise.all(
        Array.from({ length: 8 }, () => view.take("secret", { erase: "first" }).catch(() => undefined)),
      );
      expect(all.map(textOf).filter((each) => each !== undefined)).to.deep.equal([value]);
    }
  });

  it("fails with what the store says of the erasing, when the value was delivered", async () => {
    const { pvbusError } = await import("../../../src/base/errors.js");
    await make(true, () => ({
      erase: async () => {
        throw pvbusError("ERR_PERMISSION", "as xl has it");
      },
    }));
    host.give(key("secret"), "value");
    const delivered: string[] = [];
    const deliver = async (bytes: Uint8Array): Promise<void> =>
      void delivered.push(Buffer.from(bytes).toString());
    expect(await codeOf(view.take("secret", { deliver }))).to.equal("ERR_PERMISSION");
    expect(delivered).to.deep.equal(["value"]);
  });

  it("deletes and reads back where the store has no way of its own", async () => {
    host = new MemoryProvider(undefined, { limits: { maxKeyBytes: 300, maxValueBytes: 64 } });
    const face = await memoryInterface(host);
    await face.write("guest/k", "value");
    expect(await face.take("guest/k")).to.include({ erased: "host" });
    expect(await face.read("guest/k")).to.equal(undefined);
    host.give("host/k", "value");
    expect(await codeOf(face.take("host/k"))).to.equal("ERR_READ_ONLY");
    expect(await codeOf(face.take("host/k", { erase: "never" as never }))).to.equal("TypeError");
  });

  describe("insert", () => {
    beforeEach(() => make());

    it("publishes a value unless there is one", async () => {
      for (const value of ["short", LONG]) {
        expect(await view.insert("name", value)).to.equal(true);
        expect(await view.insert("name", "another")).to.equal(false);
        expect(await view.insert("name", LONG.slice(1))).to.equal(false);
        expect(await view.published("name")).to.equal(value);
        await view.unpublish("name");
      }
    });

    it("lets one of many succeed, whole, over sessions", async () => {
      const { Call } = await import("../../../src/base/flow/call.js");
      const slow = (store: ProviderStore): Partial<ProviderStore> => ({
        write: async (at, value, call) => {
          await new Promise(setImmediate);
          await store.write?.(at, value, call);
        },
      });
      const views = await Promise.all(
        Array.from({ length: 4 }, async () => {
          const own = await host.open({}, new Call());
          const face = await memoryInterface(host, (store) => ({
            ...slow(store),
            insert: (at, value, call) => own.insert(at, value, call),
          }));
          return new PortableView(face, SPACE);
        }),
      );
      const values = views.map((_, at) => `${at}${LONG}`);
      const done = await Promise.all(views.map((each, at) => each.insert("name", values[at] ?? "")));
      expect(done.filter(Boolean)).to.have.length(1);
      expect(await view.published("name")).to.equal(values[done.indexOf(true)]);
    });

    it("says ERR_NOT_SUPPORTED where the store has no such step", async () => {
      const plain = new PortableView(await memoryInterface(host), SPACE);
      expect(await codeOf(plain.insert("name", "value"))).to.equal("ERR_NOT_SUPPORTED");
      expect(await plain.published(chunkName("name", "a", 1).slice(0, 4))).to.equal(undefined);
    });
  });
});
