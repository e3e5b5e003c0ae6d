/** In a guest of QEMU: static sources, and the channel to `pvbus host serve` outside. */
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type Bus, type DetectionReport, openPvbus, type PvInterface } from "pvbus";
import { pvbus, SLOW_MS } from "./command.js";
import { say } from "./say.js";

describe("a guest of QEMU", () => {
  let bus: Bus;
  let kvm: PvInterface;

  before(async () => {
    // Without acceleration the processor says TCG; the devices are KVM's all the same.
    bus = await openPvbus({ interfaces: [{ type: "KVM" }], timeoutMs: SLOW_MS });
    kvm = bus.primary as PvInterface;
  });
  after(() => bus.close());

  it("is detected", async () => {
    const { code, stdout, stderr } = await pvbus("detect", "--json");
    expect(code, stderr).to.equal(0);
    const report = JSON.parse(stdout) as DetectionReport;
    expect([report.virtual, report.primary]).to.deep.equal([true, "qemu"]);
  });

  it("lists keys of fw_cfg, SMBIOS and the channel", async () => {
    const { code, stdout, stderr } = await pvbus("ls", "-t", "KVM");
    expect(code, stderr).to.equal(0);
    expect(stdout)
      .to.contain("fwcfg/opt/org.pvbus/site")
      .and.contain("smbios/oem/org.pvbus:rack")
      .and.contain("meta/role");
  });

  it("reads each source, and plain keys from the first that has them", async () => {
    expect(await kvm.read("fwcfg/opt/org.pvbus/site")).to.equal("lab one");
    expect(await kvm.read("smbios/oem/org.pvbus:rack")).to.equal("7,b");
    expect(await kvm.read("smbios/system/manufacturer")).to.equal("pvbus lab");
    expect(await kvm.read("meta/role")).to.equal("web");
    expect([
      await kvm.read("site"),
      await kvm.read("rack"),
      await kvm.read("role"),
      await kvm.read("none"),
    ]).to.deep.equal(["lab one", "7,b", "web", undefined]);
  });

  it("pvbus set is seen outside at once", async () => {
    const value = "é 🙂 ready";
    expect(await pvbus("set", "-t", "KVM", "meta/status", value)).to.deep.include({ code: 0, stderr: "" });
    say({ event: "written", key: "status", value });
  });

  it("a watch is woken by pvbus host set outside", async () => {
    for await (const { key, value } of kvm.watch("meta/order", {
      timeoutMs: SLOW_MS,
      ready: () => say({ event: "waiting", key: "order", value: "go on" }),
    })) {
      expect([key, value]).to.deep.equal(["meta/order", "go on"]);
      break;
    }
  });

  it("deletes, and carries a value of 100,000 bytes", async () => {
    const large = "0123456789".repeat(10_000);
    await kvm.write("meta/large", large, { timeoutMs: SLOW_MS });
    expect(await kvm.read("meta/large", { timeoutMs: SLOW_MS })).to.equal(large);
    expect(await kvm.delete("meta/large")).to.equal(true);
    expect(await kvm.read("meta/large")).to.equal(undefined);
  });

  it("speaks over vsock", async () => {
    const state = mkdtempSync(join(tmpdir(), "state-"));
    const relay = spawn(process.execPath, [join(import.meta.dirname, "vsock-host.js"), state], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [port] = await new Promise<string[]>((resolve) =>
      relay.stdout.once("data", (text: Buffer) => resolve(text.toString().trim().split("\n"))),
    );
    try {
      await using other = await openPvbus({
        interfaces: [{ type: "KVM", channel: `vsock:1:${port}` }],
        timeoutMs: SLOW_MS,
      });
      await other.primary?.write("meta/over", "vsock");
      expect(await other.primary?.read("meta/over")).to.equal("vsock");
    } finally {
      relay.kill();
    }
  });
});
