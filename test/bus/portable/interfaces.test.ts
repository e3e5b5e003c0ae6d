import { expect } from "chai";
import { MemoryProvider, type MemorySettings } from "../../../providers/testing.js";
import { type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { Bus } from "../../../src/bus/bus.js";
import { PvInterface } from "../../../src/bus/interface/interface.js";
import type { PortableLayout, ProviderStore } from "../../../src/contract/store.js";
import { codeOf } from "../../support/memory-interface.js";

const SPACE = "com.example";
const GIVEN = (value: string): MemorySettings => ({ given: { [`host/${SPACE}/name`]: value } });

/** What a test's interface is. */
interface Kind extends MemorySettings {
  readonly type?: string;
  readonly primary?: boolean;
  readonly emulated?: boolean;
  /** The opening fails so. */
  readonly closed?: PvbusErrorCode | undefined;
  /** Changes of the store. */
  readonly change?: (store: ProviderStore) => Partial<ProviderStore>;
}

function failing(code: PvbusErrorCode): () => never {
  return () => {
    throw pvbusError(code, "as the test says");
  };
}

/** A bus with these interfaces in unit order. */
function busOf(...kinds: readonly Kind[]): Bus {
  const interfaces = kinds.map(({ type, primary, emulated, closed, change, ...settings }, unit) => {
    const memory = new MemoryProvider(undefined, settings);
    return new PvInterface({
      detected: {
        unit,
        name: `pvbus${unit}`,
        id: (type ?? `memory${unit}`).toLowerCase(),
        type: type ?? `Memory${unit}`,
        role: "guest",
        base: null,
        emulated: emulated ?? false,
        evidence: [],
        details: {},
      },
      primary: primary ?? false,
      capabilities: memory.capabilities(),
      provider: {
        id: "memory",
        type: "Memory",
        capabilities: () => memory.capabilities(),
        open: async (target, call, closing) => {
          if (closed !== undefined) failing(closed)();
          const store = await memory.open(target, call, closing);
          return Object.assign(store, change?.(store));
        },
      },
    });
  });
  const detection = {} as ConstructorParameters<typeof Bus>[0];
  return new Bus(detection, interfaces);
}

describe("PortableView over several interfaces", () => {
  describe("get", () => {
    it("asks the primary first, then the others, and takes the first value", async () => {
      const both = busOf(GIVEN("second"), { ...GIVEN("first"), primary: true });
      expect(await both.portable(SPACE).get("name")).to.equal("first");
      const second = busOf(GIVEN("second"), { primary: true });
      expect(await second.portable(SPACE).get("name")).to.equal("second");
      expect(await second.portable(SPACE).get("other")).to.equal(undefined);
    });

    for (const code of ["ERR_UNAVAILABLE", "ERR_PERMISSION", "ERR_NOT_SUPPORTED"] as const)
      it(`passes over an interface that ends in ${code}, unless nobody else answers`, async () => {
        const passed = busOf({ primary: true, closed: code }, GIVEN("second"));
        expect(await passed.portable(SPACE).get("name")).to.equal("second");
        expect(await passed.portable(SPACE).get("other"), "another one says that there is none").to.equal(
          undefined,
        );
        const alone = busOf({ primary: true, closed: code }, { emulated: true });
        expect(
          await codeOf(alone.portable(SPACE).get("name")),
          "who is emulated answers for no host",
        ).to.equal(code);
      });

    it("tells that something is not there rather than that something else has no such keys", async () => {
      const bus = busOf({ primary: true, closed: "ERR_NOT_SUPPORTED" }, { closed: "ERR_UNAVAILABLE" });
      expect(await codeOf(bus.portable(SPACE).get("name"))).to.equal("ERR_UNAVAILABLE");
    });

    it("hands a lost connection to the caller", async () => {
      const bus = busOf({ primary: true, closed: "ERR_DISCONNECTED" }, GIVEN("second"));
      expect(await codeOf(bus.portable(SPACE).get("name"))).to.equal("ERR_DISCONNECTED");
    });

    it("asks last what another hypervisor emulates", async () => {
      const bus = busOf({ ...GIVEN("emulated"), emulated: true }, GIVEN("real"), { primary: true });
      expect(await bus.portable(SPACE).get("name")).to.equal("real");
      const only = busOf({ ...GIVEN("emulated"), emulated: true }, { primary: true });
      expect(await only.portable(SPACE).get("name")).to.equal("emulated");
    });

    it("asks one alone where it is named", async () => {
      const bus = busOf({ ...GIVEN("first"), primary: true }, { ...GIVEN("second"), type: "Xen" });
      expect(await bus.portable(SPACE, { type: "xen" }).get("name")).to.equal("second");
      expect(await bus.portable(SPACE, { interface: "pvbus1" }).get("name")).to.equal("second");
      expect(await bus.portable(SPACE, { interface: "pvbus1", type: "Xen" }).get("name")).to.equal("second");
      for (const choice of [{ interface: "pvbus7" }, { type: "KVM" }, { interface: "pvbus0", type: "Xen" }])
        expect(() => bus.portable(SPACE, choice))
          .to.throw("no interface")
          .with.property("code", "ERR_NO_INTERFACE");
    });

    it("serves a bus without a primary interface", async () => {
      expect(await busOf(GIVEN("guest api")).portable(SPACE).get("name")).to.equal("guest api");
    });
  });

  describe("publish", () => {
    for (const code of ["ERR_NOT_SUPPORTED", "ERR_READ_ONLY", "ERR_PERMISSION"] as const)
      it(`goes on to the next interface at ${code}, of the opening or the first write, and stays there`, async () => {
        const opening = busOf({ primary: true, closed: code }, {});
        await opening.portable(SPACE).publish("name", "value");
        expect(await opening.interfaces[1]?.read(`guest/${SPACE}/name`)).to.equal("value");
        let refuses = true;
        const sound: { write?: ProviderStore["write"] } = {};
        const change = (store: ProviderStore): Partial<ProviderStore> => {
          sound.write = store.write?.bind(store);
          return { write: async (...args) => (refuses ? failing(code)() : sound.write?.(...args)) };
        };
        const writing = busOf({ primary: true, change }, {});
        await writing.portable(SPACE).publish("name", "value");
        refuses = false;
        await writing.portable(SPACE).publish("name", "later");
        expect(await writing.interfaces[1]?.read(`guest/${SPACE}/name`)).to.equal("later");
        expect(await writing.portable(SPACE).published("name")).to.equal("later");
        expect(await writing.interfaces[0]?.read(`guest/${SPACE}/name`), "the choice is kept").to.equal(
          undefined,
        );
        await writing.portable("com.other").publish("name", "own choice");
        expect(await writing.interfaces[0]?.read("guest/com.other/name")).to.equal("own choice");
      });

    for (const code of ["ERR_UNAVAILABLE", "ERR_BUSY", "ERR_DISCONNECTED"] as const)
      it(`leaves ${code} to the caller`, async () => {
        for (const kind of [{ closed: code }, { change: () => ({ write: failing(code) }) }]) {
          const bus = busOf({ primary: true, ...kind }, {});
          expect(await codeOf(bus.portable(SPACE).publish("name", "value"))).to.equal(code);
          expect(await bus.interfaces[1]?.read(`guest/${SPACE}/name`)).to.equal(undefined);
        }
      });

    it("says what the first said when all refuse", async () => {
      const bus = busOf({ primary: true, closed: "ERR_PERMISSION" }, { closed: "ERR_READ_ONLY" });
      expect(await codeOf(bus.portable(SPACE).publish("name", "value"))).to.equal("ERR_PERMISSION");
    });

    it("never goes to an interface that another hypervisor emulates, unless that is named", async () => {
      const bus = busOf({ primary: true, closed: "ERR_PERMISSION" }, { emulated: true, type: "Hyper-V" });
      expect(await codeOf(bus.portable(SPACE).publish("name", "value"))).to.equal("ERR_PERMISSION");
      await bus.portable(SPACE, { type: "Hyper-V" }).publish("name", "value");
      expect(await bus.interfaces[1]?.read(`guest/${SPACE}/name`)).to.equal("value");
    });

    it("refuses what the layout says to be too long before anything is written", async () => {
      const change = ({ portable }: ProviderStore): Partial<ProviderStore> => ({
        portable: { ...(portable as PortableLayout), maxNameBytes: 4, maxValueBytes: 10 },
        write: failing("ERR_CORRUPT"),
      });
      const view = busOf({ primary: true, change }).portable(SPACE);
      expect(await codeOf(view.publish("names", "value"))).to.equal("ERR_KEY_TOO_LONG");
      expect(await codeOf(view.publish("name", "more than ten"))).to.equal("ERR_VALUE_TOO_LONG");
      expect(await codeOf(view.publish("name", "value"))).to.equal("ERR_CORRUPT");
    });
  });

  it("takes back what was published wherever that was", async () => {
    const bus = busOf({ primary: true }, {});
    for (const face of bus.interfaces) await face.write(`guest/${SPACE}/name`, "value");
    expect(await bus.portable(SPACE).unpublish("name")).to.equal(true);
    for (const face of bus.interfaces) expect(await face.read(`guest/${SPACE}/name`)).to.equal(undefined);
    expect(await bus.portable(SPACE).unpublish("name")).to.equal(false);
  });

  it("gives the facts of the first that tells any", async () => {
    const silent = { change: () => ({ facts: async () => ({}) }) };
    expect(
      await busOf({ primary: true, ...silent }, {})
        .portable(SPACE)
        .facts(),
    ).to.include({ vmName: "memory" });
    expect(
      await busOf({ primary: true, ...silent })
        .portable(SPACE)
        .facts(),
    ).to.deep.equal({});
    expect(
      await codeOf(busOf({ primary: true, closed: "ERR_UNAVAILABLE" }).portable(SPACE).facts()),
    ).to.equal("ERR_UNAVAILABLE");
  });

  describe("list", () => {
    it("gives each name of the host once, from the strongest, and beside it what the guest published", async () => {
      const weak = { given: { [`host/${SPACE}/name`]: "weak", [`host/${SPACE}/more`]: "of the second" } };
      const bus = busOf({ ...GIVEN("strong"), primary: true }, weak);
      const view = bus.portable(SPACE);
      await view.publish("name", "mine");
      await view.publish("long", "x".repeat(3000));
      const found = [];
      for await (const entry of view.list()) found.push(entry);
      expect(found).to.deep.equal([
        { name: "name", direction: "host", value: "strong" },
        { name: "more", direction: "host", value: "of the second" },
        { name: "name", direction: "guest", value: "mine" },
        { name: "long", direction: "guest", value: "x".repeat(3000) },
      ]);
    });

    it("says both where host and guest share a key, once", async () => {
      const change = ({ portable }: ProviderStore): Partial<ProviderStore> => ({
        portable: {
          ...(portable as PortableLayout),
          hostKeys: (namespace, name) => [portable?.guestKey(namespace, name) ?? ""],
          places: (namespace) => {
            const { guest } = portable?.places?.(namespace) ?? { guest: undefined };
            return { host: guest === undefined ? [] : [guest], guest };
          },
        },
      });
      const view = busOf({ primary: true, change }).portable(SPACE);
      await view.publish("name", "value");
      const found = [];
      for await (const entry of view.list()) found.push(entry);
      expect(found).to.deep.equal([{ name: "name", direction: "both", value: "value" }]);
    });

    it("says that names are needed where a store cannot list", async () => {
      const change = (store: ProviderStore): Partial<ProviderStore> => ({
        capabilities: { ...store.capabilities, list: false },
      });
      const view = busOf({ primary: true, change }, GIVEN("second")).portable(SPACE);
      expect(await codeOf(view.list().next())).to.equal("ERR_NOT_SUPPORTED");
      expect(await codeOf(view.watch().next())).to.equal("ERR_NOT_SUPPORTED");
      expect(await view.get("name")).to.equal("second");
      const emulated = busOf({ ...GIVEN("first"), primary: true }, { change, emulated: true }).portable(
        SPACE,
      );
      expect((await emulated.list().next()).value).to.include({ value: "first" });
    });

    it("gives all that is whole, and then fails for what is torn", async () => {
      const torn = `pvbus-set-1 a 2 9 ${"0".repeat(32)}`;
      const given = { [`host/${SPACE}/torn`]: torn, [`host/${SPACE}/whole`]: "value" };
      const found: string[] = [];
      const code = await codeOf(
        (async () => {
          for await (const { name } of busOf({ primary: true, given }).portable(SPACE).list())
            found.push(name);
        })(),
      );
      expect([found, code]).to.deep.equal([["whole"], "ERR_CONFLICT"]);
    });
  });
});
