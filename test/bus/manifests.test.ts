import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { ContainerModule } from "inversify";
import { MemoryProvider, memoryManifest } from "../../providers/testing.js";
import { openPvbus, PROVIDER, type ProviderManifest } from "../../src/index.js";
import { rejects } from "../support/rejects.js";

const BARE = { os: "linux", arch: "x64", input: {} };
const acme = (more: Partial<ProviderManifest> = {}): ProviderManifest => ({
  ...memoryManifest(),
  id: "acme",
  type: "Acme",
  ...more,
});

async function refusal(providers: readonly unknown[]): Promise<string> {
  try {
    await openPvbus({ snapshot: BARE, providers: providers as ProviderManifest[] });
  } catch (error) {
    expect(error).to.be.instanceOf(TypeError);
    return (error as Error).message;
  }
  throw new Error("taken");
}

describe("manifests", () => {
  const command = {
    name: "acme",
    args: [],
    description: "does it",
    load: () => Promise.reject(new Error("never")),
  };

  for (const [what, more, words] of [
    ["an id with blanks", { id: "a b" }, "id must be"],
    ["no type", { type: "" }, "type must be"],
    ["no load", { load: "x" }, "load must be"],
    ["systems that lack a verb", { systems: { read: ["linux"] } }, "systems.write must be"],
    [
      "a command without a line",
      { commands: [{ ...command, description: undefined }] },
      "acme must have a description",
    ],
    ["options that are no schema", { options: 7 }, "options must be"],
    [
      "boot data without places",
      { bootData: { places: [{ kind: "user-data" }] } },
      "bootData must have places",
    ],
    ["a locate that is none", { locate: true }, "locate must be"],
  ] as const)
    it(`are refused with ${what}, by their name`, async () => {
      const message = await refusal([acme(more as never)]);
      expect(message).to.include(words).and.include("provider 1");
    });

  it("are refused when they are no objects", async () => {
    for (const each of [undefined, null, 7, "x", class {}])
      expect(await refusal([each])).to.include("provider 1");
  });

  it("of two strangers may not have one id, and no command's name is taken twice", async () => {
    expect(await refusal([acme(), acme({ type: "Other" })]))
      .to.include("Acme")
      .and.include("Other");
    const taken = await refusal([acme({ commands: [command] }), acme({ id: "other", commands: [command] })]);
    expect(taken).to.include("acme").and.include("provider other");
  });

  it("that cannot be loaded are an error of each call that names them, and the next call begins again", async () => {
    let loads = 0;
    const cause = new Error("no disk");
    const load = async (): ReturnType<ProviderManifest["load"]> => {
      if (++loads < 3) throw cause;
      return memoryManifest().load();
    };
    const bus = await openPvbus({
      snapshot: BARE,
      providers: [acme({ load })],
      interfaces: [{ type: "acme" }],
    });
    const face = bus.primary;
    expect(face?.capabilities.read).to.equal(false);
    const error = await rejects(face?.read("guest/a") ?? Promise.resolve(), "ERR_UNAVAILABLE");
    expect(error.message).to.include("acme").and.include("^8.2").and.include("no disk");
    expect(error.cause).to.equal(cause);
    await face?.write("guest/a", "1");
    expect(face?.capabilities.read).to.equal(true);
    expect(await face?.read("guest/a")).to.equal("1");
    await bus.close();
  });

  it("say in the doctor's words that their provider cannot be loaded", async () => {
    const load = () => Promise.reject(new Error("no disk"));
    const bus = await openPvbus({
      snapshot: BARE,
      providers: [acme({ load })],
      interfaces: [{ type: "acme" }],
    });
    const [check] = (await bus.primary?.diagnose()) ?? [];
    expect(check).to.include({ works: false }).and.have.property("why").that.includes("acme");
    await bus.close();
  });

  for (const [what, register] of [
    ["bind no provider", () => undefined],
    [
      "bind two",
      ({ bind }: { bind: (token: symbol) => { toConstantValue(value: unknown): void } }) => {
        bind(PROVIDER).toConstantValue(new MemoryProvider());
        bind(PROVIDER).toConstantValue(new MemoryProvider());
      },
    ],
    [
      "throw",
      () => {
        throw new Error("inside");
      },
    ],
  ] as const)
    it(`whose modules ${what} are one error that names them`, async () => {
      const load = async () => new ContainerModule(register as never);
      const bus = await openPvbus({
        snapshot: BARE,
        providers: [acme({ load })],
        interfaces: [{ type: "acme" }],
      });
      const error = await rejects(bus.primary?.read("guest/a") ?? Promise.resolve(), "ERR_UNAVAILABLE");
      expect(error.message).to.include("acme (Acme)").and.include("^8.2");
      expect(error.cause).to.be.instanceOf(Error);
      await bus.close();
    });

  it("of another shape than a ContainerModule's are the same error", async () => {
    for (const module of [undefined, {}, { registry: () => undefined }, class {}]) {
      const load = async () => module as never;
      const bus = await openPvbus({
        snapshot: BARE,
        providers: [acme({ load })],
        interfaces: [{ type: "acme" }],
      });
      await rejects(bus.primary?.read("guest/a") ?? Promise.resolve(), "ERR_UNAVAILABLE");
      await bus.close();
    }
  });

  it("have containers of their own, released when the bus is closed", async () => {
    const TOKEN = Symbol.for("pvbus.test.shared");
    const released: string[] = [];
    const loading = (id: string) => async () =>
      new ContainerModule(({ bind, isBound }) => {
        expect(isBound(TOKEN)).to.equal(false);
        bind(TOKEN).toConstantValue(id);
        bind(PROVIDER)
          .toDynamicValue(() => new MemoryProvider())
          .onDeactivation(async () => void released.push(id));
      });
    const providers = ["one", "two"].map((id) => acme({ id, load: loading(id) }));
    const bus = await openPvbus({
      snapshot: BARE,
      providers,
      interfaces: [{ type: "one" }, { type: "two" }],
    });
    expect(bus.interfaces.map(({ capabilities }) => capabilities.read)).to.deep.equal([true, true]);
    expect(released).to.deep.equal([]);
    await bus.close();
    expect(released.sort()).to.deep.equal(["one", "two"]);
  });

  it("bring rules along by which detection finds what it does not know", async () => {
    const leaves = {
      "0x00000001": { eax: "0x0", ebx: "0x0", ecx: "0x80000000", edx: "0x0" },
      "0x40000000": { eax: "0x40000000", ebx: "0x656d6341", ecx: "0x656d6341", edx: "0x656d6341" },
    };
    const snapshot = {
      os: "linux",
      arch: "x64",
      input: { cpuid: { leaves }, dmi: { sys_vendor: "Acme Machines" } },
    };
    const without = await openPvbus({ snapshot });
    expect(without.detection).to.include({ primary: "unknown" });
    const detection = { signatures: ["AcmeAcmeAcme"], firmware: [{ field: "sys_vendor", prefix: "Acme" }] };
    const bus = await openPvbus({ snapshot, providers: [acme({ detection })] });
    expect(bus.primary).to.include({ id: "acme", type: "Acme", base: "0x40000000", role: "guest" });
    expect(bus.primary?.evidence.map(({ source }) => source)).to.deep.equal(["cpuid", "dmi"]);
    await bus.primary?.write("guest/a", "1");
    await Promise.all([without.close(), bus.close()]);
  });

  it("locate stores that detection does not know: behind the others, never primary", async () => {
    const bus = await openPvbus({
      snapshot: BARE,
      providers: [acme({ locate: () => true }), acme({ id: "absent", locate: async () => false })],
    });
    expect(bus.interfaces.map(({ id, role, base, primary }) => ({ id, role, base, primary }))).to.deep.equal([
      { id: "acme", role: "guest-api", base: null, primary: false },
    ]);
    expect(bus.interfaces[0]?.evidence[0]?.source).to.equal("path");
    expect(bus.primary).to.equal(undefined);
    await bus.close();
  });

  it("locate stores on the live machine, without a sysroot or a recording, and say what they saw", async () => {
    const asked: (string | undefined)[] = [];
    const evidence = [{ source: "sysfs", detail: "board_name: Acme" }] as const;
    const bus = await openPvbus({
      providers: [
        acme({
          locate: (host) => {
            asked.push(host.sysroot);
            return { evidence, details: { product: "acme" } };
          },
        }),
      ],
    });
    const found = bus.byType("Acme");
    expect(asked).to.deep.equal([undefined]);
    expect(found).to.deep.include({ role: "guest-api", base: null, evidence, details: { product: "acme" } });
    expect([found?.primary, bus.primary?.name]).to.deep.equal([
      false,
      bus.detection.primaryName ?? undefined,
    ]);
    expect(await found?.read("host/absent")).to.equal(undefined);
    await bus.close();
  });

  it("locate bare copies below a sysroot", async () => {
    const sysroot = mkdtempSync(join(tmpdir(), "pvbus-bare-"));
    try {
      mkdirSync(join(sysroot, "var/lib/hyperv"), { recursive: true });
      writeFileSync(join(sysroot, "var/lib/hyperv/.kvp_pool_0"), "");
      const bus = await openPvbus({ sysroot });
      expect(bus.interfaces.map(({ type }) => type)).to.deep.equal(["Hyper-V"]);
      await bus.close();
    } finally {
      rmSync(sysroot, { recursive: true });
    }
  });

  it("are all there is without detection", async () => {
    const bus = await openPvbus({ detect: false, providers: [acme()], interfaces: [{ type: "acme" }] });
    expect(bus.interfaces).to.have.length(1);
    expect(bus.detection.interfaces).to.deep.equal([]);
    await bus.close();
  });
});
