import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect } from "chai";
import { VmxHost, VmxListener } from "../../../providers/testing.js";
import { RpciSession, VmwareProvider, VmwareStore } from "../../../providers/vmware/index.js";
import { VsockSource } from "../../../providers/vmware/transport/sources.js";
import { StreamTransport } from "../../../providers/vmware/transport/stream.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { Call, openPvbus, type PvbusError } from "../../../src/index.js";
import { hasVmciTransport } from "../../../src/native/posix/vsock.js";
import { rejects } from "../../support/rejects.js";

/*
 * For a machine of QEMU with the kernel's vsock loopback: the host's end of VMware's vsock on a real AF_VSOCK, and QEMU's
 * imitation of the backdoor behind the real instruction.
 */

const LOCAL = 1;
const DIST = join(import.meta.dirname, "../../..");
const call = (): Call => new Call({ timeoutMs: 20_000 });
const NOBODY = 65_534;

/** Runs a script in a process of its own, as another user where one is named. */
function node(
  script: string,
  uid = 0,
): { code: number | null; signal: string | null; stdout: string; stderr: string } {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ["--input-type=module", "-e", script],
    {
      encoding: "utf8",
      uid,
      gid: uid,
      timeout: 60_000,
    },
  );
  return { code: status, signal, stdout, stderr };
}

/** The same without holding up this process, whose listener the script speaks with. */
function nodeAside(script: string, uid: number): Promise<string> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { uid, gid: uid });
  let output = "";
  child.stdout.on("data", (text) => (output += text));
  child.stderr.on("data", (text) => (output += text));
  return new Promise((resolve) => child.on("close", () => resolve(output)));
}

describe("VMware's vsock on this kernel's own", () => {
  const host = new VmxHost({ variables: { "guestinfo.foo": "bar" } });
  const listener = new VmxListener(host);
  let port = 0;

  before(() => {
    host.namespaces.create("com.example.ns");
    port = listener.listenVsock(0xffff_ffff);
  });
  after(() => listener.close());

  const open = (privilege: "prefer" | "require" | "never"): VmwareStore => {
    const first = new StreamTransport(new VsockSource(LOCAL, port, privilege));
    return new VmwareStore(
      new RpciSession({ first, logger: SILENT, requirePrivilege: privilege === "require" }),
    );
  };

  it("comes from a privileged port as root, and the host sees it", async () => {
    const store = open("prefer");
    expect(Buffer.from((await store.read("guestinfo.foo", call())) ?? []).toString()).to.equal("bar");
    expect(store.over).to.include("privileged port");
    await store.namespace("com.example.ns").set("k", "v", call());
    expect(await store.namespace("com.example.ns").get("k", call())).to.equal("v");
    await store.close();
  });

  it("without the right to such a port goes without, and sends nothing that needs it", async () => {
    const script = (privilege: string): string => `
      const { VmwareProvider } = await import(${JSON.stringify(join(DIST, "providers/vmware/index.js"))});
      const { openPvbus } = await import(${JSON.stringify(join(DIST, "src/index.js"))});
      const bus = await openPvbus({ interfaces: [{ type: "VMware", channel: "vsock:${LOCAL}:${port}", options: { privilege: "${privilege}" } }], timeoutMs: 60_000 });
      console.log(await bus.primary.read("guestinfo.foo").catch(({ code }) => code));
      const store = await bus.primary.store();
      console.log(store.over);
      const { Call } = await import(${JSON.stringify(join(DIST, "src/index.js"))});
      console.log(await store.namespace("com.example.ns").get("k", new Call()).catch(({ code }) => code));
      await bus.close();`;
    const before = host.commands.length;
    expect(await nodeAside(script("prefer"), NOBODY)).to.equal(
      `bar\nvsock:${LOCAL}:${port} without privilege\nERR_PERMISSION\n`,
    );
    expect(host.commands.slice(before)).to.deep.equal(["info-get guestinfo.foo"]);
    expect(await nodeAside(script("require"), NOBODY)).to.match(/^ERR_PERMISSION\n/);
    expect(host.commands).to.have.length(before + 1);
  });

  it("carries a mebibyte, and goes on when the host drops connections", async () => {
    const store = open("prefer");
    host.set("guestinfo.big", "x".repeat(1024 * 1024));
    for (let round = 0; round < 5; round++) {
      expect(await store.read("guestinfo.big", call())).to.have.length(1024 * 1024);
      listener.dropAll();
    }
    host.set("guestinfo.big", undefined);
    await store.close();
  });

  it("opens a store by a named channel, and says that nobody listens elsewhere", async () => {
    const bus = await openPvbus({ interfaces: [{ type: "VMware", channel: `vsock:${LOCAL}:${port}` }] });
    await bus.primary?.write("guestinfo.set", "b c");
    expect(Buffer.from(host.get("guestinfo.set") ?? []).toString()).to.equal("b c");
    await bus.close();
    const other = await openPvbus({
      interfaces: [{ type: "VMware", channel: `vsock:${LOCAL}:${port + 1}` }],
    });
    await rejects(other.primary?.read("guestinfo.foo") ?? Promise.resolve(), "ERR_UNAVAILABLE");
    await other.close();
  });

  it("finds no VMCI transport here: VMware's own context has no way", async () => {
    expect(hasVmciTransport()).to.equal(false);
    const first = new StreamTransport(new VsockSource(0, 976, "prefer"));
    const store = new VmwareStore(new RpciSession({ first, logger: SILENT }));
    const error: PvbusError = await rejects(store.read("guestinfo.foo", call()), "ERR_UNAVAILABLE");
    expect(error.message).to.include("vmw_vsock_vmci_transport");
    await store.close();
  });

  it("says in doctor what works", async () => {
    const { nodeHost } = await import("../../../src/base/host/node-host.js");
    const [check] = await new VmwareProvider(nodeHost()).diagnose({ channel: `vsock:${LOCAL}:${port}` });
    expect(check).to.include({ works: true });
  });
});

describe("QEMU's imitation of VMware's backdoor", () => {
  const open = (permitted: boolean): string => `
    import { createRequire } from "node:module";
    const { openBackdoor } = await import(${JSON.stringify(join(DIST, "src/native/vmware/backdoor.js"))});
    const { proveVmware } = await import(${JSON.stringify(join(DIST, "src/native/vmware/proof.js"))});
    const { BackdoorTransport } = await import(${JSON.stringify(join(DIST, "providers/vmware/index.js"))});
    const { loadKoffi } = await import(${JSON.stringify(join(DIST, "src/native/ffi/koffi.js"))});
    const { Call } = await import(${JSON.stringify(join(DIST, "src/index.js"))});
    // A four-byte access checks four ports; five cover both.
    if (${permitted}) loadKoffi().load(null).func("int ioperm(unsigned long, unsigned long, int)")(0x5658, 5, 1);
    const leaves = { 1: [0, 0, 0x80000000, 0], 0x40000000: [0x40000010, 0x61774d56, 0x4d566572, 0x65726177] };
    const read = (leaf) => { const [eax = 0, ebx = 0, ecx = 0, edx = 0] = leaves[leaf] ?? []; return { eax, ebx, ecx, edx }; };
    const proof = proveVmware({ arch: "x64", cpuid: { read } });
    try {
      const transport = new BackdoorTransport(openBackdoor(proof));
      console.log("open");
      await transport.exchange(Buffer.from("info-get guestinfo.x"), new Call());
    } catch ({ code, message }) { console.log(code, message); }`;

  it("is not touched: the processor names another hypervisor", () => {
    const { code, signal, stdout, stderr } = node(
      `const { openPvbus } = await import(${JSON.stringify(join(DIST, "src/index.js"))});
       const bus = await openPvbus({ interfaces: [{ type: "VMware" }], timeoutMs: 60_000 });
       await bus.primary.read("guestinfo.x").catch(({ code }) => console.log(code));
       await bus.close();`,
    );
    expect([code, signal, stdout], stderr).to.deep.equal([0, null, "ERR_NO_INTERFACE\n"]);
  });

  it("faults in the look's own child without permission", () => {
    const { code, signal, stdout, stderr } = node(open(false));
    expect([code, signal], stderr).to.deep.equal([0, null]);
    expect(stdout).to.match(/^ERR_UNAVAILABLE .*the instruction faults/);
  });

  it("answers the look with permission, and is found out by its lack of a channel", () => {
    const { code, signal, stdout, stderr } = node(open(true));
    expect([code, signal], stderr).to.deep.equal([0, null]);
    expect(stdout).to.match(/^open\nERR_UNAVAILABLE .*imitation/);
  });
});
