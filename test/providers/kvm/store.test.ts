import { expect } from "chai";
import { Call, openPvbus, PvbusError } from "../../../src/index.js";
import { KvmMachine, listing } from "../../support/kvm-store.js";
import { rejects } from "../../support/rejects.js";
import { addFiles, fileTree, removeTree } from "../../support/trees.js";

const call = (timeoutMs = 5_000): Call => new Call({ timeoutMs });
const bytes = (text: string): Buffer => Buffer.from(text);
const text = (value: Uint8Array | undefined): string | undefined =>
  value && Buffer.from(value).toString("utf8");

describe("KvmStore", () => {
  let machine: KvmMachine;
  beforeEach(async () => {
    machine = await KvmMachine.start();
  });
  afterEach(() => machine.end());

  it("finds a plain key in the channel, then in fw_cfg, then in SMBIOS, and says where", async () => {
    machine.addFwCfg({ "opt/org.pvbus/both": "static", "opt/org.pvbus/fixed": "fw" });
    const oem = Buffer.from("org.pvbus:fixed=smbios\0org.pvbus:last=oem\0\0");
    addFiles(machine.sysroot, {
      "sys/firmware/dmi/tables/DMI": Buffer.concat([Buffer.of(11, 5, 0, 0, 2), oem]),
    });
    machine.host.set("both", "live");
    const store = await machine.open();
    const found = async (key: string): Promise<string | undefined> => {
      const { source, key: at, value } = (await store.find(key, call())) ?? {};
      return at && `${source} ${at} ${text(value)}`;
    };
    expect(await found("both")).to.equal("meta meta/both live");
    expect(await found("fixed")).to.equal("fwcfg fwcfg/opt/org.pvbus/fixed fw");
    expect(await found("last")).to.equal("smbios smbios/oem/org.pvbus:last oem");
    expect(await found("nowhere")).to.equal(undefined);
    expect(await found("fwcfg/opt/org.pvbus/both")).to.equal("fwcfg fwcfg/opt/org.pvbus/both static");
    expect(await found("meta/fixed")).to.equal(undefined);
  });

  it("writes and removes on the channel, and a static value shows again", async () => {
    machine.addFwCfg({ "opt/org.pvbus/k": "static" });
    const store = await machine.open();
    await store.write?.("k", bytes("live"), call());
    expect(text(machine.host.get("k"))).to.equal("live");
    expect(text(await store.read("k", call()))).to.equal("live");
    expect(await store.delete?.("k", call())).to.equal(true);
    expect(text(await store.read("k", call()))).to.equal("static");
    expect(await store.delete?.("k", call())).to.equal(false);
  });

  it("erases on the channel alone, and knows what cannot change", async () => {
    machine.addFwCfg({ "opt/org.pvbus/fixed": "static" });
    machine.host.set("secret", "s");
    const store = await machine.open();
    await rejects(store.erase("secret", call(), bytes("older")), "ERR_CONFLICT");
    expect(await store.erase("secret", call(), bytes("s"))).to.equal("host");
    expect(machine.host.get("secret")).to.equal(undefined);
    expect(await store.erase("secret", call())).to.equal("host");
    for (const key of ["fixed", "fwcfg/opt/org.pvbus/fixed"]) {
      expect(await store.erase(key, call()), key).to.equal("no");
      expect(text(await store.read(key, call()))).to.equal("static");
    }
    const fixed = ["fwcfg/opt/x", "smbios", "meta/x", "x"].map((key) => store.isFixed(key));
    expect(fixed).to.deep.equal([true, true, false, false]);
  });

  it("refuses to change what was fixed at the start", async () => {
    machine.addFwCfg({});
    const store = await machine.open();
    for (const key of ["fwcfg/opt/x", "smbios/oem/1"]) {
      const error = await rejects(store.write?.(key, bytes("v"), call()) as Promise<void>, "ERR_READ_ONLY");
      expect(error.message).to.include("meta/");
      await rejects(store.delete?.(key, call()) as Promise<boolean>, "ERR_READ_ONLY");
    }
  });

  it("lists qualified keys of all sources, or plain ones below a plain prefix, each once", async () => {
    machine.addFwCfg({ "opt/org.pvbus/app/a": "static", "opt/org.pvbus/app/c": "3", "opt/else": "x" });
    for (const key of ["app/a", "app/b", "other"]) machine.host.set(key, "live");
    const store = await machine.open();
    expect(await listing(store, "", call())).to.deep.equal([
      ["meta/app/a", "live"],
      ["meta/app/b", "live"],
      ["meta/other", "live"],
      ["fwcfg/opt/org.pvbus/app/a", "static"],
      ["fwcfg/opt/org.pvbus/app/c", "3"],
      ["fwcfg/opt/else", "x"],
    ]);
    expect(await listing(store, "app/", call())).to.deep.equal([
      ["app/a", "live"],
      ["app/b", "live"],
      ["app/c", "3"],
    ]);
    expect(await listing(store, "fwcfg/opt/e", call())).to.deep.equal([["fwcfg/opt/else", "x"]]);
  });

  it("serves what it has when nobody answers on the channel, and says so in the end", async () => {
    machine.addFwCfg({ "opt/org.pvbus/k": "static" });
    await machine.host.stop();
    const store = await machine.open();
    expect(text(await store.read("k", call()))).to.equal("static");
    await rejects(store.read("absent", call()), "ERR_UNAVAILABLE");
    await rejects(store.read("meta/k", call()), "ERR_UNAVAILABLE");
    const seen: string[] = [];
    const listed = (async () => {
      for await (const { key } of store.list("", call())) seen.push(key);
    })();
    await rejects(listed, "ERR_UNAVAILABLE");
    expect(seen).to.deep.equal(["fwcfg/opt/org.pvbus/k"]);
    expect(machine.messages.join()).to.include("cannot be asked");
  });

  it("passes over keys of a listing that nobody can ask for", async () => {
    for (const key of ["good", " blank", "tab\t", "x".repeat(5000)]) machine.host.set(key, "v");
    expect(await listing(await machine.open(), "meta/", call())).to.deep.equal([["meta/good", "v"]]);
  });

  it("tells what host and firmware say of the machine", async () => {
    machine.host.set("sdc:uuid", "u-1");
    machine.host.set("sdc:hostname", "web-1");
    addFiles(machine.sysroot, { "sys/class/dmi/id/sys_vendor": "QEMU\n" });
    const store = await machine.open();
    expect(await store.facts(call())).to.deep.equal({
      vmName: "web-1",
      vmId: "u-1",
      other: { manufacturer: "QEMU" },
    });
    await machine.host.stop();
    expect(await (await machine.open()).facts(call())).to.deep.equal({ other: { manufacturer: "QEMU" } });
  });

  it("publishes and gets portable keys, long ones too", async () => {
    machine.addFwCfg({ "opt/com.example/fixed": "from the start" });
    const bus = await openPvbus({
      sysroot: machine.sysroot,
      interfaces: [{ type: "KVM", channel: "unix:/meta.sock" }],
    });
    try {
      const agent = bus.portable("com.example");
      expect(await agent.get("fixed")).to.equal("from the start");
      await agent.publish("status", "€".repeat(20_000));
      expect(machine.host.keys()).to.include.members(["com.example/status", "com.example/status__a_1"]);
      expect(await agent.published("status")).to.equal("€".repeat(20_000));
      expect(await agent.get("status")).to.equal("€".repeat(20_000));
    } finally {
      await bus.close();
    }
  });
});

describe("KvmStore without a channel", () => {
  let sysroot: string;
  beforeEach(() => {
    sysroot = fileTree({ "sys/firmware/qemu_fw_cfg/rev": "3\n" });
  });
  afterEach(() => removeTree(sysroot));

  it("says of a value that cannot come any more that it cannot", async () => {
    addFiles(sysroot, {
      "sys/firmware/qemu_fw_cfg/by_key/32/name": "opt/com.example/there\n",
      "sys/firmware/qemu_fw_cfg/by_key/32/size": "5\n",
      "sys/firmware/qemu_fw_cfg/by_key/32/raw": "value",
    });
    const bus = await openPvbus({ sysroot, interfaces: [{ type: "KVM" }] });
    try {
      const [kvm] = bus.interfaces;
      expect(await kvm?.wait("fwcfg/opt/com.example/there")).to.equal("value");
      expect(await bus.portable("com.example").wait("there")).to.equal("value");
      const never = [kvm?.wait("fwcfg/opt/com.example/none"), bus.portable("com.example").wait("none")];
      for (const each of never) await rejects(each as Promise<string>, "ERR_NOT_SUPPORTED");
      await rejects(bus.portable("com.example").watch().next(), "ERR_NOT_SUPPORTED");
      await rejects(kvm?.wait("meta/none", { timeoutMs: 50 }) as Promise<string>, "ERR_TIMEOUT");
    } finally {
      await bus.close();
    }
  });

  it("reads and lists, and for the rest names the doctor, who has the lines that the host has to add", async () => {
    const bus = await openPvbus({ sysroot, interfaces: [{ type: "KVM" }] });
    const kvm = bus.byType("KVM");
    try {
      expect(kvm?.capabilities).to.include({
        read: true,
        list: true,
        write: false,
        delete: false,
        watch: false,
      });
      expect(await kvm?.read("absent")).to.equal(undefined);
      const verbs = { write: kvm?.write("k", "v"), delete: kvm?.delete("k"), watch: kvm?.watch().next() };
      for (const [verb, outcome] of Object.entries(verbs)) {
        const error = await rejects(outcome as Promise<unknown>, "ERR_NOT_SUPPORTED");
        expect(error.message, verb).to.include("no metadata channel").and.include("pvbus doctor");
      }
      const unavailable = await rejects(kvm?.read("meta/k") as Promise<unknown>, "ERR_UNAVAILABLE");
      expect(unavailable.message).to.include("pvbus doctor");
    } finally {
      await bus.close();
    }
  });

  it("names the doctor for values too when the machine has nothing", async () => {
    removeTree(sysroot);
    sysroot = fileTree({});
    const bus = await openPvbus({
      sysroot,
      interfaces: [{ type: "KVM", options: { staticNamespace: "com.example" } }],
    });
    try {
      const kvm = bus.byType("KVM");
      const error = await rejects(kvm?.read("k") as Promise<unknown>, "ERR_NOT_SUPPORTED");
      expect(error.message).to.include("pvbus doctor");
      const [{ fix } = {}] = (await kvm?.diagnose()) ?? [];
      for (const line of [
        "-device virtserialport,chardev=pvbus,name=org.pvbus.mdata.0",
        "<target type='virtio' name='org.pvbus.mdata.0'/>",
        "-fw_cfg name=opt/com.example/KEY,string=VALUE",
      ])
        expect(fix).to.include(line);
    } finally {
      await bus.close();
    }
  });

  it("is opened for a bare tree with a fw_cfg device, and serves QEMU's interface under that type", async () => {
    const bare = await openPvbus({ sysroot });
    expect(bare.interfaces.map(({ type }) => type)).to.deep.equal(["KVM"]);
    await bare.close();
    const snapshot = { os: "linux", arch: "x64", cpuid: null, dmi: { sys_vendor: "QEMU" }, files: {} };
    const named = await openPvbus({ sysroot, snapshot });
    expect(named.primary?.type).to.equal("QEMU");
    expect(named.primary?.capabilities.read).to.equal(true);
    await named.close();
  });

  for (const channel of [
    "",
    "unix:",
    "file:/x",
    "vsock:1",
    "vsock:1:x",
    "vsock:4294967296:1",
    "vsock:1:2:3",
    "unix",
  ]) {
    it(`refuses the channel "${channel}" and names the forms`, async () => {
      const error = await openPvbus({ sysroot, interfaces: [{ type: "KVM", channel }] }).catch(
        (error) => error,
      );
      expect(PvbusError.is(error) && error.code).to.equal("ERR_NOT_SUPPORTED");
      expect(error.message).to.include("vsock:CID:PORT");
    });
  }

  it("says which ports there are when a named one is not", async () => {
    addFiles(sysroot, { "sys/class/virtio-ports/vport1p1/name": "org.qemu.guest_agent.0\n" });
    const bus = await openPvbus({
      sysroot,
      interfaces: [{ type: "KVM", channel: "port:org.pvbus.mdata.0" }],
    });
    try {
      const error = await rejects(bus.byType("KVM")?.read("meta/k") as Promise<unknown>, "ERR_UNAVAILABLE");
      expect(error.message).to.include("it has: org.qemu.guest_agent.0");
    } finally {
      await bus.close();
    }
  });
});
