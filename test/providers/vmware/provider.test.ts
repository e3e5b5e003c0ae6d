import { expect } from "chai";
import { VmxHost } from "../../../providers/testing.js";
import { VmwareProvider } from "../../../providers/vmware/index.js";
import { lookForVmware } from "../../../providers/vmware/transports.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, openPvbus } from "../../../src/index.js";
import { VmwareProof } from "../../../src/native/vmware/proof.js";
import { run } from "../../support/command-line.js";
import { rejects } from "../../support/rejects.js";
import { SimulatedVmx } from "../../support/vmware.js";

const call = (): Call => new Call({ timeoutMs: 5000 });

describe("VMware provider", () => {
  it("takes vsock:CID:PORT and unix:PATH for a channel, and nothing else", async () => {
    const provider = new VmwareProvider(nodeHost());
    for (const channel of [
      "vsock:2:976",
      "vsock:4294967295:4294967295",
      "unix:/run/vmx.sock",
      "unix:relative",
    ])
      await (await provider.open({ channel }, call())).close();
    const wrong = [
      "",
      "vsock",
      "vsock:2",
      "vsock:2:",
      "vsock:a:1",
      "vsock:4294967296:1",
      "unix:",
      "port:/dev/x",
      "backdoor:",
      "tcp:1:2",
      "unix:a\0b",
    ];
    for (const channel of wrong) await rejects(provider.open({ channel }, call()), "ERR_NOT_SUPPORTED");
    await rejects(provider.open({ channel: `unix:/${"x".repeat(200)}` }, call()), "ERR_UNAVAILABLE");
  });

  it("takes the socket's path below the sysroot", async () => {
    await using vmx = await SimulatedVmx.start(new VmxHost({ variables: { "guestinfo.a": "below" } }));
    await using bus = await openPvbus({
      sysroot: vmx.folder,
      interfaces: [{ type: "VMware", channel: "unix:/vmx.sock" }],
    });
    expect(await bus.primary?.read("guestinfo.a")).to.equal("below");
  });

  it("never takes a captured tree or a made-up machine for the one that it runs on", async () => {
    const hosts = [
      nodeHost({ sysroot: "/" }),
      nodeHost({ platform: process.platform === "linux" ? "win32" : "linux" }),
      nodeHost({ arch: process.arch === "x64" ? "arm64" : "x64" }),
    ];
    for (const host of hosts) {
      expect(VmwareProof.is(await lookForVmware(host))).to.equal(false);
      if (host.platform === "openbsd") continue;
      await rejects(new VmwareProvider(host).open({}, call()), "ERR_NO_INTERFACE");
    }
  });

  it("has a kernel's call for guestinfo alone", async () => {
    const provider = new VmwareProvider(nodeHost());
    const open = (options: Record<string, unknown>) =>
      provider.open({ channel: "unix:/none", options }, call());
    expect(provider.hostctlStore(await open({}))).to.have.property("read");
    const sets = await open({ dataset: "app" });
    expect(() => provider.hostctlStore(sets)).to.throw(/DataSets/);
  });

  it("is not opened by a call that is over", async () => {
    const over = new Call({ signal: AbortSignal.abort() });
    await rejects(new VmwareProvider(nodeHost()).open({}, over), "ERR_ABORTED");
  });

  it("reaches the store with the command line's own verbs", async () => {
    await using vmx = await SimulatedVmx.start(new VmxHost({ variables: { "guestinfo.a": "b c" } }));
    const on = (...args: readonly string[]) => run(["-t", "VMware", "--channel", vmx.channel, ...args]);
    expect(await on("get", "guestinfo.a")).to.deep.equal({ code: 0, stdout: "b c\n", stderr: "" });
    expect((await on("set", "guestinfo.b", "grüß€")).code).to.equal(0);
    expect(Buffer.from(vmx.host.get("guestinfo.b") ?? []).toString()).to.equal("grüß€");
    expect((await on("get", "guestinfo.nope")).stderr).to.include("no such key");
    expect((await on("ls")).stderr).to.include("ERR_NOT_SUPPORTED");
    expect((await on("rm", "guestinfo.a")).stderr).to.include("ERR_NOT_SUPPORTED");
    vmx.host.createDataSet("app").set("k", "v");
    expect((await on("-o", "dataset=app", "ls")).stdout).to.equal("k=v\n");
    expect((await on("-o", "dataset=app", "rm", "k")).code).to.equal(0);
    expect((await on("-o", "dataset=app", "ls")).stdout).to.equal("");
  });

  it("tells in doctor what works, why not, and never throws for a machine's state", async () => {
    await using vmx = await SimulatedVmx.start();
    const provider = new VmwareProvider(nodeHost());
    const [works] = await provider.diagnose({ channel: vmx.channel });
    expect(works).to.deep.equal({ what: `${vmx.channel} answers`, works: true, why: vmx.channel });
    await vmx.listener.close();
    const [fails] = await provider.diagnose({ channel: vmx.channel });
    expect(fails).to.include({ works: false });
    expect(fails?.why).to.include("cannot connect");
    const checks = await provider.diagnose({});
    expect(checks[0]?.what).to.equal("this is VMware's hardware");
  });
});
