import { gzipSync } from "node:zlib";
import { expect } from "chai";
import { MemoryProvider, manifestOf } from "../../../providers/testing.js";
import type { BootDataKind } from "../../../src/contract/boot-data.js";
import { openPvbus } from "../../../src/index.js";
import {
  type BootDataLook,
  getBootData,
  listBootData,
  lookFor,
  type UserdataOptions,
} from "../../../src/tools/index.js";
import {
  BOOT_STORES,
  type BootStore,
  HypervTree,
  KvmTree,
  smbiosFiles,
  VmwareSocket,
} from "../../support/boot-stores.js";
import { KvmMachine } from "../../support/kvm-store.js";
import { collect } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";

const CONFIG = "#cloud-config\nhostname: x\n";
const IGNITION =
  '{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"/etc/pvbus-marker","contents":{"source":"data:,from-x"}}]}}';
const base64 = (text: string): string => Buffer.from(text).toString("base64");

async function get(store: BootStore, kind: BootDataKind, options: UserdataOptions = {}) {
  await using bus = await openPvbus(store.open);
  const found = await getBootData(bus, kind, options);
  return found && { ...found, value: Buffer.from(found.value).toString() };
}

const ovf = (properties: Readonly<Record<string, string>>): string => {
  const lines = Object.entries(properties).map(
    ([key, value]) => `<Property oe:key="${key}" oe:value="${value}"/>`,
  );
  return `<?xml version="1.0"?><Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"><PropertySection>${lines.join("")}</PropertySection></Environment>`;
};

describe("boot data", () => {
  for (const [type, start] of Object.entries(BOOT_STORES))
    it(`is found under its portable name on ${type}`, async () => {
      await using store = await start();
      await store.give("user-data", CONFIG);
      const found = await get(store, "user-data");
      expect(found).to.include({
        store: "portable",
        key: "org.pvbus/user-data",
        encoding: "plain",
        value: CONFIG,
      });
      expect(await get(store, "vendor-data")).to.equal(undefined);
    });

  it("of VMware is what its keys say, before any portable one", async () => {
    const metadata = "instance-id: i\nnetwork:\n  version: 2\n";
    await using store = await VmwareSocket.start({
      "guestinfo.userdata": gzipSync(CONFIG).toString("base64"),
      "guestinfo.userdata.encoding": "gzip+base64",
      "guestinfo.metadata": metadata,
      "guestinfo.ignition.config.data": base64(IGNITION),
      "guestinfo.ignition.config.data.encoding": "base64",
      "guestinfo.org.pvbus.user-data": "portable",
    });
    expect(await get(store, "user-data")).to.include({
      store: "guestinfo",
      encoding: "gzip+base64",
      value: CONFIG,
    });
    expect(await get(store, "meta-data")).to.include({ value: metadata.trimEnd(), consumer: "cloud-init" });
    expect(await get(store, "network-config")).to.include({
      key: "guestinfo.metadata",
      value: "version: 2\n",
    });
    expect(await get(store, "ignition")).to.include({ consumer: "Ignition", value: IGNITION });
    expect(await get(store, "user-data", { from: "portable" })).to.include({ value: "portable" });
    expect(await get(store, "user-data", { from: "vmware" })).to.include({ store: "guestinfo" });
  });

  it("of VMware's network may be encoded in its metadata", async () => {
    const network = base64("version: 1\n");
    await using store = await VmwareSocket.start({
      "guestinfo.metadata": base64(`network: ${network}\nnetwork.encoding: base64\n`),
      "guestinfo.metadata.encoding": "base64",
    });
    expect(await get(store, "network-config")).to.include({ encoding: "base64", value: "version: 1\n" });
  });

  it("of an OVF environment comes when guestinfo has none", async () => {
    await using store = await VmwareSocket.start({
      "guestinfo.ovfEnv": ovf({
        "user-data": base64(CONFIG),
        "instance-id": "id-7",
        hostname: "h",
        "guestinfo.ignition.config.data": base64(IGNITION),
        "guestinfo.ignition.config.data.encoding": "base64",
      }),
    });
    expect(await get(store, "user-data")).to.include({ store: "ovfEnv", encoding: "base64", value: CONFIG });
    expect(JSON.parse((await get(store, "meta-data"))?.value ?? "")).to.deep.equal({
      "instance-id": "id-7",
      hostname: "h",
    });
    expect(await get(store, "ignition")).to.include({ store: "ovfEnv", value: IGNITION });
    store.host.set("guestinfo.userdata", "own");
    expect(await get(store, "user-data")).to.include({ store: "guestinfo", value: "own" });
  });

  it("that its reader has removed is passed over, and said", async () => {
    await using store = await VmwareSocket.start({
      "guestinfo.userdata": "---",
      "guestinfo.userdata.encoding": " ",
    });
    await using bus = await openPvbus(store.open);
    const { found, removed } = await lookFor(bus, "user-data", {});
    expect(found).to.equal(undefined);
    expect(removed.map(({ key, absent }) => `${key}: ${absent}`)).to.deep.equal([
      "guestinfo.userdata: cloud-init has removed it",
    ]);
  });

  it("in an encoding that nobody knows is refused, and given as it is where that is asked for", async () => {
    await using store = await VmwareSocket.start({
      "guestinfo.userdata": CONFIG,
      "guestinfo.userdata.encoding": "rot13",
    });
    const error = await rejects(get(store, "user-data"), "ERR_VALUE_INVALID");
    expect([error.key, error.interface]).to.deep.equal(["guestinfo.userdata", "pvbus0"]);
    expect(await get(store, "user-data", { asIs: true })).to.include({ value: CONFIG, encoding: "as it is" });
  });

  it("of Hyper-V's Ignition is whole, or in parts up to a gap, with a warning of what lies behind it", async () => {
    await using store = await HypervTree.start();
    const parts = [IGNITION.slice(0, 60), IGNITION.slice(60)];
    await store.host.addKvpItems(parts.map((data, at) => ({ name: `ignition.config.${at}`, data })));
    const found = await get(store, "ignition");
    expect(found).to.include({ store: "External", key: "External/ignition.config", value: IGNITION });
    expect(found?.warning).to.equal(undefined);
    await store.host.addKvpItems([{ name: "ignition.config.3", data: "lost" }]);
    expect((await get(store, "ignition"))?.warning).to.match(/may be cut/);
    await store.host.addKvpItems([{ name: "ignition.config", data: "{}" }]);
    expect(await get(store, "ignition")).to.include({ value: "{}" });
  });

  it("of fw_cfg and of the serial number is what their consumers take", async () => {
    await using store = new KvmTree(
      { "opt/com.coreos/config": IGNITION },
      smbiosFiles("ds=nocloud;i=abc;h=hh"),
    );
    expect(await get(store, "ignition")).to.include({
      store: "fw_cfg",
      key: "fwcfg/opt/com.coreos/config",
      value: IGNITION,
    });
    const found = await get(store, "meta-data");
    expect(found).to.include({ store: "SMBIOS", encoding: "ds=nocloud" });
    expect(JSON.parse(found?.value ?? "")).to.deep.equal({ "instance-id": "abc", "local-hostname": "hh" });
  });

  it("of the metadata channel is what cloud-init's SmartOS source takes", async () => {
    const machine = await KvmMachine.start();
    try {
      const keys = {
        "cloud-init:user-data": base64(CONFIG),
        base64_keys: "cloud-init:user-data,other",
        "sdc:vendor-data": base64("vendor"),
        "b64-sdc:vendor-data": "true",
        "sdc:uuid": "11223344-5566-7788-99aa-bbccddeeff00",
        hostname: "guest1",
      };
      for (const [key, value] of Object.entries(keys)) machine.host.set(key, value);
      const open = { sysroot: machine.sysroot, interfaces: [{ type: "KVM", channel: "unix:/meta.sock" }] };
      const store = { type: "KVM", open } as unknown as BootStore;
      expect(await get(store, "user-data")).to.include({ store: "mdata", encoding: "base64", value: CONFIG });
      expect(await get(store, "vendor-data")).to.include({ value: "vendor" });
      expect(JSON.parse((await get(store, "meta-data"))?.value ?? "")).to.deep.equal({
        "instance-id": keys["sdc:uuid"],
        "local-hostname": "guest1",
      });
    } finally {
      await machine.end();
    }
  });

  it("is found where a stranger's manifest says, its interface's own places first", async () => {
    const place = { kind: "user-data", consumer: "acme-init", form: { is: "plain" } } as const;
    const provider = new MemoryProvider();
    const manifest = manifestOf(
      {
        id: "acme",
        type: "Acme",
        bootData: {
          places: [
            { ...place, store: "first", key: "guest/first" },
            { ...place, store: "second", key: "guest/second" },
          ],
        },
      },
      () => provider,
    );
    await using bus = await openPvbus({
      detect: false,
      providers: [manifest],
      interfaces: [{ type: "Acme" }],
    });
    await bus.primary?.write("guest/second", "2");
    expect(await getBootData(bus, "user-data")).to.include({ store: "second", consumer: "acme-init" });
    await bus.primary?.write("guest/first", "1");
    expect(await getBootData(bus, "user-data")).to.include({ store: "first" });
    expect(await getBootData(bus, "user-data", { from: "second" })).to.include({ key: "guest/second" });
  });

  it("is listed with all that there is, faults among it", async () => {
    await using store = await VmwareSocket.start({
      "guestinfo.userdata": "own",
      "guestinfo.vendordata": "x",
      "guestinfo.vendordata.encoding": "BASE64",
      "guestinfo.org.pvbus.user-data": "portable",
    });
    await using bus = await openPvbus(store.open);
    const shape = (look: BootDataLook): string =>
      `${look.kind} ${look.store} ${"value" in look ? look.value.length : "error" in look ? look.error.code : look.absent}`;
    expect((await collect(listBootData(bus))).map(shape)).to.deep.equal([
      "user-data guestinfo 3",
      "user-data portable 8",
      "vendor-data guestinfo ERR_VALUE_INVALID",
    ]);
  });

  it("fails with ERR_UNAVAILABLE where no store could be asked, and names an unknown one", async () => {
    await using bus = await openPvbus({
      detect: false,
      interfaces: [{ type: "Xen", channel: "unix:/nonexistent/socket" }],
    });
    await rejects(getBootData(bus, "user-data"), "ERR_UNAVAILABLE");
    const error = await rejects(getBootData(bus, "user-data", { from: "floppy" }), "ERR_UNAVAILABLE");
    expect(error.message).to.contain("portable, pvbus0");
    await using nothing = await openPvbus({ detect: false });
    await rejects(getBootData(nothing, "user-data"), "ERR_NO_INTERFACE");
  });
});
