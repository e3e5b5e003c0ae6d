import { expect } from "chai";
import {
  addressLists,
  belongsTo,
  dottedMask,
  expandIpv6,
  joinList,
  parseIpSettings,
} from "../../../../providers/hyperv/kvpd/ip-settings.js";
import { EMPTY_IP_INFO, type KvpIpInfo } from "../../../../providers/hyperv/protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../../../../providers/hyperv/protocol/status.js";
import type { InterfaceAddress } from "../../../../src/native/posix/interface-addresses.js";

const info = (fields: Partial<KvpIpInfo>): KvpIpInfo => ({
  ...EMPTY_IP_INFO,
  ...fields,
});
const at = (
  name: string,
  family: 4 | 6,
  address: string,
  prefix: number,
  loopback = false,
): InterfaceAddress => ({
  name,
  family,
  address,
  prefix,
  loopback,
});

describe("IP lists of the host", () => {
  it("pairs addresses with masks, blanks in front and a last separator aside", () => {
    const settings = parseIpSettings(
      info({ ipAddresses: " 10.0.0.5;\t10.0.1.5; fd00::5;fd00::6;", subnets: "255.255.255.0; 16;64;/64;" }),
    );
    expect(
      settings.addresses.map(({ address, prefix, mask }) => `${address} ${prefix} ${mask}`),
    ).to.deep.equal(["10.0.0.5 24 255.255.255.0", "10.0.1.5 16 16", "fd00::5 64 64", "fd00::6 64 /64"]);
    expect(settings.dhcp).to.equal(false);
  });

  it("keeps gateways and name servers of both families in order", () => {
    const settings = parseIpSettings(
      info({ dhcpEnabled: 1, gateways: "10.0.0.1;fd00::1;", dnsServers: "fd00::53;10.0.0.2" }),
    );
    expect(settings.dhcp).to.equal(true);
    expect(settings.gateways.map(({ address }) => address)).to.deep.equal(["10.0.0.1", "fd00::1"]);
    expect(settings.dns.map(({ family }) => family)).to.deep.equal([6, 4]);
  });

  for (const [why, fields] of [
    ["no address", { ipAddresses: "ten", subnets: "8" }],
    ["an address with a zone", { ipAddresses: "fe80::1%eth0", subnets: "64" }],
    ["a newline", { ipAddresses: "10.0.0.5\nONBOOT=no", subnets: "8" }],
    ["a shell's words", { gateways: "$(reboot)" }],
    ["an entry of 300 bytes", { dnsServers: "A".repeat(300) }],
    ["an empty entry in between", { dnsServers: "10.0.0.1;;10.0.0.2" }],
    ["a blank behind", { dnsServers: "10.0.0.1 " }],
    ["an address without a mask", { ipAddresses: "10.0.0.5;10.0.0.6", subnets: "8" }],
    ["more masks than addresses", { ipAddresses: "10.0.0.5", subnets: "8;8" }],
    ["a mask with a hole", { ipAddresses: "10.0.0.5", subnets: "255.0.255.0" }],
    ["a mask beyond the family", { ipAddresses: "10.0.0.5", subnets: "33" }],
    ["a mask of the other family", { ipAddresses: "fd00::5", subnets: "255.255.0.0" }],
    ["a mask that is no number", { ipAddresses: "fd00::5", subnets: "/6x" }],
  ] as const) {
    it(`refuses ${why}`, () => {
      expect(() => parseIpSettings(info(fields)))
        .to.throw(KvpStatusError)
        .with.property("status", KvpStatus.invalidArgument);
    });
  }

  it("writes masks and addresses out", () => {
    expect([0, 1, 8, 23, 32].map(dottedMask)).to.deep.equal([
      "0.0.0.0",
      "128.0.0.0",
      "255.0.0.0",
      "255.255.254.0",
      "255.255.255.255",
    ]);
    for (const [short, long] of [
      ["::", "0000:0000:0000:0000:0000:0000:0000:0000"],
      ["::1", "0000:0000:0000:0000:0000:0000:0000:0001"],
      ["FD00::5", "fd00:0000:0000:0000:0000:0000:0000:0005"],
      ["1:2:3:4:5:6:7:8", "0001:0002:0003:0004:0005:0006:0007:0008"],
      ["1::", "0001:0000:0000:0000:0000:0000:0000:0000"],
      ["::ffff:10.0.0.5", "0000:0000:0000:0000:0000:ffff:0a00:0005"],
    ] as const) {
      expect(expandIpv6(short)).to.equal(long);
    }
  });

  it("joins whole entries only, as many as the field delivers", () => {
    expect(joinList(["a", "b"], 3, "")).to.equal("a;b");
    expect(joinList(["a", "b"], 2, "")).to.equal("a");
    expect(joinList(["a", "b"], 4, ";")).to.equal("a;b;");
    expect(joinList(["a", "b"], 3, ";")).to.equal("a;");
    expect(joinList([], 3, ";")).to.equal("");
  });

  it("gives as many masks as addresses, IPv4 first", () => {
    const list = [at("e", 6, "fe80::1", 64), at("e", 4, "10.0.0.5", 24)];
    expect(addressLists(list, "")).to.deep.equal({
      addressFamily: 3,
      ipAddresses: "10.0.0.5;fe80::1",
      subnets: "255.255.255.0;/64",
    });
    expect(addressLists(list, ";")).to.include({
      ipAddresses: "10.0.0.5;fe80::1;",
      subnets: "255.255.255.0;/64;",
    });
    expect(addressLists([], "")).to.deep.equal({ addressFamily: 0, ipAddresses: "", subnets: "" });
    const many = Array.from({ length: 60 }, (_, n) =>
      at("e", 6, `fd00:1111:2222:3333:4444:5555:6666:${n + 1000}`, 64),
    );
    const lists = addressLists(many, "");
    expect(lists.ipAddresses.length).to.be.lessThan(1024);
    expect(lists.subnets.split(";").length).to.equal(lists.ipAddresses.split(";").length);
  });

  it("takes a label for its interface, but not a longer name", () => {
    expect(belongsTo(at("eth1:2", 4, "10.0.0.1", 8), "eth1")).to.equal(true);
    expect(belongsTo(at("eth10", 4, "10.0.0.1", 8), "eth1")).to.equal(false);
    expect(belongsTo(at("eth1", 4, "127.0.0.1", 8, true), "eth1")).to.equal(false);
  });
});
