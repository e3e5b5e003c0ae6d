import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import { type OpenOptions, openPvbus } from "../../src/index.js";
import { writeNoCloudSeed } from "../../src/tools/index.js";
import { BOOT_STORES, KvmTree, VmwareSocket } from "../support/boot-stores.js";
import { type CloudInit, cloudInit } from "../support/cloud-init.js";
import { run } from "../support/command-line.js";
import { openVmTools } from "../support/open-vm-tools.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { hasQemu, QemuPorts } from "../support/qemu.js";
import { underVmware, whyNoTrapHost } from "../support/trap-host/trap-host.js";
import { fileTree, removeTree } from "../support/trees.js";
import { startOxenstored, startXenstored, whyNoOxenstored, whyNoXenstored } from "../support/xen/daemons.js";

const CONFIG =
  "#cloud-config\nhostname: from-the-host\nwrite_files:\n  - {path: /etc/marker, content: grüße}\n";
const NETWORK = "version: 2\n";

/** NoCloud as it reads seeds before there is a network, without looking for disks; several directories, one after the other. */
const NOCLOUD = `import json, sys
from cloudinit import helpers
from cloudinit.sources import DataSourceNoCloud
text = lambda value: value if value is None or isinstance(value, str) else value.decode()
taken = []
for cloud in sys.argv[1:]:
    paths = helpers.Paths({"cloud_dir": cloud, "run_dir": cloud + "/run", "templates_dir": cloud})
    ds = DataSourceNoCloud.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
    found = ds.get_data()
    taken.append({
        "found": found,
        "user": text(ds.get_userdata_raw()),
        "vendor": text(ds.get_vendordata_raw()),
        "id": ds.get_instance_id() if found else None,
        "network": ds.network_config,
    })
print(json.dumps(taken))`;

/** DataSourceVMware through the vendor's tool, which PATH names; the firmware says VMware. */
const VMWARE = `import json
from cloudinit import dmi, helpers
dmi.read_dmi_data = lambda key: {"system-product-name": "VMware Virtual Platform", "product-uuid": "11223344-5566-7788-99AA-BBCCDDEEFF00"}.get(key, "")
from cloudinit.sources import DataSourceVMware
DataSourceVMware.dmi = dmi
ds = DataSourceVMware.DataSourceVMware({}, None, helpers.Paths({}))
found = ds._get_data()
text = lambda value: value if value is None or isinstance(value, str) else value.decode()
print(json.dumps({"found": found, "user": text(ds.userdata_raw), "id": ds.metadata["instance-id"]}))`;

/** Hands its arguments to the test, which runs the vendor's own tool under the trap host, and does what that did. */
const RPCTOOL = `#!/usr/bin/python3
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["PVBUS_TEST_RPC"])
s.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
s.shutdown(socket.SHUT_WR)
answer = json.loads(b"".join(iter(lambda: s.recv(65536), b"")))
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["code"])`;

type Give = (name: string, value: string) => Promise<unknown>;

/** Has a host give the same. */
async function giveAll(give: Give): Promise<void> {
  await give("user-data", CONFIG);
  await give("vendor-data", "vendor");
  await give("network-config", NETWORK);
}

/** A seed that was written from a store. */
interface Seed {
  readonly cloud: string;
  readonly id: string | undefined;
}

describe("cloud-init of Debian, as it is", function () {
  this.timeout(300_000);
  let folder: string;
  const seeds = new Map<string, Seed>();

  const write = async (name: string, open: OpenOptions): Promise<void> => {
    await using bus = await openPvbus(open);
    const cloud = join(folder, name);
    const { instanceId: id } = await writeNoCloudSeed(bus, join(cloud, "seed/nocloud"));
    mkdirSync(join(cloud, "run"));
    seeds.set(name, { cloud, id });
  };

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-seed-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const [type, start] of Object.entries(BOOT_STORES))
    it(`has a seed from ${type}'s simulator`, async () => {
      await using store = await start();
      await giveAll((name, value) => store.give(name, value));
      await write(type, store.open);
    });

  for (const [name, why, start] of [
    ["oxenstored", whyNoOxenstored, startOxenstored],
    ["xenstored", whyNoXenstored, startXenstored],
  ] as const)
    it(`has a seed from Debian's ${name}`, async function () {
      const missing = why();
      if (missing !== undefined) return pending(this, missing);
      await using daemon = await start();
      const open = { detect: false, interfaces: [{ type: "Xen", channel: `unix:${daemon.path}` }] };
      // Without Xen whoever connects is dom0, and has a place of its own.
      await using bus = await openPvbus(open);
      await giveAll(async (key, value) => bus.primary?.write(`vm-data/org@2epvbus/${key}`, value));
      await write(name, open);
    });

  it("has a seed from QEMU's fw_cfg", async function () {
    if (!hasQemu()) return pending(this, "QEMU (apt-get install qemu-system-x86)");
    const args: string[] = [];
    await giveAll(async (name, value) => {
      const file = join(folder, name);
      writeFileSync(file, value);
      args.push("-fw_cfg", `name=opt/org.pvbus/${name},file=${file}`);
    });
    await using machine = new QemuPorts(args);
    const items = await machine.items((name) => name.startsWith("opt/"));
    await using store = new KvmTree(Object.fromEntries(items));
    await write("fw_cfg", store.open);
  });

  for (const suite of ["bookworm", "trixie"] as const)
    describe(`of ${suite}`, () => {
      let subject: CloudInit;
      before(function () {
        const found = cloudInit(suite);
        if ("why" in found) return pending(this, found.why);
        subject = found;
      });

      it("takes one cloud-config from each of them", async () => {
        expect(subject.version).to.match(suite === "bookworm" ? /^22\./ : /^25\./);
        expect(seeds.size).to.be.at.least(4);
        const taken = await subject.run(
          NOCLOUD,
          Array.from(seeds.values(), ({ cloud }) => cloud),
        );
        expect(taken).to.deep.equal(
          Array.from(seeds.values(), ({ id }) => ({
            found: true,
            user: CONFIG,
            vendor: "vendor",
            id,
            network: { version: 2 },
          })),
        );
      });

      it("is not switched off by its generator where the file of the documentation is", () => {
        const text = readFileSync(join(ROOT, "docs/portable-tools.md"), "utf8");
        const [, path = "", file = ""] = /```yaml\n# \/(\S+)\n(.*?)```/s.exec(text) ?? [];
        const root = fileTree({ [path]: file, "run/": "", "proc/": "", "sys/class/dmi/id/": "" });
        try {
          const { status, stderr } = spawnSync(
            "sh",
            [join(subject.directory, "usr/lib/cloud-init/ds-identify"), "--force"],
            {
              encoding: "utf8",
              env: {
                ...process.env,
                PATH_ROOT: root,
                PATH_RUN: join(root, "run"),
                KERNEL_CMDLINE: "",
                DI_LOG: "stderr",
              },
            },
          );
          expect(status, stderr).to.equal(0);
          expect(readFileSync(join(root, "run/cloud-init/cloud.cfg"), "utf8")).to.contain(
            "[ NoCloud, None ]",
          );
        } finally {
          removeTree(root);
        }
      });

      it("takes it through VMware's tool, and userdata gives the same", async function () {
        const tools = openVmTools();
        if ("why" in tools) return pending(this, tools.why);
        const missing = whyNoTrapHost();
        if (missing !== undefined) return pending(this, missing);
        const variables = {
          "guestinfo.userdata": gzipSync(CONFIG).toString("base64"),
          "guestinfo.userdata.encoding": "gzip+base64",
          "guestinfo.metadata": '{"instance-id": "i-7"}',
        };
        const ask = async (args: readonly string[]) => {
          const { report, stdout, stderr } = await underVmware([tools.program("vmware-rpctool"), ...args], {
            env: tools.env,
            variables,
          });
          return { stdout, stderr, code: report.code ?? 1 };
        };
        const socket = join(folder, `rpc-${suite}`);
        await using _ = await serving(socket, ask);
        writeFileSync(join(folder, "vmware-rpctool"), RPCTOOL, { mode: 0o755 });
        const taken = await subject.run(VMWARE, [], {
          ...process.env,
          PATH: `${folder}:${process.env["PATH"]}`,
          PVBUS_TEST_RPC: socket,
        });
        expect(taken).to.deep.equal({ found: true, user: CONFIG, id: "i-7" });
        await using store = await VmwareSocket.start(variables);
        const ours = await run(["userdata", "get", "user-data", ...store.args]);
        expect(ours).to.deep.equal({ code: 0, stdout: CONFIG, stderr: "" });
      });
    });
});

/** Answers each connection's one line with what `ask` gives. */
async function serving(
  path: string,
  ask: (args: readonly string[]) => Promise<unknown>,
): Promise<AsyncDisposable> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    socket.on("data", (part) => parts.push(part));
    socket.on("end", () => {
      const args = JSON.parse(Buffer.concat(parts).toString()) as string[];
      ask(args).then(
        (answer) => socket.end(JSON.stringify(answer)),
        () => socket.destroy(),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
