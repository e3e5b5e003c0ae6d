import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { AutoPool, type AutoSources, parseOsRelease } from "../../../../providers/hyperv/kvpd/auto-pool.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import type { InterfaceAddress } from "../../../../src/native/posix/interface-addresses.js";

const at = (family: 4 | 6, address: string, loopback = false): InterfaceAddress => ({
  name: loopback ? "lo" : "eth0",
  family,
  address,
  prefix: 8,
  loopback,
});

const SOURCES: AutoSources = {
  addresses: () => [
    at(4, "127.0.0.1", true),
    at(4, "10.0.0.5"),
    at(4, "10.0.0.6"),
    at(6, "::1", true),
    at(6, "fe80::1"),
  ],
  uname: () => ({ hostname: "web", release: "6.1.0-18-amd64", sysname: "Linux", machine: "x86_64" }),
  run: async () => ({
    ok: true,
    stdout: "10.0.0.5       STREAM web.example.org\n10.0.0.5  DGRAM\n",
    why: "",
  }),
};

function entries(pool: AutoPool): [string, string][] {
  const all: [string, string][] = [];
  for (let position = 0; ; position++) {
    const entry = pool.entry(position);
    if (entry === undefined) return all;
    all.push([entry.key, entry.value]);
  }
}

describe("Auto pool", () => {
  let sysroot: string;
  const host = (platform: NodeJS.Platform = "linux") => nodeHost({ sysroot, platform, env: {} });
  beforeEach(() => {
    sysroot = mkdtempSync(join(tmpdir(), "pvbus-auto-"));
    mkdirSync(join(sysroot, "etc"));
  });
  afterEach(() => rmSync(sysroot, { recursive: true }));

  it("has Linux's ten keys in order, in their formats", async () => {
    writeFileSync(join(sysroot, "etc/os-release"), 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\n');
    const pool = new AutoPool(host(), SOURCES);
    await pool.prepare(new AbortController().signal);
    pool.setIntegrationServicesVersion("3.1");
    expect(entries(pool)).to.deep.equal([
      ["FullyQualifiedDomainName", "web.example.org"],
      ["IntegrationServicesVersion", "3.1"],
      ["NetworkAddressIPv4", "10.0.0.5;10.0.0.6"],
      ["NetworkAddressIPv6", "fe80::1"],
      ["OSBuildNumber", "6.1.0-18-amd64"],
      ["OSName", "Debian GNU/Linux"],
      ["OSMajorVersion", "12"],
      ["OSMinorVersion", ""],
      ["OSVersion", "6.1.0"],
      ["ProcessorArchitecture", "x86_64"],
    ]);
    expect(pool.entry(-1)).to.equal(undefined);
    expect(pool.entry(0x7fffffff)).to.equal(undefined);
  });

  it("has FreeBSD's forms: loopback too, lists terminated", async () => {
    const run: AutoSources["run"] = async (_program, args) => ({
      ok: args[0] === "hosts",
      stdout: "10.0.0.5          web.example.org web\n",
      why: "",
    });
    const uname = () => ({
      hostname: "web",
      release: "14.1-RELEASE-p3",
      sysname: "FreeBSD",
      machine: "amd64",
    });
    const pool = new AutoPool(host("freebsd"), { ...SOURCES, run, uname });
    await pool.prepare(new AbortController().signal);
    const values = Object.fromEntries(entries(pool));
    expect(Object.keys(values)).to.have.length(10);
    expect(values).to.include({
      FullyQualifiedDomainName: "web.example.org",
      NetworkAddressIPv4: "127.0.0.1;10.0.0.5;10.0.0.6;",
      NetworkAddressIPv6: "::1;fe80::1;",
      OSBuildNumber: "14.1",
      OSVersion: "14.1",
      OSName: "FreeBSD",
      OSMajorVersion: "",
    });
  });

  it("has the host name until the name service has answered, and says when it fails", async () => {
    const pool = new AutoPool(host(), { ...SOURCES, run: async () => ({ ok: false, stdout: "", why: "" }) });
    expect(pool.entry(0)?.value).to.equal("web");
    await pool.prepare(new AbortController().signal);
    expect(pool.entry(0)?.value).to.equal("getaddrinfo failed: 0xfffffffe Name or service not known");
  });

  it("sees addresses that come and go, and lists no more than the host gets", () => {
    let addresses: InterfaceAddress[] = [];
    const pool = new AutoPool(host(), { ...SOURCES, addresses: () => addresses });
    expect(pool.entry(2)?.value).to.equal("");
    addresses = Array.from({ length: 200 }, (_, n) => at(4, `10.0.${n}.100`));
    const list = pool.entry(2)?.value ?? "";
    expect(list.length).to.be.within(1_000, 1022);
    expect(list.endsWith(".100")).to.equal(true);
  });

  it("goes by uname without any release file", () => {
    const pool = new AutoPool(host(), SOURCES);
    expect([pool.entry(5)?.value, pool.entry(6)?.value]).to.deep.equal(["Linux", "6.1.0-18-amd64"]);
  });
});

describe("os-release", () => {
  const parse = (text: string) => parseOsRelease((path) => (path === "/etc/os-release" ? text : undefined));

  it("is read with its quotes, escapes, comments and repetitions", () => {
    expect(parse('#NAME=no\nNAME=\'A\'\nNAME="A \\"B\\" \\$C"\nVERSION_ID=22.04\nOTHER')).to.deep.equal({
      name: 'A "B" $C',
      major: "22.04",
      minor: "",
    });
    expect(parse("")).to.deep.equal({ name: "", major: "", minor: "" });
  });

  it("gives way to the old release files, SuSE's first", () => {
    const files: Record<string, string> = {
      "/etc/SuSE-release": "SUSE Linux Enterprise\nVERSION = 11\nPATCHLEVEL = 4\n",
      "/etc/redhat-release": "Red Hat\n",
    };
    expect(parseOsRelease((path) => files[path])).to.deep.equal({
      name: "SUSE Linux Enterprise",
      major: "VERSION = 11",
      minor: "PATCHLEVEL = 4",
    });
    delete files["/etc/SuSE-release"];
    expect(parseOsRelease((path) => files[path])).to.deep.equal({ name: "Red Hat", major: "", minor: "" });
    expect(parseOsRelease(() => undefined)).to.equal(undefined);
  });
});
