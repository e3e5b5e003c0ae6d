import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { FreebsdIpService, LinuxIpService } from "../../../../providers/hyperv/kvpd/ip-service.js";
import { type RunScript, runScript } from "../../../../providers/hyperv/kvpd/scripts.js";
import { EMPTY_IP_INFO, type KvpIpInfo } from "../../../../providers/hyperv/protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../../../../providers/hyperv/protocol/status.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import type { InterfaceAddress } from "../../../../src/native/posix/interface-addresses.js";
import { RunningDaemon } from "../../../support/kvp-daemon.js";

const MAC = "02:FC:00:00:00:01";
const GUID = "{c3e1e5c0-0000-0000-0000-000000000001}";
const SCRIPTS = "/usr/libexec/hypervkvpd";

const request = (fields: Partial<KvpIpInfo>): KvpIpInfo => ({
  ...EMPTY_IP_INFO,
  adapterId: MAC,
  ...fields,
});
const address = (name: string, family: 4 | 6, text: string, prefix: number): InterfaceAddress => ({
  name,
  family,
  address: text,
  prefix,
  loopback: false,
});

async function statusOf(promise: Promise<unknown>): Promise<number | undefined> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error !== undefined && !(error instanceof KvpStatusError)) throw error;
  return (error as KvpStatusError | undefined)?.status;
}

/** A process that nobody has waited for yet counts as gone. */
function isGone(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

describe("IP service", () => {
  let root: string;
  let addresses: InterfaceAddress[];
  let runs: string[][];
  const put = (path: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text, { mode });
  };
  const adapter = (name: string, mac: string, guid?: string): void => {
    put(`/sys/class/net/${name}/address`, `${mac}\n`);
    if (guid !== undefined) put(`/sys/class/net/${name}/device/device_id`, `${guid}\n`);
  };
  const script = (name: string, text: string): void =>
    put(`${SCRIPTS}/${name}`, `#!/bin/sh\n${text}\n`, 0o755);
  const recorded: RunScript = (path, args, call) => {
    runs.push([path.replace(root, ""), ...args.map((arg) => arg.replace(root, ""))]);
    return runScript(path, args, call);
  };
  const linux = (): LinuxIpService =>
    new LinuxIpService(nodeHost({ sysroot: root, platform: "linux", env: {} }), {
      addresses: () => addresses,
      run: recorded,
    });

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "pvbus-ip-"));
    mkdirSync(join(root, "var/lib/hyperv"), { recursive: true });
    runs = [];
    addresses = [
      address("eth1", 4, "10.0.0.5", 24),
      address("eth1:0", 4, "10.0.0.6", 24),
      address("eth10", 4, "10.9.9.9", 8),
      address("eth1", 6, "fe80::1", 64),
    ];
    adapter("eth1", MAC.toLowerCase(), GUID);
    adapter("eth10", "02:fc:00:00:00:10");
  });
  afterEach(() => rmSync(root, { recursive: true }));

  describe("GET_IP_INFO on Linux", () => {
    it("gives the adapter's own settings, labels included", async () => {
      put("/proc/net/route", "head\neth1\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
      put("/etc/resolv.conf", "# nameserver 1.1.1.1\nnameserver 10.0.0.53\nnameserver  fd00::53\nsearch x\n");
      script("hv_get_dns_info", "cat /etc/resolv.conf 2>/dev/null | awk '/^nameserver/ { print $2 }'");
      script("hv_get_dhcp_info", 'test "$1" = eth1 && echo Enabled || echo Disabled');
      expect(await linux().getIpInfo(request({}), new Call())).to.deep.equal({
        adapterId: MAC,
        addressFamily: 3,
        dhcpEnabled: 1,
        ipAddresses: "10.0.0.5;10.0.0.6;fe80::1",
        subnets: "255.255.255.0;255.255.255.0;/64",
        gateways: "10.0.0.1;",
        dnsServers: "10.0.0.53;fd00::53;",
      });
      // The stock script does what one look at the file does.
      expect(runs).to.deep.equal([[`${SCRIPTS}/hv_get_dhcp_info`, "eth1"]]);
    });

    it("runs a DNS script that somebody has put in the stock one's place, and remembers what it said", async () => {
      script("hv_get_dns_info", "echo 192.0.2.1; echo; echo 192.0.2.2");
      const service = linux();
      for (const _ of [1, 2]) {
        const { dnsServers, dhcpEnabled } = await service.getIpInfo(request({}), new Call());
        expect([dnsServers, dhcpEnabled]).to.deep.equal(["192.0.2.1;192.0.2.2;", 0]);
      }
      expect(runs.filter(([path]) => path?.endsWith("dns_info"))).to.have.length(1);
    });

    it("matches the MAC in upper case only, as the vendor's daemon", async () => {
      expect(
        await statusOf(linux().getIpInfo(request({ adapterId: MAC.toLowerCase() }), new Call())),
      ).to.equal(KvpStatus.fail);
      expect(await statusOf(linux().getIpInfo(request({ adapterId: "" }), new Call()))).to.equal(
        KvpStatus.fail,
      );
    });

    it("takes of two interfaces with the MAC the one that has addresses", async () => {
      adapter("aa0", MAC.toLowerCase());
      expect((await linux().getIpInfo(request({}), new Call())).ipAddresses).to.match(/^10\.0\.0\.5/);
    });

    it("gives empty lists for an adapter without addresses", async () => {
      addresses = [];
      expect(await linux().getIpInfo(request({}), new Call())).to.deep.equal(request({}));
    });

    it("gives what a script hung with, until the call is over", async () => {
      script("hv_get_dns_info", "echo 192.0.2.1; sleep 60");
      script("hv_get_dhcp_info", "sleep 60");
      const info = await linux().getIpInfo(request({}), new Call({ timeoutMs: 300 }));
      expect(info).to.include({ dhcpEnabled: 0, dnsServers: "192.0.2.1;" });
    });

    it("is not flooded by a script gone wild", async () => {
      script("hv_get_dns_info", "yes 192.0.2.1");
      script("hv_get_dhcp_info", "yes Enabled");
      const info = await linux().getIpInfo(request({}), new Call({ timeoutMs: 10_000 }));
      expect(info.dnsServers.length).to.be.within(1_000, 1_023);
      expect(info.dnsServers.endsWith("192.0.2.1;")).to.equal(true);
      expect(info.dhcpEnabled).to.equal(1);
    });
  });

  describe("SET_IP_INFO on Linux", () => {
    const settings = request({
      adapterId: GUID,
      ipAddresses: "10.0.0.7",
      subnets: "255.255.255.0",
      gateways: "10.0.0.1",
      dnsServers: "10.0.0.2",
    });
    const files = ["/var/lib/hyperv/ifcfg-eth1", "/var/lib/hyperv/eth1.nmconnection"] as const;

    it("writes both files for root alone and runs the script with their paths", async () => {
      script("hv_set_ifconfig", 'cat "$1" "$2" > "$(dirname "$1")/seen"');
      await linux().setIpInfo(settings, new Call());
      expect(runs).to.deep.equal([[`${SCRIPTS}/hv_set_ifconfig`, ...files]]);
      for (const path of files) expect(statSync(join(root, path)).mode & 0o777).to.equal(0o600);
      const texts = files.map((path) => readFileSync(join(root, path), "utf8"));
      expect(readFileSync(join(root, "var/lib/hyperv/seen"), "utf8")).to.equal(texts.join(""));
      expect(texts[0]).to.include("IPADDR0=10.0.0.7\n").and.include(`HWADDR=${MAC}\n`);
      expect(readdirSync(join(root, "var/lib/hyperv")).sort()).to.deep.equal([
        "eth1.nmconnection",
        "ifcfg-eth1",
        "seen",
      ]);
    });

    for (const [directory, place] of [
      [undefined, "/var/lib/hyperv"],
      ["/srv/pools", "/srv/pools"],
    ] as const) {
      it(`puts the files beside the daemon's pools: ${directory ?? "usual"}`, async () => {
        script("hv_set_ifconfig", 'echo "$1" "$2" > "$(dirname "$1")/seen"');
        await using daemon = await RunningDaemon.start(root, { directory, platform: "linux" });
        expect(await daemon.status({ operation: "setIpInfo", info: settings })).to.equal(0);
        const paths = ["ifcfg-eth1", "eth1.nmconnection"].map((name) => join(root, place, name));
        expect(readFileSync(join(root, place, "seen"), "utf8")).to.equal(`${paths.join(" ")}\n`);
        for (const path of paths) expect(statSync(path).mode & 0o777).to.equal(0o600);
      });
    }

    it("takes the adapter's GUID in any case", async () => {
      script("hv_set_ifconfig", "exit 0");
      expect(
        await statusOf(linux().setIpInfo({ ...settings, adapterId: GUID.toUpperCase() }, new Call())),
      ).to.equal(undefined);
    });

    it("refuses bad input before anything is written or run", async () => {
      script("hv_set_ifconfig", "exit 0");
      for (const bad of [
        { ipAddresses: "bad" },
        { gateways: "10.0.0.1\nX=1" },
        { dnsServers: "A".repeat(300) },
      ]) {
        const status = await statusOf(linux().setIpInfo({ ...settings, ...bad }, new Call()));
        expect(status).to.equal(KvpStatus.invalidArgument);
      }
      expect(await statusOf(linux().setIpInfo({ ...settings, adapterId: "{none}" }, new Call()))).to.equal(
        KvpStatus.guidNotFound,
      );
      expect(runs).to.deep.equal([]);
      expect(readdirSync(join(root, "var/lib/hyperv"))).to.deep.equal([]);
    });

    it("replaces a link in a file's place and never follows it", async () => {
      script("hv_set_ifconfig", "exit 0");
      put("/secret", "secret");
      symlinkSync(join(root, "secret"), join(root, files[0]));
      await linux().setIpInfo(settings, new Call());
      expect(readFileSync(join(root, "secret"), "utf8")).to.equal("secret");
      expect(readFileSync(join(root, files[0]), "utf8")).to.include("IPADDR0=10.0.0.7");
    });

    it("says so when the script is missing, fails or hangs", async () => {
      const outcome = async (timeoutMs = 5_000): Promise<string> => {
        try {
          await linux().setIpInfo(settings, new Call({ timeoutMs }));
          return "done";
        } catch (error) {
          expect((error as KvpStatusError).status).to.equal(KvpStatus.fail);
          return (error as Error).message;
        }
      };
      expect(await outcome()).to.include("ENOENT");
      script("hv_set_ifconfig", "echo cannot do it >&2; exit 3");
      expect(await outcome()).to.include("cannot do it");
      script("hv_set_ifconfig", 'sleep 60 & echo $! > "$(dirname "$1")/child"; wait');
      expect(await outcome(300)).to.include("did not end within");
      const child = Number(readFileSync(join(root, "var/lib/hyperv/child"), "utf8"));
      // The kernel takes a moment; a child that lives on makes the test run into its time limit.
      while (!isGone(child)) await new Promise((resolve) => setTimeout(resolve, 5));
    });

    it("hands a hostile interface name over as one argument", async () => {
      const name = "x; touch pwned";
      adapter(name, "02:fc:00:00:00:66", "{evil}");
      script("hv_set_ifconfig", 'test $# -eq 2 && test -f "$1" && test -f "$2"');
      expect(await statusOf(linux().setIpInfo({ ...settings, adapterId: "{evil}" }, new Call()))).to.equal(
        undefined,
      );
      expect(existsSync(join(root, "pwned"))).to.equal(false);
    });
  });

  describe("on FreeBSD", () => {
    const freebsd = (
      macs: Record<string, string> = { hn0: "02:fc:00:00:00:01" },
      directory?: string,
    ): FreebsdIpService =>
      new FreebsdIpService(nodeHost({ sysroot: root, platform: "freebsd", env: {} }), {
        addresses: () => [address("hn0", 6, "fd00::5", 64), address("hn0", 4, "10.0.0.5", 24)],
        macs: () => new Map(Object.entries(macs)),
        directory,
        run: async (path, args, call) => {
          runs.push([path, ...args.map((arg) => arg.replace(root, ""))]);
          if (!path.endsWith("netstat")) return runScript(path, args, call);
          return { ok: true, stdout: "default 10.0.0.1 UGS hn0\n", why: "" };
        },
      });

    it("gives terminated lists", async () => {
      put("/usr/libexec/hyperv/hv_get_dns_info", "echo 10.0.0.53\n");
      put("/usr/libexec/hyperv/hv_get_dhcp_info", "echo Enabled\n");
      expect(await freebsd().getIpInfo(request({}), new Call())).to.deep.equal({
        adapterId: MAC,
        addressFamily: 3,
        dhcpEnabled: 1,
        ipAddresses: "10.0.0.5;fd00::5;",
        subnets: "255.255.255.0;/64;",
        gateways: "10.0.0.1;",
        dnsServers: "10.0.0.53;",
      });
      expect(await statusOf(freebsd({}).getIpInfo(request({}), new Call()))).to.equal(KvpStatus.fail);
    });

    it("puts the settings into a pool directory of the user's own", async () => {
      put("/usr/libexec/hyperv/hv_set_ifconfig", "exit 0\n");
      mkdirSync(join(root, "srv/pools"), { recursive: true });
      const service = freebsd(undefined, "/srv/pools");
      const settings = request({ adapterId: "hn0", ipAddresses: "10.0.0.7", subnets: "255.0.0.0" });
      await service.setIpInfo(settings, new Call());
      expect(runs.at(-1)?.at(-1)).to.equal("/srv/pools/hv_set_ip_data");
      expect(existsSync(join(root, "var/db/hyperv/hv_set_ip_data"))).to.equal(false);
    });

    it("sets what the kernel named by its interface", async () => {
      mkdirSync(join(root, "var/db/hyperv"), { recursive: true });
      put("/usr/libexec/hyperv/hv_set_ifconfig", 'cp "$1" "$1.seen"\n');
      const settings = request({ adapterId: "hn0", ipAddresses: "10.0.0.7", subnets: "255.0.0.0" });
      await freebsd().setIpInfo(settings, new Call());
      const path = join(root, "var/db/hyperv/hv_set_ip_data");
      expect(statSync(path).mode & 0o777).to.equal(0o600);
      expect(readFileSync(`${path}.seen`, "utf8")).to.include("IP_ADDR=10.0.0.7;\nSUBNET=255.0.0.0;\n");
      expect(await statusOf(freebsd().setIpInfo({ ...settings, adapterId: GUID }, new Call()))).to.equal(
        KvpStatus.guidNotFound,
      );
      put("/usr/libexec/hyperv/hv_set_ifconfig", "exit 1\n");
      expect(await statusOf(freebsd().setIpInfo(settings, new Call()))).to.equal(KvpStatus.fail);
    });
  });
});
