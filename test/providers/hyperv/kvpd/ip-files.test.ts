import { expect } from "chai";
import {
  freebsdText,
  type IpSettings,
  ifcfgText,
  keyfileText,
  parseIpSettings,
} from "../../../../providers/hyperv/kvpd/ip-settings.js";
import { fixture } from "../../../support/pools.js";

const target = { name: "eth0", mac: "02:FC:00:00:00:01" };

function settings(
  ipAddresses: string,
  subnets: string,
  rest: { gateways?: string; dnsServers?: string; dhcpEnabled?: number },
): IpSettings {
  return parseIpSettings({
    adapterId: "",
    addressFamily: 0,
    dhcpEnabled: 0,
    gateways: "",
    dnsServers: "",
    ipAddresses,
    subnets,
    ...rest,
  });
}

const CASES: readonly (readonly [string, IpSettings])[] = [
  [
    "static4",
    settings("10.0.0.5", "255.255.255.0", { gateways: "10.0.0.1", dnsServers: "10.0.0.2;10.0.0.3" }),
  ],
  [
    "multi",
    settings("10.0.0.5;10.0.1.5;fd00::5;fd00::6", "255.255.255.0;255.255.0.0;64;/64", {
      gateways: "10.0.0.1;fd00::1",
      dnsServers: "10.0.0.2;fd00::53",
    }),
  ],
  ["dhcp", settings("", "", { dhcpEnabled: 1 })],
  ["dhcpv6", settings("fd00::5", "64", { dhcpEnabled: 1 })],
];

describe("files of SET_IP_INFO", () => {
  for (const [name, given] of CASES) {
    it(`are the genuine daemon's, ${name}`, () => {
      expect(ifcfgText(target, given)).to.equal(fixture(`setip_${name}.ifcfg`).toString());
      // The vendor's daemon reads the form /64 as the prefix 0.
      const genuine = fixture(`setip_${name}.nmconnection`).toString().replace("fd00::6/0", "fd00::6/64");
      expect(keyfileText(target, given)).to.equal(genuine);
    });
  }

  it("have IPv4 disabled without address and DHCP", () => {
    const text = keyfileText(target, settings("fd00::5", "/56", {}));
    expect(text).to.include("[ipv4]\nmethod=disabled\n").and.include("address1=fd00::5/56\nmethod=manual\n");
  });

  it("have FreeBSD's names and terminated lists", () => {
    const text = freebsdText({ name: "hn0", mac: "02:FC:00:00:00:01" }, (CASES[1] as (typeof CASES)[0])[1]);
    expect(text.split("\n")).to.deep.equal([
      "HWADDR=02:FC:00:00:00:01",
      "IF_NAME=hn0",
      "IP_ADDR=10.0.0.5;10.0.1.5;fd00::5;fd00::6;",
      "SUBNET=255.255.255.0;255.255.0.0;64;/64;",
      "GATEWAY=10.0.0.1;fd00::1;",
      "DNS=10.0.0.2;fd00::53;",
      "DHCP=0",
      "",
    ]);
  });
});
