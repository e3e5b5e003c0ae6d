import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { createKvpDaemon } from "../../../../providers/hyperv/kvpd/create.js";
import { openKvpDevice } from "../../../../providers/hyperv/kvpd/device.js";
import { LinuxIpService } from "../../../../providers/hyperv/kvpd/ip-service.js";
import { EMPTY_IP_INFO, LINUX_KVP } from "../../../../providers/hyperv/protocol/messages.js";
import { KvpStatusError } from "../../../../providers/hyperv/protocol/status.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call, PvbusError } from "../../../../src/index.js";
import { keepingLogger } from "../../../support/kvp-daemon.js";
import { TestDriver } from "../../../support/kvp-driver.js";
import { pending } from "../../../support/pending.js";
import { rejects } from "../../../support/rejects.js";

const SOMEBODY = 65_534;
const GUID = "{c3e1e5c0-0000-0000-0000-000000000001}";

describe("KVP daemon: whose its files are", () => {
  let place: string;
  const at = (path: string): string => join(place, path);

  beforeEach(function () {
    if (process.geteuid === undefined) pending(this, "a system with users");
    place = mkdtempSync(join(tmpdir(), "pvbus-own-"));
  });
  afterEach(() => {
    if (place !== undefined) rmSync(place, { recursive: true });
  });

  describe("the pool directory of the live machine", () => {
    /** Serves for a moment; resolves when that went well. */
    const serve = async (directory: string): Promise<void> => {
      const driver = new TestDriver(LINUX_KVP);
      const stop = new AbortController();
      const daemon = await createKvpDaemon(nodeHost({ platform: "linux", env: {} }), {
        openDevice: driver.open,
        directory,
        auto: { entry: () => undefined, setIntegrationServicesVersion: () => undefined },
      });
      const registered = driver.registration();
      const running = daemon.run(stop.signal);
      await Promise.race([registered, running]);
      stop.abort();
      await running;
    };
    const refused = async (directory: string, culprit: string): Promise<void> => {
      const { message } = await rejects(serve(directory), "ERR_PERMISSION");
      expect(message).to.contain("refusing the pool directory").and.to.contain(`${culprit} `);
      expect(message).to.contain("chmod go-w");
    };

    it("is made where it is missing, for root or this user alone to write", async () => {
      await serve(at("a/b/pools"));
      expect(readdirSync(at("a/b/pools"))).to.include(".kvp_pool_0");
      await serve(at("a/b/pools"));
    });

    it("is refused when others can write it, and nothing is made in it", async () => {
      for (const mode of [0o777, 0o1777, 0o775]) {
        mkdirSync(at("pools"), { recursive: true });
        chmodSync(at("pools"), mode);
        await refused(at("pools"), at("pools"));
        expect(readdirSync(at("pools"))).to.deep.equal([]);
      }
    });

    it("is refused when others can put another one in its place, or lead a link to it elsewhere", async () => {
      mkdirSync(at("open/pools"), { recursive: true });
      chmodSync(at("open"), 0o777);
      symlinkSync("open/pools", at("link"));
      await refused(at("open/pools"), at("open"));
      await refused(at("link"), at("open"));
      await refused(at("open/new/pools"), at("open"));
      expect(readdirSync(at("open"))).to.deep.equal(["pools"]);
    });

    it("is refused when it is another user's", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root, to give files away");
      mkdirSync(at("pools"));
      chownSync(at("pools"), SOMEBODY, SOMEBODY);
      await refused(at("pools"), at("pools"));
    });

    it("may be below a directory such as /tmp, where all can make names and nobody can take ours", async () => {
      mkdirSync(at("shared"));
      chmodSync(at("shared"), 0o1777);
      await serve(at("shared/pools"));
      expect(existsSync(at("shared/pools/.kvp_pool_0"))).to.equal(true);
    });

    it("is not a link that another user has left in such a directory", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root, to give files away");
      mkdirSync(at("shared"));
      mkdirSync(at("target"));
      chmodSync(at("shared"), 0o1777);
      symlinkSync("../target", at("shared/pools"));
      execFileSync("chown", ["-h", `${SOMEBODY}:${SOMEBODY}`, at("shared/pools")]);
      await refused(at("shared/pools"), at("shared/pools"));
      await refused(at("shared/pools/new"), at("shared/pools"));
      expect(readdirSync(at("target"))).to.deep.equal([]);
    });
  });

  describe("the device", () => {
    const events = { onMessage: () => undefined, onEnd: () => undefined };
    const open = (path: string, sysroot?: string) => () =>
      openKvpDevice(
        nodeHost({ sysroot, platform: "linux", env: {} }),
        { path, layout: LINUX_KVP, timeLimitMs: 1_000 },
        events,
      );
    const failure = (action: () => unknown): PvbusError => {
      try {
        action();
      } catch (error) {
        if (PvbusError.is(error)) return error;
        throw error;
      }
      throw new Error("nothing was thrown");
    };

    it("is no FIFO and no directory", () => {
      execFileSync("mkfifo", [at("fifo")]);
      for (const sysroot of [undefined, place]) {
        const path = sysroot === undefined ? at("fifo") : "/fifo";
        expect(failure(open(path, sysroot)).message).to.contain("no KVP device");
      }
      expect(failure(open(place)).code).to.equal("ERR_UNAVAILABLE");
    });

    it("is not another user's, who would be the host for us", function () {
      if (process.geteuid?.() !== 0) pending(this, "root, to give files away");
      writeFileSync(at("device"), "");
      chownSync(at("device"), SOMEBODY, SOMEBODY);
      expect(failure(open(at("device"))).message).to.contain(`user ${SOMEBODY}`);
    });

    it("is not outside of a sysroot, whatever links say", () => {
      mkdirSync(at("tree/dev/vmbus"), { recursive: true });
      writeFileSync(at("device"), "");
      for (const target of [at("device"), "../../../device"]) {
        symlinkSync(target, at("tree/dev/vmbus/hv_kvp"));
        const error = failure(open("/dev/vmbus/hv_kvp", at("tree")));
        expect(error.message).to.contain("ENOENT").and.to.contain(at("tree/dev/vmbus/hv_kvp"));
        rmSync(at("tree/dev/vmbus/hv_kvp"));
      }
    });
  });

  describe("scripts", () => {
    const SCRIPTS = "usr/libexec/hypervkvpd";
    const settings = { ...EMPTY_IP_INFO, adapterId: GUID, ipAddresses: "10.0.0.7", subnets: "255.0.0.0" };
    const lines: string[] = [];
    const service = (): LinuxIpService =>
      new LinuxIpService(
        nodeHost({ sysroot: place, platform: "linux", env: {}, logger: keepingLogger(lines) }),
        {
          addresses: () => [{ name: "eth1", family: 4, address: "10.0.0.5", prefix: 24, loopback: false }],
        },
      );
    const put = (path: string, text: string, mode = 0o644): void => {
      mkdirSync(dirname(at(path)), { recursive: true });
      writeFileSync(at(path), text, { mode });
      chmodSync(at(path), mode);
    };
    /** The set script's message when it was not run. */
    const why = async (): Promise<string> => {
      const error = await service()
        .setIpInfo(settings, new Call())
        .then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
      expect(existsSync(at("ran"))).to.equal(error === undefined);
      rmSync(at("ran"), { force: true });
      if (error === undefined) return "it was run";
      expect(error).to.be.instanceOf(KvpStatusError);
      return (error as Error).message;
    };

    beforeEach(() => {
      lines.length = 0;
      put("sys/class/net/eth1/address", "02:fc:00:00:00:01\n");
      put("sys/class/net/eth1/device/device_id", `${GUID}\n`);
      mkdirSync(at("var/lib/hyperv"), { recursive: true });
      put(`${SCRIPTS}/hv_set_ifconfig`, `#!/bin/sh\ntouch ${at("ran")}\n`, 0o755);
    });

    it("are run when nobody else can change them", async () => {
      expect(await why()).to.equal("it was run");
    });

    it("are not run when others can write them, or a directory on the way", async () => {
      const path = `${SCRIPTS}/hv_set_ifconfig`;
      for (const [culprit, mode] of [
        [path, 0o777],
        [path, 0o775],
        [SCRIPTS, 0o777],
        ["usr", 0o775],
      ] as const) {
        chmodSync(at(culprit), mode);
        expect(await why()).to.contain(`${at(culprit)} can be written by`);
        chmodSync(at(culprit), 0o755);
      }
      expect(await why()).to.equal("it was run");
    });

    it("are not run when they are another user's", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root, to give files away");
      chownSync(at(SCRIPTS), SOMEBODY, SOMEBODY);
      expect(await why()).to.contain(`belongs to user ${SOMEBODY}`);
    });

    it("are not run from outside of the sysroot", async () => {
      const outside = mkdtempSync(join(tmpdir(), "pvbus-out-"));
      writeFileSync(join(outside, "script"), `#!/bin/sh\ntouch ${at("ran")}\n`, { mode: 0o755 });
      rmSync(at(`${SCRIPTS}/hv_set_ifconfig`));
      symlinkSync(join(outside, "script"), at(`${SCRIPTS}/hv_set_ifconfig`));
      expect(await why()).to.contain("ENOENT");
      rmSync(outside, { recursive: true });
    });

    it("that are refused are logged once, however often the host asks", async () => {
      put(`${SCRIPTS}/hv_get_dhcp_info`, "#!/bin/sh\necho Enabled\n", 0o777);
      const asked = service();
      const request = { ...EMPTY_IP_INFO, adapterId: "02:FC:00:00:00:01" };
      for (const _ of [1, 2]) {
        // What setting answers is forgotten, so that the second question is asked anew.
        await asked.setIpInfo(settings, new Call());
        expect((await asked.getIpInfo(request, new Call())).dhcpEnabled).to.equal(0);
      }
      expect(lines.filter((line) => line.includes("hv_get_dhcp_info"))).to.have.length(1);
    });

    it("get their settings within the sysroot, whatever the pool directory is", async () => {
      const outside = mkdtempSync(join(tmpdir(), "pvbus-out-"));
      rmSync(at("var/lib/hyperv"), { recursive: true });
      symlinkSync(outside, at("var/lib/hyperv"));
      const outcome = await service()
        .setIpInfo(settings, new Call())
        .catch((error: unknown) => String(error));
      expect(outcome).to.contain("ENOENT");
      expect(readdirSync(outside)).to.deep.equal([]);
      rmSync(at("var/lib/hyperv"));
      symlinkSync("/srv", at("var/lib/hyperv"));
      mkdirSync(at("srv"));
      await service().setIpInfo(settings, new Call());
      expect(readFileSync(at("srv/ifcfg-eth1"), "utf8")).to.contain("IPADDR0=10.0.0.7");
      rmSync(outside, { recursive: true });
    });
  });
});
