import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { EMPTY_IP_INFO, type KvpIpInfo } from "../../../../providers/hyperv/protocol/messages.js";
import { KvpDeviceSimulator } from "../../../../providers/hyperv/testing/kvp-device/simulator.js";
import { startAgent, type Who, whyNoAgent } from "../../../support/kvp-agents.js";
import { pending } from "../../../support/pending.js";

const GUID = "{c3e1e5c0-0000-0000-0000-000000000001}";

/** A network of its own: two adapters whose names begin alike, labels, both families, gateways. */
const NETWORK = [
  "ip link add eth1 address 02:fc:00:00:00:01 type veth peer name eth10 address 02:fc:00:00:00:10",
  "ip link add eth2 address 02:fc:00:00:00:02 type veth peer name eth3 address 02:fc:00:00:00:03",
  "for each in eth1 eth10 eth2 eth3; do ip link set $each addrgenmode none up; done",
  "ip addr add 10.0.0.5/24 dev eth1",
  "ip addr add 10.0.1.5/16 dev eth1 label eth1:7",
  "ip addr add fd00::5/64 dev eth1 nodad",
  "ip addr add fe80::5/64 dev eth1 nodad",
  "ip addr add 10.9.9.9/8 dev eth10",
  "ip addr add fd00:9::9/56 dev eth2 nodad",
  "ip route add default via 10.0.0.1 dev eth1",
  "ip -6 route add default via fe80::1 dev eth1",
  "mount -t sysfs sysfs /sys",
].join(" && ");

async function answers(who: Who, prelude: string, macs: readonly string[]): Promise<KvpIpInfo[]> {
  await using simulator = await KvpDeviceSimulator.start();
  await startAgent(simulator, who, [], prelude);
  const all: KvpIpInfo[] = [];
  for (const mac of macs) all.push((await simulator.getIpInfo(mac)).info);
  // The addresses in the Auto pool come from the same network.
  const auto = [await simulator.enumerate(2, 2), await simulator.enumerate(2, 3)];
  for (const pair of auto)
    all.push({ ...EMPTY_IP_INFO, adapterId: pair?.key ?? "", ipAddresses: pair?.value ?? "" });
  return all;
}

describe("IP settings beside the vendor's daemon", function () {
  this.timeout(60_000);
  let scratch: string;

  before(function () {
    const network = spawnSync("unshare", ["-n", "--mount", "sh", "-c", NETWORK], { encoding: "utf8" });
    const why =
      whyNoAgent("vendor") ?? (network.status === 0 ? undefined : `no network of its own: ${network.stderr}`);
    if (why === undefined) return;
    return pending(this, why);
  });
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), "pvbus-ip-"));
  });
  afterEach(() => rmSync(scratch, { recursive: true }));

  it("are read alike, but that eth1 has not eth10's", async () => {
    const macs = ["02:FC:00:00:00:01", "02:FC:00:00:00:10", "02:FC:00:00:00:02", "02:FC:00:00:00:03"];
    const [vendor, ours] = [await answers("vendor", NETWORK, macs), await answers("ours", NETWORK, macs)];
    expect(ours[0]).to.deep.include({
      adapterId: macs[0],
      addressFamily: 3,
      ipAddresses: "10.0.0.5;10.0.1.5;fd00::5;fe80::5",
      subnets: "255.255.255.0;255.255.0.0;/64;/64",
      gateways: "10.0.0.1;fe80::1;",
    });
    expect(vendor[0]?.ipAddresses.split(";")).to.include("10.9.9.9");
    expect({ ...vendor[0], ipAddresses: "", subnets: "" }).to.deep.equal({
      ...ours[0],
      ipAddresses: "",
      subnets: "",
    });
    expect(ours.slice(1)).to.deep.equal(vendor.slice(1));
  });

  for (const [name, settings] of Object.entries({
    static: {
      ipAddresses: "10.0.0.7",
      subnets: "255.255.255.0",
      gateways: "10.0.0.1",
      dnsServers: "10.0.0.2;10.0.0.3",
    },
    both: {
      ipAddresses: "10.0.0.5;10.0.1.5;fd00::5;fd00::6",
      subnets: "255.255.255.0;255.255.0.0;64;48",
      gateways: "10.0.0.1;fd00::1",
      dnsServers: "10.0.0.2;fd00::53;",
    },
    dhcp: { dhcpEnabled: 1 },
    blanks: {
      ipAddresses: " 10.0.0.7; 10.0.0.8",
      subnets: " 255.255.255.0; 255.255.0.0",
      dnsServers: " 10.0.0.2",
    },
  })) {
    it(`are set alike: ${name}`, async () => {
      const adapter = join(scratch, "net/eth0");
      mkdirSync(join(adapter, "device"), { recursive: true });
      writeFileSync(join(adapter, "address"), "02:fc:00:00:00:01\n");
      writeFileSync(join(adapter, "device/device_id"), `${GUID}\n`);
      const script = join(scratch, "scripts/hv_set_ifconfig");
      mkdirSync(join(scratch, "scripts"));
      writeFileSync(script, `#!/bin/sh\necho "$@" > ${scratch}/arguments\ncat "$1" > ${scratch}/ifcfg\n`);
      chmodSync(script, 0o755);
      const prelude = [
        `mount --bind ${scratch}/net /sys/class/net`,
        `mount --bind ${scratch}/scripts /usr/libexec/hypervkvpd`,
      ].join(" && ");
      const outcomes: string[][] = [];
      for (const who of ["vendor", "ours"] as const) {
        await using simulator = await KvpDeviceSimulator.start();
        await startAgent(simulator, who, [], prelude);
        const status = await simulator.setIpInfo({ ...EMPTY_IP_INFO, adapterId: GUID, ...settings });
        const text = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8") : "");
        const [first = ""] = text(`${scratch}/arguments`).trim().split(" ");
        outcomes.push([String(status), first, text(`${scratch}/ifcfg`)]);
        for (const file of ["arguments", "ifcfg"]) rmSync(join(scratch, file), { force: true });
      }
      expect(outcomes[1]).to.deep.equal(outcomes[0]);
      expect(outcomes[1]?.[0]).to.equal("0");
    });
  }
});
