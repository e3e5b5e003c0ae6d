import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { DeviceStream } from "../../../src/native/posix/device-stream.js";
import { openPty } from "../../support/device-duplex.js";
import type { HostileRun } from "../../support/hostile-runs.js";
import { pending } from "../../support/pending.js";
import { ROOT } from "../../support/pools.js";
import { addFiles, fileTree, removeTree } from "../../support/trees.js";

const CANARY = "CANARY";
const SNAPSHOT = "snapshot.json";
/** A key that the interface takes. */
const KEYS: Readonly<Record<string, string>> = { "Hyper-V": "Guest/key", VMware: "guestinfo.key" };
/** Everything else that any provider, detection or the command line looks at. */
const FILES = [
  "proc/1/cgroup",
  "proc/1/environ",
  "proc/cpuinfo",
  "proc/device-tree/compatible",
  "proc/device-tree/hypervisor/compatible",
  "proc/sys/kernel/osrelease",
  "proc/xen/capabilities",
  "run/host/container-manager",
  "run/systemd/container",
  "sys/bus/acpi/devices/VMBUS:00/hid",
  "sys/class/dmi/id/bios_vendor",
  "sys/class/dmi/id/board_vendor",
  "sys/class/dmi/id/chassis_asset_tag",
  "sys/class/dmi/id/product_name",
  "sys/class/dmi/id/product_serial",
  "sys/class/dmi/id/sys_vendor",
  "sys/class/virtio-ports/vport9p9/name",
  "sys/firmware/acpi/tables/FACP",
  "sys/firmware/dmi/entries/0-0/raw",
  "sys/firmware/dmi/tables/DMI",
  "sys/firmware/dmi/tables/smbios_entry_point",
  "sys/firmware/qemu_fw_cfg/by_key/1/name",
  "sys/firmware/qemu_fw_cfg/by_key/1/raw",
  "sys/firmware/qemu_fw_cfg/by_key/1/size",
  "sys/firmware/qemu_fw_cfg/rev",
  "sys/hypervisor/type",
  "sys/hypervisor/uuid",
  "var/lib/hyperv/.kvp_pool_0",
  "var/lib/hyperv/.kvp_pool_1",
  "var/lib/hyperv/.kvp_pool_3",
];
const SOCKETS = [
  ".zonecontrol/metadata.sock",
  "native/.zonecontrol/metadata.sock",
  "run/pvbus/lines/ttyS1.sock",
  "run/pvbus/lines/vport0p1.sock",
  "run/xenstored/socket",
  "var/run/smartdc/metadata.sock",
  "var/run/xenstored/socket",
];
const DEVICES = ["dev/ttyS1", "dev/vport0p1", "dev/xen/xenbus", "proc/xen/xenbus", "dev/vmbus/hv_kvp"];
const PLACES = [...FILES, ...SOCKETS, ...DEVICES];

/** What leads a provider on to the places that count: it would stop before them otherwise. */
const PORT = { "sys/class/virtio-ports/vport0p1/name": "org.pvbus.mdata.0\n" };
const SERIAL = { "sys/class/dmi/id/product_name": "SmartDC HVM\n" };
const ITEM = {
  "sys/firmware/qemu_fw_cfg/rev": "3\n",
  "sys/firmware/qemu_fw_cfg/by_key/1/name": "opt/org.pvbus/key\n",
  "sys/firmware/qemu_fw_cfg/by_key/1/size": "6\n",
};

const COMMANDS = [
  ["doctor"],
  ["ls"],
  ["get", "key"],
  ["set", "key", "value"],
  ["rm", "key"],
  ["watch"],
  ["info"],
];
const CHANNELS = [
  ["-t", "KVM", "--channel", "unix:/run/xenstored/socket"],
  ["-t", "KVM", "--channel", "port:/dev/vport0p1"],
  ["-t", "KVM", "--channel", "serial:/dev/ttyS1"],
  ["-t", "VMware", "--channel", "unix:/run/xenstored/socket"],
  ["-t", "Xen", "--channel", "unix:/run/xenstored/socket"],
  ["-t", "Xen", "--channel", "device:/dev/xen/xenbus"],
];
const TYPES = ["Hyper-V", "KVM", "VMware", "Xen"].map((type) => ["-t", type]);
/** Longest time of some commands together. */
const LONGEST_RUN_MS = 50_000;
/** Longest time of one command, beside one second that it is given: generous to a machine that is busy with other tests. */
const SLACK_MS = 4_000;

/** A process that runs commands. */
interface Runner {
  readonly child: ChildProcess;
  readonly lines: AsyncIterator<string>;
}

function startRunner(): Runner {
  const child = spawn(process.execPath, [join(ROOT, "dist/test/support/hostile-runs.js")], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  return { child, lines };
}

describe("hostile tree", function () {
  this.timeout(120_000);
  /** One for all tests, unless a command has to be stopped: a start takes longer than many commands. */
  let runner: Runner | undefined;
  let outside: string;
  let server: Server;
  let connections = 0;
  let terminal: { readonly path: string; readonly keeper: number; readonly stream: DeviceStream };
  let written = 0;
  const trees: string[] = [];

  before(function () {
    if (process.platform !== "linux") {
      return pending(this, "terminals and device nodes are made as Linux has them");
    }
  });
  after(async () => {
    if (runner === undefined) return;
    runner.child.stdin?.end();
    if (runner.child.exitCode === null) await once(runner.child, "exit");
  });
  beforeEach(async () => {
    outside = fileTree(Object.fromEntries(FILES.map((path) => [path, `${CANARY} ${path}`])));
    addFiles(outside, { [`sys/bus/acpi/devices/${CANARY}:00/hid`]: "VMBUS\n" });
    connections = 0;
    server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    server.listen(join(outside, "live.sock"));
    await once(server, "listening");
    const { fd, path, keeper } = openPty();
    written = 0;
    const onData = (data: Buffer): void => {
      written += data.length;
    };
    terminal = {
      path,
      keeper,
      stream: new DeviceStream(fd, { bufferBytes: 4096, onData, onEnd: () => undefined }),
    };
    for (const [targets, places] of [
      [join(outside, "live.sock"), SOCKETS],
      [path, DEVICES],
    ] as const)
      for (const place of places) {
        mkdirSync(dirname(join(outside, place)), { recursive: true });
        symlinkSync(targets, join(outside, place));
      }
    // Reading sets the time of the last access of what was changed since (relatime).
    for (const place of FILES) utimesSync(join(outside, place), 0, new Date());
  });
  afterEach(async () => {
    await terminal.stream.close();
    closeSync(terminal.keeper);
    server.close();
    for (const each of [outside, ...trees.splice(0)]) removeTree(each);
  });

  function tree(files: Readonly<Record<string, string>> = {}): string {
    const root = fileTree(files);
    trees.push(root);
    return root;
  }
  /** Puts something at each place that has nothing yet. */
  function fill(root: string, put: (full: string, place: string) => void, places = PLACES): string {
    for (const place of places) {
      const full = join(root, place);
      mkdirSync(dirname(full), { recursive: true });
      if (statSync(full, { throwIfNoEntry: false }) === undefined) put(full, place);
    }
    return root;
  }
  const linked = (files: Readonly<Record<string, string>> = {}): string =>
    fill(tree(files), (full, place) => symlinkSync(join(outside, place), full));

  /** Runs commands one after the other in a process beside this one. @throws when they do not end in time */
  async function runAll(jobs: readonly (readonly string[])[]): Promise<HostileRun[]> {
    runner ??= startRunner();
    const { child, lines } = runner;
    child.stdin?.write(`${JSON.stringify(jobs)}\n`);
    const runs: HostileRun[] = [];
    let begun: unknown;
    const watchdog = setTimeout(() => child.kill("SIGKILL"), LONGEST_RUN_MS);
    while (runs.length < jobs.length) {
      const { value, done } = await lines.next();
      if (done === true) {
        runner = undefined;
        break;
      }
      const report = JSON.parse(value);
      if ("begun" in report) begun = report.begun;
      else runs.push(report);
    }
    clearTimeout(watchdog);
    expect(runs.length, `it does not end: ${begun}`).to.equal(jobs.length);
    return runs;
  }

  /** Every command on a tree; nothing of it may reach out. */
  async function attack(root: string, selectors: readonly (readonly string[])[]): Promise<HostileRun[]> {
    const common = ["--sysroot", root, "--timeout", "1"];
    const runs = await runAll([
      ["detect", ...common],
      ["detect", "--json", ...common],
      ["snapshot", "--identifiers", ...common],
      ...selectors.flatMap((selector) => {
        const key = new Map(Object.entries(KEYS)).get(selector[1] ?? "") ?? "key";
        const named = (word: string): string => (word === "key" ? key : word);
        return COMMANDS.map((command) => [...selector, ...common, ...command.map(named)]);
      }),
    ]);
    for (const { argv, ms, output } of runs) {
      expect(ms, argv.join(" ")).to.be.lessThan(1_000 + SLACK_MS);
      expect(output, argv.join(" ")).not.to.include(CANARY);
    }
    expect([connections, written]).to.deep.equal([0, 0]);
    const readFiles = FILES.filter((place) => statSync(join(outside, place)).atimeMs !== 0);
    expect(readFiles).to.deep.equal([]);
    return runs;
  }

  it("would be seen to lead out", async () => {
    const control = join(outside, FILES[0] as string);
    readFileSync(control);
    expect(statSync(control).atimeMs).to.be.greaterThan(0);
  });

  it("has links out at every place", async () => {
    const runs = await attack(linked(), [[], ...TYPES, ...CHANNELS]);
    expect(runs.filter(({ code }) => code === 0).length).to.be.greaterThan(3);
  });

  it("has links out behind a port, behind a firmware that names the second serial line, behind an item", async () => {
    const kvm = TYPES.slice(1, 2);
    await attack(linked({ ...PORT, ...ITEM }), kvm);
    await attack(linked({ ...SERIAL }), kvm);
  });

  it("has links out by ways round about: relative, in chains, through the kernel's own links", async () => {
    const root = tree({ ...PORT, ...ITEM });
    symlinkSync(outside, join(root, "hop"));
    symlinkSync("/hop", join(root, "hop2"));
    mkdirSync(join(root, "proc/self"), { recursive: true });
    symlinkSync("/", join(root, "proc/self/root"));
    const ways = [
      (place: string) => relative(dirname(join(root, place)), join(outside, place)),
      (place: string) => `${"../".repeat(30)}${join(outside, place)}`,
      (place: string) => `/hop2/${place}`,
      (place: string) => `/proc/self/root${join(outside, place)}`,
    ];
    let at = 0;
    fill(root, (full, place) =>
      symlinkSync((ways[at++ % ways.length] as (place: string) => string)(place), full),
    );
    await attack(root, [[], ...TYPES, ...CHANNELS.slice(0, 1)]);
  });

  it("has directories that are links out", async () => {
    const root = tree();
    for (const directory of [...new Set(PLACES.map((place) => place.split("/")[0] as string))])
      symlinkSync(join(outside, directory), join(root, directory));
    await attack(root, [[], ...TYPES]);
    const deeper = tree();
    for (const directory of [
      ".zonecontrol",
      "sys/class",
      "sys/bus/acpi/devices",
      "sys/firmware",
      "run/xenstored",
      "run/pvbus",
      "dev/xen",
      "var/lib/hyperv",
      "proc/1",
    ]) {
      mkdirSync(dirname(join(deeper, directory)), { recursive: true });
      symlinkSync(join(outside, directory), join(deeper, directory));
    }
    await attack(deeper, [[], ...TYPES]);
  });

  it("has FIFOs at every place, which nobody writes to", async () => {
    for (const files of [{}, PORT]) {
      const fifos: string[] = [];
      const root = fill(tree(files), (full) => fifos.push(full));
      execFileSync("mkfifo", fifos);
      await attack(root, files === PORT ? TYPES.slice(1, 2) : [[], ...TYPES]);
    }
  });

  it("has device nodes at every place", async function () {
    if (process.geteuid?.() !== 0) {
      return pending(this, "device nodes need root");
    }
    // One that gives bytes without end, and one that is whatever terminal the process has.
    for (const [minor, files] of [
      ["5", {}],
      ["5", PORT],
      ["0", SERIAL],
    ] as const) {
      const nodes: string[] = [];
      const places = files === SERIAL ? [...FILES, ...DEVICES] : PLACES;
      const root = fill(tree(files), (full) => nodes.push(full), places);
      const major = minor === "5" ? "1" : "5";
      execFileSync("sh", [
        "-c",
        `for node; do mknod "$node" c ${major} ${minor} || exit; done`,
        "sh",
        ...nodes,
      ]);
      const runs = await attack(root, [...TYPES, ...CHANNELS.slice(1, 3)]);
      if (files !== PORT && files !== SERIAL) continue;
      const found = runs.find(
        ({ argv }) => argv.join(" ").startsWith("-t KVM --sysroot") && argv.includes("set"),
      );
      expect(found?.output).to.include("name it as a channel");
    }
  });

  it("has a snapshot that is a link out, or no file", async () => {
    const link = tree();
    writeFileSync(join(outside, SNAPSHOT), `${CANARY} {`);
    symlinkSync(join(outside, SNAPSHOT), join(link, SNAPSHOT));
    const [detected] = await attack(link, []);
    expect(detected?.code).to.equal(0);
    const fifo = tree();
    execFileSync("mkfifo", [join(fifo, SNAPSHOT)]);
    const [refused] = await attack(fifo, []);
    expect(refused?.output).to.include("snapshot.json in the sysroot is no JSON");
  });

  it("has a tree that is gone", async () => {
    const root = tree();
    rmSync(root, { recursive: true });
    const [run] = await runAll([["detect", "--sysroot", root]]);
    expect(run?.code).to.equal(2);
  });
});
