import { gzipSync } from "node:zlib";
import { expect } from "chai";
import { VmxHost, type VmxHostOptions } from "../../../providers/testing.js";
import { VmwareProvider, type VmwareStore, WELL_KNOWN_KEYS } from "../../../providers/vmware/index.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, openPvbus } from "../../../src/index.js";
import { rejects } from "../../support/rejects.js";
import { backdoorStore, SimulatedVmx } from "../../support/vmware.js";

const call = (timeoutMs = 5000): Call => new Call({ timeoutMs });
const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();

function storeOn(options: VmxHostOptions = {}, settings = {}): { host: VmxHost; store: VmwareStore } {
  const host = new VmxHost(options);
  return { host, store: backdoorStore(host, {}, settings).store };
}

const OVF = `<?xml version="1.0" encoding="UTF-8"?>
<e:Environment xmlns:e="http://schemas.dmtf.org/ovf/environment/1" xmlns:v="http://www.vmware.com/schema/ovfenv"
    xmlns="http://schemas.dmtf.org/ovf/environment/1" e:id="web" v:vCenterId="vm-42">
  <PlatformSection><Kind>VMware ESXi</Kind><Version>8.0.2</Version><Vendor>VMware, Inc.</Vendor><Locale>de</Locale></PlatformSection>
  <e:PropertySection>
    <Property e:key="hostname" e:value="grüß&amp;€"/>
    <Property e:key="lines" e:value="a&#10;b"/>
    <Property key="no namespace" e:value="x" e:key="quoted &quot;"/>
  </e:PropertySection>
  <v:EthernetAdapterSection><v:Adapter v:mac="00:50:56:01:02:03" v:network="VM Network" v:unitNumber="7"/></v:EthernetAdapterSection>
  <Entity e:id="db"><PropertySection><Property e:key="role" e:value="db"/></PropertySection></Entity>
</e:Environment>`;

describe("VMware guestinfo store", () => {
  it("reads what the host set, whatever the case of the key", async () => {
    const { store } = storeOn({ variables: { "guestinfo.Name": "grüß€\n" } });
    expect(text(await store.read("GuestInfo.NAME", call()))).to.equal("grüß€\n");
    expect(await store.read("guestinfo.other", call())).to.equal(undefined);
  });

  it("reads bytes behind a NUL, which VMware's own tools lose", async () => {
    const { store } = storeOn({ variables: { "guestinfo.blob": Buffer.from("a\0b\n") } });
    expect(text(await store.read("guestinfo.blob", call()))).to.equal("a\0b\n");
  });

  it("tells not found, denied, switched off and unknown apart", async () => {
    const denied = storeOn({ privilegedCommands: ["info-get"] });
    await rejects(denied.store.read("guestinfo.a", call()), "ERR_PERMISSION");
    const off = storeOn({ setInfoDisabled: true });
    const error = await rejects(off.store.write("guestinfo.a", Buffer.from("v"), call()), "ERR_PERMISSION");
    expect(error.message).to.include("switched it off");
    expect(await off.store.read("guestinfo.a", call())).to.equal(undefined);
    const full = storeOn({ sizeLimit: 100 });
    const refused = await rejects(
      full.store.write("guestinfo.a", Buffer.alloc(101, "v"), call()),
      "ERR_PERMISSION",
    );
    expect(refused.message).to.include('"Size limit exceeded"');
  });

  it("verifies what it wrote when it is told to", async () => {
    const { host, store } = storeOn({}, { verify: true });
    await store.write("guestinfo.a", Buffer.from("value"), call());
    host.set = () => undefined;
    await rejects(store.write("guestinfo.a", Buffer.from("another"), call()), "ERR_CONFLICT");
  });

  describe("clear", () => {
    for (const [emptyValue, outcome, left] of [
      ["remove", "removed", undefined],
      ["keep", "emptied", ""],
      ["refuse", "blanked", " "],
    ] as const) {
      it(`is honest where an empty value is taken so: ${emptyValue}`, async () => {
        const { host, store } = storeOn({ emptyValue, variables: { "guestinfo.secret": "s" } });
        expect(await store.clear("guestinfo.secret", call())).to.equal(outcome);
        expect(text(host.get("guestinfo.secret"))).to.equal(left);
      });
    }
  });

  describe("erase", () => {
    for (const [emptyValue, outcome] of [
      ["remove", "host"],
      ["keep", "overwritten"],
      ["refuse", "overwritten"],
    ] as const) {
      it(`says what became of the value where an empty one is taken so: ${emptyValue}`, async () => {
        const { host, store } = storeOn({ emptyValue, variables: { "guestinfo.secret": "s" } });
        await rejects(store.erase("guestinfo.secret", call(), Buffer.from("older")), "ERR_CONFLICT");
        expect(await store.erase("guestinfo.secret", call(), Buffer.from("s"))).to.equal(outcome);
        expect(text(host.get("guestinfo.secret"))).to.not.equal("s");
      });
    }

    it("leaves a key with a slash, which is the host's", async () => {
      const { host, store } = storeOn({ variables: { "guestinfo./host": "theirs" } });
      expect(await store.erase("guestinfo./host", call())).to.equal("no");
      expect(text(host.get("guestinfo./host"))).to.equal("theirs");
    });
  });

  it("finds the well-known keys that are there, and claims no more", async () => {
    const { store } = storeOn({
      variables: { "guestinfo.ip": "192.0.2.7", "guestinfo.secret": "x", "guestinfo.metadata": "m" },
    });
    const found: string[] = [];
    for await (const { key } of store.known("", call())) found.push(key);
    expect(found).to.deep.equal(["guestinfo.metadata", "guestinfo.ip"]);
    expect(store.capabilities.list).to.equal(false);
    expect(new Set(WELL_KNOWN_KEYS.map((key) => key.toLowerCase())).size).to.equal(WELL_KNOWN_KEYS.length);
  });

  describe("encoded values", () => {
    it("are unpacked as cloud-init and Ignition pack them", async () => {
      const userdata = Buffer.from("#cloud-config\npackages: [grüß€]\n");
      const packed = gzipSync(userdata).toString("base64");
      const cases: readonly (readonly [string | undefined, string])[] = [
        [undefined, userdata.toString()],
        ["", userdata.toString()],
        ["plain", userdata.toString()],
        ["base64", userdata.toString("base64")],
        ["b64", userdata.toString("base64").replace(/(.{20})/g, "$1\r\n")],
        ["gzip+base64", packed],
        ["gz+b64", packed],
        ["GZIP+BASE64 \n", packed],
      ];
      for (const [encoding, stored] of cases) {
        const { host, store } = storeOn({ variables: { "guestinfo.userdata": stored } });
        if (encoding !== undefined) host.set("guestinfo.userdata.encoding", encoding);
        expect(text((await store.cloudInit(call())).userdata), encoding).to.equal(userdata.toString());
      }
    });

    it("are refused when they are not what they are said to be, or a bomb", async () => {
      const bomb = gzipSync(Buffer.alloc(65 * 1024 * 1024)).toString("base64");
      for (const [encoding, stored] of [
        ["base64", "not base64!"],
        ["base64", "abcde"],
        ["gz+base64", Buffer.from("no gzip").toString("base64")],
        ["gz+base64", "%%%"],
        ["gzip+b64", bomb],
      ] as const) {
        const { host, store } = storeOn({ variables: { "guestinfo.metadata.encoding": encoding } });
        host.set("guestinfo.metadata", stored);
        await rejects(store.cloudInit(call()), "ERR_CORRUPT");
      }
    });
  });

  describe("OVF environment", () => {
    it("is read by namespace, whatever the prefixes", async () => {
      const { store } = storeOn({ variables: { "guestinfo.ovfEnv": OVF } });
      const environment = await store.ovfEnvironment(call());
      expect(environment).to.deep.include({
        id: "web",
        vCenterId: "vm-42",
        platform: { kind: "VMware ESXi", version: "8.0.2", vendor: "VMware, Inc.", locale: "de" },
        adapters: [{ mac: "00:50:56:01:02:03", network: "VM Network", unitNumber: "7" }],
      });
      expect([...(environment?.properties ?? [])]).to.deep.equal([
        ["hostname", "grüß&€"],
        ["lines", "a\nb"],
        ['quoted "', "x"],
      ]);
      expect([...(environment?.entities.get("db") ?? [])]).to.deep.equal([["role", "db"]]);
      const { vmId, other } = await store.facts(call());
      expect(vmId).to.equal("vm-42");
      expect(other).to.deep.include({ "ovf.id": "web", "ovf.kind": "VMware ESXi" });
      expect(JSON.stringify(other)).not.to.include("grüß");
    });

    it("is undefined where there is none", async () => {
      expect(await storeOn().store.ovfEnvironment(call())).to.equal(undefined);
      expect(await storeOn().store.facts(call())).to.deep.equal({});
    });

    it("is refused when it is no such document, or brings entities of its own", async () => {
      const laughs = `<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>${OVF.replace(/^<\?.*\n/, "")}`;
      const documents = [
        "no xml",
        "<a>",
        "<Environment/>",
        "<a/><b/>",
        laughs,
        OVF.replace("</e:Environment>", ""),
      ];
      for (const document of documents) {
        const { store } = storeOn({ variables: { "guestinfo.ovfEnv": document } });
        await rejects(store.ovfEnvironment(call()), "ERR_CORRUPT");
      }
    });
  });

  it("watches a key and the well-known ones below a prefix, ever more seldom", async () => {
    const { host, store } = storeOn({}, { pollMs: 2, longestPollMs: 10 });
    const user = new AbortController();
    const seen: string[] = [];
    const during = new Call({ signal: user.signal, timeoutMs: Number.POSITIVE_INFINITY });
    const hooks = { ready: () => host.set("guestinfo.metadata", "1") };
    for await (const { key, value } of store.watch("guestinfo.meta", during, hooks)) {
      seen.push(`${key}=${text(value)}`);
      if (seen.length === 1) host.set("guestinfo.meta", "own");
      if (seen.length === 2) host.set("guestinfo.metadata", undefined);
      if (seen.length === 3) user.abort();
    }
    expect(seen).to.deep.equal([
      "guestinfo.metadata=1",
      "guestinfo.meta=own",
      "guestinfo.metadata=undefined",
    ]);
    const bad = store.watch("machine.id", call(), { ready: () => undefined });
    await rejects(bad.next(), "ERR_KEY_INVALID");
  });

  it("gives the host any command, and its refusal as an answer", async () => {
    const { store } = storeOn();
    expect(await store.rpc("tools.none", "", call())).to.deep.equal({
      accepted: false,
      words: "Unknown command",
    });
    expect(await store.rpc("log", "a line", call())).to.have.property("accepted", true);
  });

  it("serves the public API over a named channel, with portable keys of any length", async () => {
    await using vmx = await SimulatedVmx.start();
    await using bus = await openPvbus({ interfaces: [{ type: "vmware", channel: vmx.channel }] });
    const long = "0123456789".repeat(10_000);
    const agent = bus.portable("com.example.agent");
    await agent.publish("state", long);
    expect(await agent.published("state")).to.equal(long);
    expect(text(vmx.host.get("guestinfo.com.example.agent.state"))).to.match(/^pvbus-set-1 a 4 100000 /);
    vmx.host.set("guestinfo.com.example.agent.config", "from the host");
    expect(await agent.get("config")).to.equal("from the host");
    const store = await bus.primary?.store<VmwareStore>();
    expect(store?.over).to.equal(vmx.channel);
  });

  it("rejects settings that it does not have", () => {
    const provider = new VmwareProvider(nodeHost());
    for (const options of [
      { transprot: "vsock" },
      { transport: "carrier pigeon" },
      { privilege: true },
      { verify: "yes" },
      { pollMs: 0 },
      { dataset: "" },
    ])
      expect(() => provider.capabilities({ options }), JSON.stringify(options)).to.throw(TypeError);
    expect(provider.capabilities({ options: { dataset: "x" } }).list).to.equal(true);
  });
});
