import { chownSync, closeSync, constants, existsSync, openSync } from "node:fs";
import { expect } from "chai";
import { KvmProvider, type KvmStore } from "../../../../providers/kvm/index.js";
import { findTransport, namedTransport, portNames } from "../../../../providers/kvm/transport/channels.js";
import { KvmHostSimulator } from "../../../../providers/testing.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import { openLibc } from "../../../../src/native/ffi/open-libc.js";
import { DeviceStream } from "../../../../src/native/posix/device-stream.js";
import { tryLockFile } from "../../../../src/native/posix/file-lock.js";
import { makeRaw } from "../../../../src/native/posix/terminal.js";
import { listenVsock, VMADDR_CID_LOCAL, VMADDR_PORT_ANY } from "../../../../src/native/posix/vsock.js";
import { turn } from "../../../support/descriptors.js";
import { DeviceDuplex, openPty } from "../../../support/device-duplex.js";
import { withDevices } from "../../../support/host-files.js";
import { pending } from "../../../support/pending.js";
import { findPython, start } from "../../../support/processes.js";
import { rejects } from "../../../support/rejects.js";
import { addFiles, asNobody, fileTree, removeTree } from "../../../support/trees.js";

/* Linux' asm-generic/ioctls.h: nobody else may open this terminal, everybody may. */
const TIOCEXCL = 0x540c;
const TIOCNXCL = 0x540d;
const isLinux = process.platform === "linux";
const call = (timeoutMs = 5_000): Call => new Call({ timeoutMs });
const text = (value: Uint8Array | undefined): string | undefined =>
  value && Buffer.from(value).toString("utf8");

describe(`channel over devices${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let host: KvmHostSimulator;
  let line: DeviceDuplex;
  const stores: KvmStore[] = [];
  const cleanups: (() => void)[] = [];

  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    host = new KvmHostSimulator();
    host.set("k", "value");
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    host.disconnect();
    for (const cleanup of cleanups.splice(0)) cleanup();
  });

  async function open(channel: string, options = {}): Promise<KvmStore> {
    const store = await new KvmProvider(nodeHost({ platform: "linux" })).open({ channel, options });
    stores.push(store);
    return store;
  }

  /** A terminal whose other end is the host; fresh, it echoes and edits lines. */
  async function terminal(): Promise<string> {
    const { fd, path, keeper } = openPty();
    cleanups.push(() => closeSync(keeper));
    line = await DeviceDuplex.over((options) => new DeviceStream(fd, options));
    host.serve(line);
    return path;
  }

  describe("serial line", () => {
    it("carries any bytes, through a terminal driver that would echo them and change line ends", async () => {
      const store = await open(`serial:${await terminal()}`);
      const value = Buffer.from(Array.from({ length: 20_000 }, (_, at) => (at * 7) & 0xff));
      await store.write?.("meta/bytes", value, call());
      expect(host.get("bytes")).to.deep.equal(value);
      expect(Buffer.from((await store.read("meta/bytes", call())) ?? [])).to.deep.equal(value);
      expect(text(await store.read("meta/k", call()))).to.equal("value");
    });

    it("is waited for by its lock, opened once, by one of this process at a time and in the order of arrival", async () => {
      const path = await terminal();
      const opened: number[] = [];
      const tried: number[] = [];
      const program = async (at: number): Promise<KvmStore> => {
        const machine = withDevices(nodeHost({ platform: "linux" }), new Map([["/dev/ttyS1", path]]));
        const counted = {
          ...machine,
          files: {
            ...machine.files,
            open: (...given: Parameters<typeof machine.files.open>): number => {
              opened.push(at);
              return machine.files.open(...given);
            },
          },
        };
        const options = { idleMs: 0, connectTimeoutMs: 60_000 };
        const store = await new KvmProvider(counted).open({ channel: "serial:/dev/ttyS1", options });
        stores.push(store);
        return store;
      };
      const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
      cleanups.push(() => closeSync(fd));
      const lock = tryLockFile(fd, { mode: "exclusive", flock: false });
      const reads: Promise<unknown>[] = [];
      for (const at of [0, 1, 2]) {
        const store = await program(at);
        reads.push(store.read("meta/k", call(60_000)).then(() => tried.push(at)));
        while (!opened.includes(at)) await turn();
      }
      // Far longer than one who looks again and again would leave the line closed.
      await new Promise((resolve) => setTimeout(resolve, 600));
      expect(opened).to.deep.equal([0, 1, 2]);
      lock?.release();
      await Promise.all(reads);
      expect(opened).to.deep.equal([0, 1, 2]);
      expect(tried).to.deep.equal([0, 1, 2]);
    });

    it("gives its host the whole of the time for an answer, however long it was waited for", async () => {
      const path = await terminal();
      const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
      cleanups.push(() => closeSync(fd));
      const lock = tryLockFile(fd, { mode: "exclusive", flock: false });
      const silent = line.listeners("data") as ((data: Buffer) => void)[];
      line.removeAllListeners("data");
      const heard: Buffer[] = [];
      line.on("data", (data: Buffer) => heard.push(data));
      const store = await open(`serial:${path}`, { connectTimeoutMs: 2_000 });
      const reading = store.read("meta/k", call(60_000));
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      lock?.release();
      // It hears the first words, and takes longer than what is left of the time that the line was waited for.
      while (heard.length === 0) await turn();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      line.removeAllListeners("data");
      for (const listener of silent) {
        line.on("data", listener);
        for (const data of heard) listener(data);
      }
      expect(text(await reading)).to.equal("value");
    });

    it("is given back when it is not used, and opened again", async () => {
      const path = await terminal();
      const store = await open(`serial:${path}`, { idleMs: 1 });
      const other = await open(`serial:${path}`, { idleMs: 1 });
      for (let round = 0; round < 3; round++) {
        expect(text(await store.read("meta/k", call()))).to.equal("value");
        expect(text(await other.read("meta/k", call()))).to.equal("value");
      }
    });

    it("is shared in turns with programs that lock it as the metadata tools do", async function () {
      const python = findPython("import fcntl");
      if (python === undefined) {
        return pending(this, "no Python 3");
      }
      const path = await terminal();
      const hold = `import fcntl,os,sys; fd=os.open(sys.argv[1], os.O_RDWR|os.O_NOCTTY|os.O_NONBLOCK)
fcntl.lockf(fd, fcntl.LOCK_EX); print("held", flush=True); sys.stdin.read()`;
      const { spawn } = await import("node:child_process");
      const holder = spawn(python, ["-c", hold, path], { stdio: ["pipe", "pipe", "inherit"] });
      await new Promise((resolve) => holder.stdout.once("data", resolve));
      const store = await open(`serial:${path}`);
      const error = await rejects(store.read("meta/k", call(400)), "ERR_BUSY");
      expect(error.message).to.include(`process ${holder.pid}`);
      const waiting = store.read("meta/k", call());
      holder.stdin.end();
      expect(text(await waiting)).to.equal("value");
      const attempt = `import fcntl,os,sys; fd=os.open(sys.argv[1], os.O_RDWR|os.O_NOCTTY|os.O_NONBLOCK)
try: fcntl.lockf(fd, fcntl.LOCK_EX|fcntl.LOCK_NB)
except OSError: print("taken")`;
      expect((await start(python, ["-c", attempt, path]).done).stdout).to.equal("taken\n");
    });

    it("shows no sign when its host is started anew: requests go on, and a watch finds what it was not told", async () => {
      const store = await open(`serial:${await terminal()}`, { confirmMs: 50 });
      const abort = new AbortController();
      const during = new Call({ signal: abort.signal, timeoutMs: Number.POSITIVE_INFINITY });
      const another = new KvmHostSimulator();
      const changes = store.watch?.("meta/", during, {
        ready: () => {
          line.removeAllListeners("data");
          another.set("k", "from another");
          another.serve(line);
        },
      });
      expect(text((await changes?.next())?.value?.value)).to.equal("from another");
      expect(text(await store.read("meta/k", call()))).to.equal("from another");
      another.set("k", "told");
      expect(text((await changes?.next())?.value?.value)).to.equal("told");
      abort.abort();
      await changes?.return(undefined);
    });

    it("says what is not there, and what is no line", async () => {
      await rejects((await open("serial:/dev/no-such-tty")).read("meta/k", call()), "ERR_UNAVAILABLE");
      const fifo = fileTree({ file: "" });
      cleanups.push(() => removeTree(fifo));
      await rejects((await open(`serial:${fifo}/file`)).read("meta/k", call()), "ERR_UNAVAILABLE");
    });
  });

  describe("port", () => {
    /** Stands in for a virtio port: a terminal in raw mode passes bytes as one does. */
    async function port(): Promise<string> {
      const path = await terminal();
      const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
      makeRaw(fd);
      cleanups.push(() => closeSync(fd));
      return path;
    }

    it("is opened by its path, and by its name where udev made no link", async () => {
      const path = await port();
      expect(text(await (await open(`port:${path}`)).read("meta/k", call()))).to.equal("value");
    });

    it("is found by its name below a sysroot, however its device is called", async () => {
      const sysroot = fileTree({
        "sys/class/virtio-ports/vport0p1/name": "org.qemu.guest_agent.0\n",
        "sys/class/virtio-ports/vport2p7/name": "org.pvbus.mdata.0\n",
        "dev/": "",
      });
      cleanups.push(() => removeTree(sysroot));
      const devices = new Map([["/dev/vport2p7", await port()]]);
      const at = withDevices(nodeHost({ sysroot, platform: "linux" }), devices);
      expect(portNames(at)).to.deep.equal(["org.qemu.guest_agent.0", "org.pvbus.mdata.0"]);
      for (const channel of [undefined, "port:org.pvbus.mdata.0", "port:/dev/vport2p7"]) {
        const store = await new KvmProvider(at).open({ channel, options: { idleMs: 0 } });
        stores.push(store);
        expect(text(await store.read("meta/k", call())), channel).to.equal("value");
      }
    });

    it("waits for another program to close it", async () => {
      const path = await port();
      if (process.geteuid?.() === 0) chownSync(path, 65534, 65534);
      // For root a terminal is never taken.
      await asNobody(async () => {
        const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
        const ioctl = openLibc().function("int ioctl(int, unsigned long, ...)");
        expect(ioctl(fd, TIOCEXCL)).to.equal(0);
        const store = await open(`port:${path}`);
        const error = await rejects(store.read("meta/k", call(100)), "ERR_BUSY");
        expect(error.message).to.include("one at a time");
        const waiting = store.read("meta/k", call());
        ioctl(fd, TIOCNXCL);
        closeSync(fd);
        expect(text(await waiting)).to.equal("value");
      });
    });
  });

  describe("vsock", () => {
    it("carries the channel", async function () {
      if (!existsSync("/sys/module/vsock_loopback")) {
        return pending(this, "no vsock loopback (modprobe vsock_loopback)");
      }
      const listener = listenVsock({ port: VMADDR_PORT_ANY });
      cleanups.push(() => listener.close());
      const accepted = DeviceDuplex.over((options) => listener.accept(options)).then((end) =>
        host.serve(end),
      );
      const store = await open(`vsock:${VMADDR_CID_LOCAL}:${listener.port}`);
      expect(text(await store.read("meta/k", call()))).to.equal("value");
      await accepted;
    });

    it("says that nobody listens, or that there is no vsock", async () => {
      const store = await open("vsock:1:4242");
      await rejects(store.read("meta/k", call()), "ERR_UNAVAILABLE");
    });
  });
});

describe("channel of a machine", () => {
  let sysroot: string;
  const found = (platform: NodeJS.Platform = "linux"): string | undefined =>
    findTransport(nodeHost({ sysroot, platform }), "org.pvbus.mdata.0")?.name;
  beforeEach(() => {
    sysroot = fileTree({ "dev/ttyS1": "", "dev/cuau1": "" });
  });
  afterEach(() => removeTree(sysroot));

  it("is the port of that name before a zone's socket, and that before a serial line", () => {
    addFiles(sysroot, { "sys/class/dmi/id/product_name": "SmartDC HVM\n" });
    expect(found()).to.equal("serial:/dev/ttyS1");
    expect(found("freebsd")).to.equal("serial:/dev/cuau1");
    addFiles(sysroot, { ".zonecontrol/metadata.sock": "" });
    expect(found()).to.equal("unix:/.zonecontrol/metadata.sock");
    addFiles(sysroot, { "native/.zonecontrol/metadata.sock": "" });
    expect(found()).to.equal("unix:/native/.zonecontrol/metadata.sock");
    addFiles(sysroot, { "sys/class/virtio-ports/vport0p3/name": "org.pvbus.mdata.0\n" });
    expect(found()).to.equal("port:org.pvbus.mdata.0");
  });

  it("is never a serial line of a machine whose firmware does not say so: it may be a modem", () => {
    expect(found()).to.equal(undefined);
    addFiles(sysroot, { "sys/class/dmi/id/product_name": "Standard PC\n" });
    expect(found()).to.equal(undefined);
  });

  it("knows the boot of a Linux machine, and none where the file says anything else", () => {
    const boots = (): Set<string | undefined> =>
      new Set(
        ["serial:/dev/ttyS1", "unix:/meta.sock", "vsock:2:5000"].map((channel) =>
          namedTransport(nodeHost({ sysroot, platform: "linux" }), channel).boot?.(),
        ),
      );
    const boot = (): string | undefined => {
      const [known, ...others] = boots();
      expect(others).to.deep.equal([]);
      return known;
    };
    expect(boot()).to.equal(undefined);
    for (const [text, known] of [
      ["0a1b2c3d-4e5f-6789-abcd-ef0123456789", true],
      ["0a1b2c3d4e5f6789abcdef0123456789", true],
      ["0a1b2c3d 0", false],
      ["0A1B2C3D-4E5F-6789-ABCD-EF0123456789", false],
      ["-", false],
      ["", false],
    ] as const) {
      addFiles(sysroot, { "proc/sys/kernel/random/boot_id": `${text}\n` });
      expect(boot(), text).to.equal(known ? text : undefined);
    }
    const live = namedTransport(nodeHost({ platform: "linux" }), "serial:/dev/ttyS1").boot?.();
    if (isLinux) expect(live).to.match(/^[0-9a-f-]{36}$/);
  });

  it("is none on a port of another name", () => {
    addFiles(sysroot, { "sys/class/virtio-ports/vport0p3/name": "org.qemu.guest_agent.0\n" });
    expect(found()).to.equal(undefined);
  });
});
