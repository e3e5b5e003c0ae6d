import { expect } from "chai";
import { capabilitiesOf } from "../../../providers/hyperv/capabilities.js";
import { HypervProvider, HypervStore } from "../../../providers/hyperv/index.js";
import { completeOptions } from "../../../providers/hyperv/options.js";
import { openbsdPools } from "../../../providers/hyperv/transport/openbsd-device.js";
import { manifestOf } from "../../../providers/testing.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, openPvbus, type ProviderManifest, type PvInterface } from "../../../src/index.js";
import type { PvbusNodes } from "../../../src/native/bsd/pvbus-device.js";
import { openPvbusDevice } from "../../../src/native/bsd/pvbus-device.js";
import { Hypervic } from "../../support/hypervic.js";
import { collect } from "../../support/pools.js";
import { type SimulatedDriver, simulatedPvbusKernel } from "../../support/pvbus-kernel.js";
import { rejects } from "../../support/rejects.js";

describe(`OpenBSD's kernel as Hyper-V's store${process.platform === "linux" ? "" : " [pending: Linux only]"}`, () => {
  let driver: Hypervic;
  let opened: { path: string; writable: boolean | undefined }[];
  let nodes: PvbusNodes;
  let warnings: string[];

  const host = () => ({
    ...nodeHost(),
    logger: { ...nodeHost().logger, warn: (message: string) => void warnings.push(message) },
  });
  const openStore = (): HypervStore =>
    new HypervStore(openbsdPools(host().logger, nodes), capabilitiesOf("openbsd-device", completeOptions()));

  /** A provider of the store on the simulated kernel. */
  function manifest(): ProviderManifest {
    const names = { id: "hyperv", type: "Hyper-V" };
    return manifestOf(names, () => ({
      ...names,
      capabilities: () => openStore().capabilities,
      open: async () => openStore(),
    }));
  }

  /** The store behind the uniform API, as a program has it. */
  async function openInterface(): Promise<PvInterface> {
    const bus = await openPvbus({ providers: [manifest()], interfaces: [{ type: "Hyper-V" }] });
    return bus.primary as PvInterface;
  }

  before(function () {
    if (process.platform !== "linux") this.skip();
  });
  beforeEach(() => {
    driver = new Hypervic();
    opened = [];
    warnings = [];
    nodes = {
      paths: () => ["/dev/pvbus0", "/dev/pvbus1"],
      open: (path, { writable }) => {
        opened.push({ path, writable });
        const ioctl =
          path === "/dev/pvbus1"
            ? simulatedPvbusKernel(driver)
            : simulatedPvbusKernel({ ...new Hypervic(), type: "KVM" } as unknown as SimulatedDriver);
        return openPvbusDevice("/dev/null", { ioctl });
      },
    };
  });

  it("finds the device by its type and opens it for writing only to write", async () => {
    const hv = await openInterface();
    expect(await hv.read("Auto/OSName")).to.equal("OpenBSD");
    expect(opened.map(({ path, writable }) => `${path} ${writable === true}`)).to.deep.equal([
      "/dev/pvbus0 false",
      "/dev/pvbus1 false",
      "/dev/pvbus1 false",
    ]);
    await hv.write("Guest/new", "1");
    expect(opened.slice(3)).to.deep.equal([{ path: "/dev/pvbus1", writable: true }]);
  });

  it("takes each name of Guest once, the same value again as well", async () => {
    const hv = await openInterface();
    await hv.write("Guest/k", "v");
    await hv.write("guest/k", "v");
    const error = await rejects(hv.write("Guest/k", "other"), "ERR_NOT_SUPPORTED");
    expect(error.message).to.include("once");
    expect(await hv.read("Guest/k")).to.equal("v");
    expect((await rejects(hv.delete("Guest/k"), "ERR_NOT_SUPPORTED")).message).to.match(/remove|delete/);
  });

  it("updates the names that Auto has, and takes no new ones", async () => {
    const hv = await openInterface();
    await hv.write("Auto/OSName", "Mine");
    expect(await hv.read("Auto/OSName")).to.equal("Mine");
    await rejects(hv.write("Auto/New", "v"), "ERR_KEY_INVALID");
    await rejects(hv.write("External/k", "v"), "ERR_READ_ONLY");
    await rejects(hv.write("Guest/Parameters/k", "v"), "ERR_READ_ONLY");
  });

  it("says what it can do", async () => {
    const { pools, limits } = openStore().capabilities;
    const verbs = Object.entries(pools ?? {}).map(([name, can]) => [name, can.write, can.delete]);
    expect(verbs).to.deep.equal([
      ["External", false, false],
      ["Guest", true, false],
      ["Auto", true, false],
      ["Guest/Parameters", false, false],
    ]);
    expect(limits).to.include({ maxKeyUnits: 255, maxValueUnits: 255 });
  });

  it("refuses before writing what the kernel would cut or mangle", async () => {
    const hv = await openInterface();
    await hv.write(`Guest/${"k".repeat(255)}`, "v".repeat(255));
    expect(await hv.read(`Guest/${"k".repeat(255)}`)).to.equal("v".repeat(255));
    await rejects(hv.write(`Guest/${"k".repeat(256)}`, "v"), "ERR_KEY_TOO_LONG");
    await rejects(hv.write("Guest/k", "v".repeat(256)), "ERR_VALUE_TOO_LONG");
    await rejects(hv.write("Guest/a/b", "v"), "ERR_KEY_INVALID");
    await rejects(hv.write("Guest/a\nb", "v"), "ERR_KEY_INVALID");
    await rejects(hv.write("Guest/文", "v"), "ERR_KEY_INVALID");
    await rejects(hv.write("Guest/k", "文"), "ERR_VALUE_INVALID");
    expect([...(driver.pools["guest"] as Map<string, string>).keys()]).to.deep.equal(["k".repeat(255)]);
  });

  it("speaks the kernel's Latin-1", async () => {
    const hv = await openInterface();
    driver.pools["external"]?.set("straße", "Gr\u00fc\u00dfe");
    expect(await hv.read("External/straße")).to.equal("Grüße");
    expect(await collect(hv.list("External/"))).to.deep.equal([{ key: "External/straße", value: "Grüße" }]);
    await hv.write("Guest/ä", "ö");
    expect(driver.pools["guest"]?.get("\u00e4")).to.equal("\u00f6");
    expect(await hv.read("External/文")).to.equal(undefined);
  });

  it("reads long values and lists many names", async () => {
    const hv = await openInterface();
    driver.pools["external"]?.set("long", "x".repeat(20_000));
    for (let at = 0; at < 500; at++) driver.pools["guest/parameters"]?.set(`n${at}`, String(at));
    expect(await hv.read("External/long")).to.equal("x".repeat(20_000));
    expect(await collect(hv.list("Guest/Parameters/"))).to.have.length(500);
    expect(await collect(hv.list("Guest/Parameters/n49"))).to.have.length(11);
    driver.pools["external"]?.set("too long", "x".repeat(70_000));
    await rejects(hv.read("External/too long"), "ERR_NO_SPACE");
  });

  it("leaves out of a listing what the kernel lists and cannot read, with a warning", async () => {
    const store = openStore();
    driver.pools["external"]?.set("a/b", "1").set("c", "2");
    const keys = (await collect(store.list("External/", new Call()))).map(({ key }) => key);
    expect(keys).to.deep.equal(["External/c"]);
    expect(warnings).to.have.length(1);
    expect(await store.read("External/a/b", new Call())).to.equal(undefined);
  });

  it("puts portable keys where the kernel can hold them", async () => {
    const bus = await openPvbus({
      providers: [manifest()],
      interfaces: [{ type: "Hyper-V" }],
    });
    driver.pools["external"]?.set("com.example:role", "web");
    const view = bus.portable("com.example");
    expect(await view.get("role")).to.equal("web");
    await view.publish("state", "ready");
    expect(await view.published("state")).to.equal("ready");
    expect(
      [...(driver.pools["guest"] as Map<string, string>).keys()].every((key) => !key.includes("/")),
    ).to.equal(true);
    await bus.close();
  });

  it("says what is missing", async () => {
    nodes = { paths: () => ["/dev/pvbus0"], open: nodes.open };
    await rejects((await openInterface()).read("Guest/k"), "ERR_UNAVAILABLE");
    nodes = {
      paths: () => ["/dev/pvbus1"],
      open: () => {
        throw Object.assign(new Error("EACCES: open"), { code: "EACCES", syscall: "open" });
      },
    };
    const error = await rejects((await openInterface()).read("Guest/k"), "ERR_PERMISSION");
    expect(error.message).to.include("wheel");
    const provider = new HypervProvider({ ...host(), platform: "openbsd" });
    expect(
      (await rejects(provider.open({ options: { durable: true } }), "ERR_NOT_SUPPORTED")).message,
    ).to.match(/durable/);
  });
});
