import { expect } from "chai";
import { smartosNetwork } from "../../../src/tools/userdata/smartos-network.js";
import { cloudInit } from "../../support/cloud-init.js";
import { run } from "../../support/command-line.js";
import { KvmMachine } from "../../support/kvm-store.js";
import { pending } from "../../support/pending.js";

interface Nic {
  readonly interface: string;
  readonly ips?: readonly string[];
  readonly [key: string]: unknown;
}

const NICS: readonly Nic[] = [
  {
    interface: "net0",
    mac: "90:b8:d0:f5:e4:f5",
    mtu: 1500,
    vlan_id: 3,
    nic_tag: "external",
    primary: true,
    ips: ["203.0.113.5/24", "203.0.113.6/24", "2001:db8::5/64"],
    gateways: ["203.0.113.1", "2001:db8::1"],
    netmask: "255.255.255.0",
  },
  { interface: "net1", mac: "90:b8:d0:a5:ff:cd", ips: ["dhcp", "addrconf"], gateways: ["192.0.2.1"] },
  { interface: "net2", ips: ["198.51.100.2/26"], gateways: ["198.51.100.1"], metric: 7, scope: "link" },
  { interface: "net3" },
];
const ROUTES: readonly object[] = [
  { linklocal: false, dst: "198.18.0.0/15", gateway: "203.0.113.9" },
  { dst: "2001:db8:1::/48", gateway: "2001:db8::9" },
];
interface Case {
  readonly nics: readonly Nic[];
  readonly resolvers: unknown;
  readonly routes: readonly object[];
  readonly domain: string | undefined;
}

const CASES: readonly Case[] = [
  { nics: NICS, resolvers: ["203.0.113.53", "2001:db8::53"], routes: ROUTES, domain: "example.org" },
  { nics: NICS, resolvers: [], routes: [], domain: undefined },
  { nics: [], resolvers: ["203.0.113.53"], routes: ROUTES, domain: undefined },
  { nics: NICS.slice(2), resolvers: "203.0.113.53", routes: ROUTES.slice(1), domain: "" },
];
const CONVERT = `import json, sys
from cloudinit.sources.DataSourceSmartOS import convert_smartos_network_data
print(json.dumps([convert_smartos_network_data(
    network_data=case["nics"], dns_servers=case["resolvers"], dns_domain=case.get("domain"), routes=case["routes"])
    for case in json.loads(sys.argv[1])]))`;

const withoutAddrconf = (nic: Nic): Nic =>
  nic.ips === undefined ? nic : { ...nic, ips: nic.ips.filter((ip) => ip !== "addrconf") };

const ours = ({ nics, resolvers, routes, domain }: Case): unknown => {
  const text = {
    nics: JSON.stringify(nics),
    resolvers: JSON.stringify(resolvers),
    routes: JSON.stringify(routes),
  };
  return JSON.parse(Buffer.from(smartosNetwork({ ...text, domain })).toString());
};

describe("SmartOS' network", () => {
  for (const suite of ["bookworm", "trixie"] as const)
    it(`is what cloud-init of ${suite} makes of it`, async function () {
      this.timeout(60_000);
      const subject = cloudInit(suite);
      if ("why" in subject) return pending(this, subject.why);
      // cloud-init 22 takes "addrconf" for an address.
      const cases =
        suite === "trixie" ? CASES : CASES.map((each) => ({ ...each, nics: each.nics.map(withoutAddrconf) }));
      expect(cases.map(ours)).to.deep.equal(await subject.run(CONVERT, [JSON.stringify(cases)]));
    });

  for (const [what, nics] of Object.entries({
    "no JSON": "[{",
    "no array": "{}",
    "a number": "[1]",
    "an array within": "[[]]",
    "no name": '[{"ips":[]}]',
    "addresses that are no texts": '[{"interface":"net0","ips":[1]}]',
    "addresses that are no list": '[{"interface":"net0","ips":"dhcp"}]',
    "gateways that are no texts": '[{"interface":"net0","gateways":[{}]}]',
  }))
    it(`with ${what} is refused`, () => {
      expect(() => smartosNetwork({ nics }))
        .to.throw("sdc:nics")
        .with.property("code", "ERR_VALUE_INVALID");
    });

  it("with a name of an object's own is a name like any other", () => {
    const nics = '[{"interface":"__proto__","__proto__":{"metric":1},"ips":["192.0.2.1/24"]}]';
    expect(Buffer.from(smartosNetwork({ nics })).toString())
      .to.contain('"__proto__"')
      .and.not.contain("metric");
  });

  it("is found by `userdata get network-config`", async () => {
    const machine = await KvmMachine.start();
    try {
      machine.host.set("sdc:nics", JSON.stringify(NICS));
      machine.host.set("sdc:resolvers", '["203.0.113.53"]');
      machine.host.set("sdc:dns_domain", "example.org\n");
      const args = ["--sysroot", machine.sysroot, "-t", "KVM", "--channel", "unix:/meta.sock"];
      const { code, stdout } = await run(["userdata", "get", "network-config", ...args]);
      expect(code).to.equal(0);
      expect(JSON.parse(stdout)).to.deep.equal(
        ours({ nics: NICS, resolvers: ["203.0.113.53"], routes: [], domain: "example.org" }),
      );
    } finally {
      await machine.end();
    }
  });
});
