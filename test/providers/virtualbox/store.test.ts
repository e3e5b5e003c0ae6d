import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { ContainerModule, type ContainerModuleLoadOptions } from "inversify";
import { VirtualBoxSimulator } from "../../../providers/testing.js";
import {
  type OpenDriverFile,
  VIRTUALBOX_DRIVER,
  VirtualBoxProvider,
  type VirtualBoxStore,
  virtualboxManifest,
  virtualboxModule,
} from "../../../providers/virtualbox/index.js";
import { virtualboxPortableHost } from "../../../providers/virtualbox/portable-host.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { type Bus, Call, openPvbus, type ProviderManifest } from "../../../src/index.js";
import { getBootData, tellReady } from "../../../src/tools/index.js";
import { rejects } from "../../support/rejects.js";
import { removeTree } from "../../support/trees.js";

const call = (): Call => new Call({ timeoutMs: 5_000 });
const bytes = (text: string): Buffer => Buffer.from(text);
const text = (value: Uint8Array | undefined): string | undefined => value && Buffer.from(value).toString();

/** The built-in manifest on a simulated host's driver. */
function manifestOn(simulator: VirtualBoxSimulator): ProviderManifest {
  const open: OpenDriverFile = () => simulator.openFile();
  return {
    ...virtualboxManifest,
    load: async () =>
      new ContainerModule(async (options: ContainerModuleLoadOptions) => {
        await virtualboxModule.load(options);
        options.rebind(VIRTUALBOX_DRIVER).toConstantValue(open);
      }),
  };
}

const busOn = (simulator: VirtualBoxSimulator): Promise<Bus> =>
  openPvbus({
    detect: false,
    providers: [manifestOn(simulator)],
    interfaces: [{ type: "VirtualBox" }],
  });

describe("the store of guest properties", () => {
  let simulator: VirtualBoxSimulator;
  let store: VirtualBoxStore;
  beforeEach(async () => {
    simulator = new VirtualBoxSimulator();
    store = await simulator.provider(nodeHost({ platform: "linux" })).open({}, call());
  });
  afterEach(() => store.close());

  it("keeps flags when it writes, and sets them when it is told to", async () => {
    simulator.set("/a", "1", "TRANSIENT, RDONLYHOST");
    await store.write("/a", bytes("2"), call());
    expect(simulator.service.get("/a")).to.include({ value: "2", flags: "TRANSIENT, RDONLYHOST" });
    await store.setProperty("/a", "3", [], call());
    expect(simulator.service.get("/a")).to.include({ value: "3", flags: "" });
    await store.setProperty("/a", "4", ["TRANSRESET"], call());
    const property = await store.property("/a", call());
    expect(property?.flags).to.deep.equal(["TRANSIENT", "TRANSRESET"]);
    expect(property?.timestamp).to.equal(simulator.service.get("/a")?.timestamp);
    const wrong = ["SECRET"] as unknown as ["TRANSIENT"];
    expect(
      await store.setProperty("/a", "5", wrong, call()).catch((error: unknown) => error),
    ).to.be.instanceOf(TypeError);
    expect(
      (await store.properties("/a|/VirtualBox/HostInfo/VBoxRe?", call())).map(({ name }) => name),
    ).to.deep.equal(["/VirtualBox/HostInfo/VBoxRev", "/a"]);
  });

  it("tells a host that takes nothing, a property that is kept and a full store apart", async () => {
    simulator.set("/kept", "x", "RDONLYGUEST");
    await rejects(store.write("/kept", bytes("y"), call()), "ERR_READ_ONLY");
    await rejects(store.delete("/kept", call()), "ERR_READ_ONLY");
    expect(await store.erase("/kept", call())).to.equal("no");
    simulator.service.faults.readOnly = true;
    const refused = await rejects(store.write("/a", bytes("y"), call()), "ERR_READ_ONLY");
    expect(refused.message).to.contain("(VirtualBox status 10)");
    simulator.service.faults.readOnly = false;
    for (let n = simulator.service.names().length; n < 256; n++) simulator.set(`/fill/${n}`, "v");
    const full = await rejects(store.write("/one more", bytes("v"), call()), "ERR_NO_SPACE");
    expect(full.message).to.contain("256");
    await store.write("/fill/100", bytes("changed"), call());
    expect(simulator.get("/fill/100")).to.equal("changed");
  });

  it("knows an older host's limit", async () => {
    simulator.service.faults.oldValueLimit = true;
    await store.write("/a", bytes("v".repeat(127)), call());
    const refused = await rejects(store.write("/a", bytes("v".repeat(128)), call()), "ERR_VALUE_TOO_LONG");
    expect(refused.message).to.contain("127");
    await rejects(store.write("/new", bytes("v".repeat(128)), call()), "ERR_VALUE_TOO_LONG");
  });

  it("erases what is expected", async () => {
    simulator.set("/secret", "x");
    await rejects(store.erase("/secret", call(), bytes("y")), "ERR_CONFLICT");
    expect(await store.erase("/secret", call(), bytes("x"))).to.equal("host");
    expect(simulator.get("/secret")).to.equal(undefined);
    expect(await store.erase("/secret", call())).to.equal("host");
  });

  it("connects again once where the host has forgotten it", async () => {
    simulator.set("/a", "1");
    simulator.service.faults.forgetClients = 1;
    expect(text(await store.read("/a", call()))).to.equal("1");
    simulator.service.faults.forgetClients = 2;
    await rejects(store.read("/a", call()), "ERR_DISCONNECTED");
    simulator.crash();
    await rejects(store.read("/a", call()), "ERR_UNAVAILABLE");
    simulator.start();
    expect(text(await store.read("/a", call()))).to.equal("1");
  });

  it("says what the host says of itself", async () => {
    simulator.set("/VirtualBox/HostInfo/GUI/LanguageID", "de_DE");
    simulator.set("/VirtualBox/GuestInfo/OS/Product", "Linux");
    const { other } = await store.facts(call());
    expect(other).to.deep.include({
      "/VirtualBox/HostInfo/VBoxVer": "7.0.20",
      "/VirtualBox/VMInfo/ResumeCounter": "0",
      "/VirtualBox/HostInfo/GUI/LanguageID": "de_DE",
    });
    expect(Object.keys(other ?? {})).to.not.include("/VirtualBox/GuestInfo/OS/Product");
  });

  it("lists a store of every size, whatever grows meanwhile", async () => {
    for (let n = 0; n < 240; n++) simulator.set(`/l/${n}`, "v".repeat(1_000));
    let grown = 0;
    simulator.service.faults.tamper = (fn, answer) => {
      if (fn === 5 && grown++ < 3)
        return { status: -41, numbers: new Map([[2, BigInt(20_000 * grown + 5_000)]]) };
      return answer;
    };
    const found: string[] = [];
    for await (const { key } of store.list("/l/", call())) found.push(key);
    expect(found).to.have.length(240);
  });

  it("has an error for every answer that cannot be", async () => {
    simulator.set("/a", "1");
    const lies: readonly (readonly [number, { status: number; size?: bigint; filled?: string }])[] = [
      [1, { status: 0, size: 1_000_000n }],
      [1, { status: 0, size: 4n, filled: "abcd" }],
      [1, { status: 0, size: 0n }],
      [1, { status: -41, size: 4n }],
      [1, { status: -41, size: 4_000_000_000n }],
      [1, { status: -99 }],
      [1, { status: 5 }],
      [5, { status: 0, size: 16_385n }],
      [5, { status: 0, size: 9n, filled: "/a\0v\0x\0f\0" }],
      [5, { status: -41, size: 1n }],
      [2, { status: 7 }],
      [3, { status: 7 }],
      [4, { status: 7 }],
    ];
    for (const [fn, { status, size = 0n, filled }] of lies) {
      const answer = {
        status,
        numbers: new Map([[fn === 1 ? 3 : 2, size]]),
        bytes: new Map(filled === undefined ? [] : [[1, bytes(filled)]]),
      };
      simulator.service.faults.tamper = (asked, told) => {
        if (asked !== fn) return told;
        // SET has no numbers to lie about.
        return fn === 1 || fn === 5 ? answer : { status };
      };
      const verb = {
        1: () => store.read("/a", call()),
        2: () => store.setProperty("/a", "x", ["TRANSIENT"], call()),
        3: () => store.setProperty("/a", "x", [], call()),
        4: () => store.delete("/a", call()),
        5: () => store.properties("", call()),
      }[fn] as () => Promise<unknown>;
      await rejects(verb(), "ERR_PROTOCOL");
    }
    simulator.service.faults.tamper = (fn, told) =>
      fn === 1 ? { status: -41, numbers: new Map([[3, 200_000n + BigInt(++grows)]]) } : told;
    let grows = 0;
    await rejects(store.read("/a", call()), "ERR_BUSY");
  });

  it("says at the opening what is missing", async () => {
    const none = new VirtualBoxSimulator({ faults: { noService: true } });
    const provider = none.provider(nodeHost({ platform: "linux" }));
    const error = await rejects(provider.open({}, call()), "ERR_UNAVAILABLE");
    expect(error.message).to.contain("-2900");
    expect(none.driver.openFiles).to.equal(0);
    expect(() => provider.capabilities({ options: { flags: true } })).to.throw(TypeError);
  });

  it("has 64 clients for each open driver, and no more", async () => {
    expect(simulator.driver.openFiles).to.equal(1);
    const others = await Promise.all(
      Array.from({ length: 5 }, () => simulator.provider(nodeHost({ platform: "linux" })).open({}, call())),
    );
    expect(simulator.driver.openFiles).to.equal(6);
    for (const other of others) await other.close();
    expect(simulator.driver.openFiles).to.equal(1);
  });
});

describe("guest properties through the bus", () => {
  it("hold portable values up to their own limits", async () => {
    const simulator = new VirtualBoxSimulator();
    await using bus = await busOn(simulator);
    const view = bus.portable("com.example.agent");
    await view.publish("short", "v");
    expect(simulator.get("/pvbus/com.example.agent/short")).to.equal("v");
    const long = "0123456789abcdef".repeat(1024);
    await view.publish("long", long);
    expect(await view.published("long")).to.equal(long);
    const before = simulator.service.names().length;
    await rejects(view.publish("longer", `${long}x`), "ERR_VALUE_TOO_LONG");
    // 55 bytes for both; a value that is split needs six of them for its parts.
    const name = "n".repeat(55 - "com.example.agent".length);
    await view.publish(name, "fits");
    expect(await view.published(name)).to.equal("fits");
    await rejects(view.publish(name, long), "ERR_KEY_TOO_LONG");
    // Nine parts would fit, and stay behind.
    await rejects(view.publish(name.slice(5), long), "ERR_KEY_TOO_LONG");
    await rejects(view.publish(`${name}n`, "v"), "ERR_KEY_TOO_LONG");
    await rejects(view.publish("n".repeat(60), "v"), "ERR_KEY_TOO_LONG");
    expect(simulator.service.names().length).to.equal(before + 1);
    await view.unpublish("long");
    expect(simulator.service.names().filter((each) => each.includes("long"))).to.deep.equal([]);
  });

  it("are read by the portable tools: Ignition's configuration, and readiness", async () => {
    const simulator = new VirtualBoxSimulator();
    simulator.set("/Ignition/Config", '{"ignition":{"version":"3.4.0"}}');
    await using bus = await busOn(simulator);
    const found = await getBootData(bus, "ignition");
    expect(text(found?.value)).to.equal('{"ignition":{"version":"3.4.0"}}');
    await tellReady(bus, { status: "up" });
    expect(simulator.get("/pvbus/org.pvbus/ready")).to.match(/^1 ready \S+ \S+ up$/);
  });

  it("are written and read on the host by VBoxManage", () => {
    const listing = [
      "Name: /pvbus/a/b, value: v, timestamp: 1795770116803506000, flags: TRANSIENT",
      "Name: /pvbus/a/c, value: x, timestamp: y, timestamp: 1, flags:",
      "/pvbus/a/d                          = 'it''s'  @ 2026-11-28T05:00:00.000Z TRANSIENT",
      "/pvbus/a/e = ''",
      "No properties found.",
    ].join("\r\n");
    expect([...virtualboxPortableHost.pairs(listing)]).to.deep.equal([
      { key: "/pvbus/a/b", value: "v" },
      { key: "/pvbus/a/c", value: "x, timestamp: y" },
      { key: "/pvbus/a/d", value: "it''s" },
      { key: "/pvbus/a/e", value: "" },
    ]);
  });
});

describe("VirtualBox as it is found", () => {
  let sysroot: string;
  const put = (path: string, content = ""): void => {
    const full = join(sysroot, path);
    mkdirSync(join(full, ".."), { recursive: true });
    writeFileSync(full, content);
  };
  const pci = "/sys/bus/pci/devices/0000:00:04.0";
  beforeEach(() => {
    sysroot = mkdtempSync(join(tmpdir(), "pvbus-vbox-"));
    put("/sys/bus/pci/devices/0000:00:02.0/vendor", "0x80ee\n");
    put("/sys/bus/pci/devices/0000:00:02.0/device", "0xbeef\n");
  });
  afterEach(() => removeTree(sysroot));

  it("is its PCI device, whatever the processor says", async () => {
    const host = nodeHost({ platform: "linux", sysroot });
    expect(await virtualboxManifest.locate?.(host)).to.equal(false);
    put(`${pci}/vendor`, "0x80ee\n");
    put(`${pci}/device`, "0xcafe\n");
    expect(await virtualboxManifest.locate?.(host)).to.equal(true);
    await using bus = await openPvbus({ sysroot });
    expect(bus.byType("VirtualBox")?.name).to.equal("pvbus0");
  });

  it("is detected by its driver's node beside another hypervisor's signs", async () => {
    put("/dev/vboxguest");
    put("/sys/hypervisor/type", "kvm\n");
    await using bus = await openPvbus({ sysroot });
    const found = bus.byType("VirtualBox");
    expect(found?.evidence.map(({ source, detail }) => `${source}: ${detail}`)).to.include(
      "path: /dev/vboxguest is there",
    );
    expect(bus.primary?.type).to.equal("VirtualBox");
  });

  it("has a doctor that says how far it goes, and writes nothing", async () => {
    const simulator = new VirtualBoxSimulator();
    const before = simulator.service.names().length;
    const host = nodeHost({ platform: "linux", sysroot });
    const lines = async (open?: OpenDriverFile): Promise<string[]> => {
      const checks = await new VirtualBoxProvider(host, open).diagnose({});
      return checks.map(({ what, works, why }) => `${works ? "yes" : "no"} ${what}: ${why}`);
    };
    expect((await lines())[0]).to.match(/^no VirtualBox's device 80ee:cafe is there/);
    put(`${pci}/vendor`, "0x80ee\n");
    put(`${pci}/device`, "0xcafe\n");
    expect((await lines())[1]).to.match(/^no the driver vboxguest has it/);
    put("/sys/bus/pci/drivers/vboxguest/0000:00:04.0/host_version", "7.0.20r163906\n");
    put("/dev/vboxuser");
    const all = await lines(() => simulator.openFile());
    expect(all[1]).to.equal("yes the driver vboxguest has it: host version 7.0.20r163906");
    expect(all[2]).to.match(/^yes the driver has a node: \S*\/dev\/vboxuser mode 0\d{3} of \d+:\d+$/);
    expect(all.slice(3)).to.deep.equal([
      "yes the driver opens: simulated",
      "yes the host serves guest properties: VirtualBox 7.0.20",
      "yes there is room for further properties: 7 of 256",
    ]);
    for (let n = before; n < 250; n++) simulator.set(`/fill/${n}`, "v");
    expect((await lines(() => simulator.openFile())).at(-1)).to.match(/^no there is room .*: 250 of 256/);
    simulator.service.faults.noService = true;
    expect((await lines(() => simulator.openFile())).at(-1)).to.match(/^no the host serves .*-2900/);
    expect(simulator.driver.openFiles).to.equal(0);
  });

  it("opens no device below a directory unless it is named, and says what else is wrong", async () => {
    const provider = (from?: string): VirtualBoxProvider =>
      new VirtualBoxProvider(
        nodeHost({ platform: "linux", ...(from === undefined ? {} : { sysroot: from }) }),
      );
    const missing = await rejects(provider(sysroot).open({}, call()), "ERR_UNAVAILABLE");
    expect(missing.message).to.contain("modprobe vboxguest");
    await rejects(provider(sysroot).open({ channel: "device:/dev/absent" }, call()), "ERR_UNAVAILABLE");
    await rejects(provider(sysroot).open({ channel: "unix:/socket" }, call()), "ERR_NOT_SUPPORTED");
    // A device of another kind does not know the requests.
    await rejects(provider().open({ channel: "device:/dev/null" }, call()), "ERR_PROTOCOL");
  });
});
