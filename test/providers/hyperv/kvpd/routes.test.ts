import { expect } from "chai";
import { ipv4Gateways, ipv6Gateways, netstatGateways } from "../../../../providers/hyperv/kvpd/ip-service.js";

const HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";

describe("default gateways", () => {
  it("of IPv4 are those of the interface itself that are up", () => {
    const text = [
      HEAD,
      "eth1\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
      "eth10\t00000000\t0202A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
      "eth1\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0",
      "eth1\t00000000\t0302A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0",
      "eth1\t00000000\tbroken\t0003\t0\t0\t100\t00000000\t0\t0\t0",
      "eth1\t00000000\t00000000\t0001\t0\t0\t100\t00000000\t0\t0\t0",
      "garbage",
      "",
    ].join("\n");
    expect(ipv4Gateways(text, "eth1")).to.deep.equal(["192.168.2.1"]);
    expect(ipv4Gateways("", "eth1")).to.deep.equal([]);
  });

  it("of IPv6 are written short", () => {
    const zeros = "0".repeat(32);
    const text = [
      `${zeros} 00 ${zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1`,
      `${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo`,
      `fd000000000000000000000000000000 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001     eth1`,
      "garbage",
    ].join("\n");
    expect(ipv6Gateways(text, "eth1")).to.deep.equal(["fe80::1"]);
    expect(ipv6Gateways(text, "lo")).to.deep.equal([]);
  });

  it("of FreeBSD come from netstat, without a zone", () => {
    const text = [
      "Routing tables",
      "",
      "Internet:",
      "Destination        Gateway            Flags     Netif Expire",
      "default            10.0.0.1           UGS         hn0",
      "default            10.0.1.1           UGS        hn01",
      "10.0.0.0/24        link#1             U           hn0",
      "Internet6:",
      "default            fe80::1%hn0        UGS         hn0",
      "default            link#2             UGS         hn0",
    ].join("\n");
    expect(netstatGateways(text, "hn0")).to.deep.equal(["10.0.0.1", "fe80::1"]);
  });
});
