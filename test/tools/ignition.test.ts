import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import { type BootStore, HypervTree, KvmTree, VmwareSocket } from "../support/boot-stores.js";
import { run } from "../support/command-line.js";
import { debianTree } from "../support/debian-packages.js";
import { pending } from "../support/pending.js";
import { hasQemu, QemuPorts } from "../support/qemu.js";
import { underVmware, whyNoTrapHost } from "../support/trap-host/trap-host.js";

const CONFIG =
  '{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"/etc/pvbus-marker","contents":{"source":"data:,from-x"}}]}}';
const ITEM = "opt/com.coreos/config";
const VERSION = /^2\.14\./;

/** Shows Ignition a fw_cfg item in a mount namespace of its own; any program will do for the module's loader. */
const QEMU = `set -e
mount -t tmpfs none /sys/firmware
item=/sys/firmware/qemu_fw_cfg/by_name/${ITEM}
mkdir -p $item
cp "$1" $item/raw
wc -c <"$1" >$item/size
shift
PATH=$PVBUS_TEST_PATH:$PATH exec "$@"`;

describe("Ignition of Debian, as it is", function () {
  this.timeout(120_000);
  let program: string;
  let folder: string;
  before(function () {
    if (process.platform !== "linux" || process.arch !== "x64") return pending(this, "x86-64 Linux");
    try {
      const { directory, version } = debianTree("ignition", ["ignition"], "bookworm");
      expect(version).to.match(VERSION);
      program = join(directory, "usr/lib/dracut/modules.d/30ignition/ignition");
    } catch (error) {
      return pending(this, `Debian's Ignition: ${(error as Error).message}`);
    }
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-ignition-"));
    mkdirSync(join(folder, "root"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const argumentsFor = (platform: string): string[] => [
    "--stage=fetch",
    `--platform=${platform}`,
    "--log-to-stdout",
    `--root=${join(folder, "root")}`,
    `--config-cache=${join(folder, "cache")}`,
    `--state-file=${join(folder, "state")}`,
    `--neednet=${join(folder, "neednet")}`,
  ];
  const files = (): string[] => {
    const cached = JSON.parse(readFileSync(join(folder, "cache"), "utf8"));
    return (cached.storage.files ?? []).map(({ path }: { path: string }) => path);
  };

  /** Has Ignition take a configuration from fw_cfg. */
  const onQemu = (self: Mocha.Context, config: string | Uint8Array) => {
    if (spawnSync("unshare", ["-m", "true"]).status !== 0)
      return pending(self, "root, for a mount namespace");
    const file = join(folder, "config");
    writeFileSync(file, config);
    symlinkSync("/bin/true", join(folder, "modprobe"));
    const args = ["-m", "sh", "-c", QEMU, "sh", file, program, ...argumentsFor("qemu")];
    const env = { ...process.env, PVBUS_TEST_PATH: folder };
    const { status, stdout } = spawnSync("unshare", args, { encoding: "utf8", env });
    return { status, stdout };
  };
  const userdata = async ({ args }: Pick<BootStore, "args">): Promise<string> => {
    const { code, stdout, stderr } = await run(["userdata", "get", "ignition", ...args]);
    expect(stderr).to.equal("");
    expect(code).to.equal(0);
    return stdout;
  };

  for (const [name, start] of [
    [
      "parts of Hyper-V's External",
      async () => {
        const store = await HypervTree.start();
        const parts = [CONFIG.slice(0, 50), CONFIG.slice(50)];
        await store.host.addKvpItems(parts.map((data, at) => ({ name: `ignition.config.${at}`, data })));
        return store;
      },
    ],
    [
      "guestinfo, packed",
      () =>
        VmwareSocket.start({
          "guestinfo.ignition.config.data": gzipSync(CONFIG).toString("base64"),
          "guestinfo.ignition.config.data.encoding": "gz+base64",
        }),
    ],
  ] as const)
    it(`takes what userdata gets from ${name}`, async function () {
      await using store = await start();
      const { status, stdout } = onQemu(this, await userdata(store));
      expect(status, stdout).to.equal(0);
      expect(files()).to.deep.equal(["/etc/pvbus-marker"]);
    });

  it("takes the same from QEMU's fw_cfg as userdata", async function () {
    if (!hasQemu()) return pending(this, "QEMU (apt-get install qemu-system-x86)");
    const file = join(folder, "given");
    writeFileSync(file, CONFIG);
    await using machine = new QemuPorts(["-fw_cfg", `name=${ITEM},file=${file}`]);
    const items = await machine.items((name) => name === ITEM);
    await using store = new KvmTree(Object.fromEntries(items));
    expect(await userdata(store)).to.equal(CONFIG);
    const { status, stdout } = onQemu(this, items.get(ITEM) ?? "");
    expect(status, stdout).to.equal(0);
    expect(files()).to.deep.equal(["/etc/pvbus-marker"]);
  });

  for (const encoding of ["", "base64", "gzip+base64", "gz+b64", "gzip+b64", "BASE64", "rot13", "base64\n"])
    it(`takes and refuses with us, on VMware: ${JSON.stringify(encoding)}`, async function () {
      const missing = whyNoTrapHost();
      if (missing !== undefined) return pending(this, missing);
      const isPacked = encoding.startsWith("g");
      const isEncoded = encoding !== "" && encoding !== "rot13";
      const bytes = isPacked ? gzipSync(CONFIG) : Buffer.from(CONFIG);
      const variables = {
        "guestinfo.ignition.config.data": isEncoded ? bytes.toString("base64") : CONFIG,
        ...(encoding === "" ? {} : { "guestinfo.ignition.config.data.encoding": encoding }),
      };
      const { report, stdout } = await underVmware([program, ...argumentsFor("vmware")], {
        variables,
        clearsUpperHalves: true,
      });
      await using store = await VmwareSocket.start(variables);
      const ours = await run(["userdata", "get", "ignition", ...store.args]);
      expect(ours.code, ours.stderr).to.equal(report.code === 0 ? 0 : 1);
      const isTaken = /^(?:|base64|gz(?:ip)?\+b(?:ase)?64)$/.test(encoding);
      expect(report.code, stdout).to.equal(isTaken ? 0 : 1);
      if (!isTaken) expect(ours.stderr).to.contain("ERR_VALUE_INVALID");
      else {
        expect(ours.stdout).to.equal(CONFIG);
        expect(files()).to.deep.equal(["/etc/pvbus-marker"]);
      }
    });

  it("sees what ignition-rmcfg has removed as an empty configuration, and so do we", async function () {
    const missing = whyNoTrapHost();
    if (missing !== undefined) return pending(this, missing);
    const removing = join(folder, "ignition-rmcfg");
    symlinkSync(program, removing);
    const { report, stdout } = await underVmware([removing, "--platform=vmware", "--log-to-stdout"], {
      variables: {
        "guestinfo.ignition.config.data": Buffer.from(CONFIG).toString("base64"),
        "guestinfo.ignition.config.data.encoding": "base64",
      },
      clearsUpperHalves: true,
    });
    expect(report.code, stdout).to.equal(0);
    const variables = Object.fromEntries(
      Object.entries(report.variables).map(([key, value]) => [key, Buffer.from(value, "base64").toString()]),
    );
    expect(variables["guestinfo.ignition.config.data"]).to.equal("e30K");
    await using store = await VmwareSocket.start(variables);
    const { code, stderr } = await run(["userdata", "get", "ignition", ...store.args]);
    expect([code, stderr]).to.deep.equal([
      1,
      "pvbus: the host gives no ignition (guestinfo.ignition.config.data: Ignition has removed it)\n",
    ]);
  });
});
