import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { decodeReadyValue } from "../../../src/base/ready-value.js";
import { nodeHost, openPvbus } from "../../../src/index.js";
import { type ReadyOptions, tellReady } from "../../../src/tools/index.js";
import { BOOT_STORES, type BootStore, HypervTree, KvmTree } from "../../support/boot-stores.js";
import { run } from "../../support/command-line.js";
import { HostFolder } from "../../support/kvm-guest.js";
import { pending } from "../../support/pending.js";
import { pairsOf } from "../../support/pools.js";
import { findPython, start } from "../../support/processes.js";
import { rejects } from "../../support/rejects.js";
import { addFiles, fileTree, removeTree } from "../../support/trees.js";

const BOOT = "11223344-5566-7788-99aa-bbccddeeff00";
const UUID = "aabbccdd-eeff-0011-2233-445566778899";

describe("readiness", () => {
  let sysroot: string;
  beforeEach(() => {
    sysroot = fileTree({ "proc/sys/kernel/random/boot_id": `${BOOT}\n` });
  });
  afterEach(() => removeTree(sysroot));

  const tell = async (store: Pick<BootStore, "open">, options: ReadyOptions = {}) => {
    await using bus = await openPvbus(store.open);
    return await tellReady(bus, { host: nodeHost({ sysroot, platform: "linux", env: {} }), ...options });
  };

  for (const type of ["Hyper-V", "VMware", "Xen"])
    it(`is told on ${type} by the portable value, which names time and boot`, async () => {
      await using store = await (BOOT_STORES[type] as () => Promise<BootStore>)();
      const before = Date.now();
      const signals = await tell(store, { status: "up" });
      const own = signals.find(({ signal }) => signal === "org.pvbus/ready");
      expect(own?.sent).to.equal(true);
      const said = decodeReadyValue(own?.detail ?? "");
      expect(said).to.include({ ready: true, boot: BOOT, text: "up" });
      expect(Date.parse(said?.time ?? "")).to.be.within(before, Date.now());
      await using bus = await openPvbus(store.open);
      expect(await bus.portable("org.pvbus").published("ready")).to.equal(own?.detail);
    });

  it("says where nothing can be told, and the command ends with 1", async () => {
    await using store = new KvmTree();
    const [own, ...rest] = await tell(store);
    expect([own?.sent, rest]).to.deep.equal([false, []]);
    expect(own?.detail).to.contain("ERR_NOT_SUPPORTED");
    const { code, stdout } = await run(["ready", ...store.args]);
    expect([code, stdout]).to.deep.equal([1, `org.pvbus/ready: not sent: ${own?.detail}\n`]);
  });

  it("takes a line for people and no more", async () => {
    await using store = new KvmTree();
    await rejects(tell(store, { status: "a\nREADY=1" }), "ERR_VALUE_INVALID");
    await rejects(tell(store, { status: "x".repeat(513) }), "ERR_VALUE_TOO_LONG");
  });

  it("on the metadata channel is read by the host", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    const args = ["-t", "KVM", "--channel", `unix:${folder.socket("web")}`];
    const { code, stdout } = await run(["ready", "--failed", "--status", "no disk", "--json", ...args]);
    expect(code).to.equal(0);
    expect(JSON.parse(stdout)).to.have.length(1);
    const { stdout: kept } = await run([
      "host",
      "get",
      "--state",
      folder.state,
      "--guest",
      "web",
      "org.pvbus/ready",
    ]);
    expect(decodeReadyValue(kept.trimEnd())).to.include({ ready: false, text: "no disk" });
  });

  describe("on Hyper-V, as cloud agents report it", () => {
    const report = async (store: HypervTree, options: ReadyOptions = {}) => {
      const signals = await tell(store, options);
      return signals.find(({ signal }) => signal === "PROVISIONING_REPORT");
    };
    const pair = (store: HypervTree): string | undefined =>
      pairsOf(readFileSync(store.tree.path(1))).findLast(([key]) => key === "PROVISIONING_REPORT")?.[1];

    it("is a pair of pool 1, with the machine's id in the order of its firmware", async () => {
      await using store = await HypervTree.start();
      addFiles(store.tree.sysroot, { "sys/class/dmi/id/product_uuid": `${UUID}\n` });
      expect(await report(store)).to.deep.include({ sent: true });
      expect(pair(store)).to.match(
        /^result=success\|agent=pvbus\|timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\|vm_id=ddccbbaa-ffee-1100-2233-445566778899$/,
      );
      addFiles(store.tree.sysroot, { "sys/firmware/efi/": "" });
      await report(store, { ready: false, status: "no|lease" });
      expect(pair(store)).to.match(
        /^result=error\|'reason=no\|lease'\|agent=pvbus\|vm_id=aabbccdd-eeff-0011-2233-445566778899\|timestamp=/,
      );
    });

    it("is refused where an agent has that place, and without the machine's id", async () => {
      await using store = await HypervTree.start();
      expect((await report(store))?.detail).to.contain("ERR_PERMISSION");
      addFiles(store.tree.sysroot, { "sys/class/dmi/id/product_uuid": UUID, "usr/bin/cloud-init": "" });
      const refused = await report(store);
      expect(refused?.sent).to.equal(false);
      expect(refused?.detail).to.contain("cloud-init").and.contain("ERR_BUSY");
      expect(pair(store)).to.equal(undefined);
    });
  });

  describe("through vmm.notify_socket", () => {
    const python = findPython("import socket; socket.AF_UNIX");
    /** Starts a listener for datagrams; gives its path and what it will have heard. */
    const listen = async (folder: string) => {
      const path = join(folder, "notify");
      const script = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening", flush=True)
print(s.recv(4096).hex(), flush=True)`;
      const { child, done } = start(python as string, ["-c", script, path]);
      const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
      await lines.next();
      return {
        path,
        heard: async () => Buffer.from((await lines.next()).value ?? "", "hex").toString(),
        end: async () => {
          child.kill();
          await done;
        },
      };
    };
    const credential = (text: string): void =>
      addFiles(sysroot, { "run/credentials/@system/vmm.notify_socket": text });
    const notify = async (options: ReadyOptions = {}) => {
      await using store = new KvmTree();
      return (await tell(store, options)).find(({ signal }) => signal === "vmm.notify_socket");
    };

    it("wakes a listener of datagrams", async function () {
      if (python === undefined) return pending(this, "python3");
      const listener = await listen(sysroot);
      try {
        credential(listener.path);
        expect(await notify({ status: "up" })).to.deep.equal({
          signal: "vmm.notify_socket",
          sent: true,
          detail: listener.path,
        });
        expect(await listener.heard()).to.equal("READY=1\nSTATUS=up");
      } finally {
        await listener.end();
      }
    });

    it("is left to systemd where that tells it, but not a failure or a status", async function () {
      if (python === undefined) return pending(this, "python3");
      const listener = await listen(sysroot);
      try {
        credential(listener.path);
        addFiles(sysroot, {
          "proc/1/comm": "systemd\n",
          "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-254.so": "",
        });
        expect((await notify())?.detail).to.equal("systemd 254 tells the host by itself");
        expect((await notify({ ready: false, status: "no disk" }))?.sent).to.equal(true);
        expect(await listener.heard()).to.equal("STATUS=no disk\nERRNO=1");
      } finally {
        await listener.end();
      }
    });

    it("says why nothing was sent", async () => {
      expect(await notify()).to.equal(undefined);
      credential("nowhere");
      expect(await notify()).to.deep.include({ sent: false });
      credential(join(sysroot, "nobody"));
      expect((await notify())?.detail).to.contain("ERR_UNAVAILABLE");
    });
  });
});
