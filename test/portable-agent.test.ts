import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { expect } from "chai";
import { encodeRecord } from "../providers/hyperv/protocol/record.js";
import { openAdministration } from "../providers/kvm/host/index.js";
import { HypervHostSimulator, KvmHostSimulator, VmxHost, XenStoreSimulator } from "../providers/testing.js";
import { openPvbus, type PortableLayout, type ProviderStore } from "../src/index.js";
import { note } from "./support/campaign.js";
import { PROGRAM } from "./support/command-line.js";
import { pending } from "./support/pending.js";
import { PoolTree, ROOT } from "./support/pools.js";
import { start } from "./support/processes.js";
import { underVmware, whyNoTrapHost } from "./support/trap-host/trap-host.js";
import { SimulatedVmx } from "./support/vmware.js";
import { startOxenstored, startXenstored, whyNoOxenstored, whyNoXenstored } from "./support/xen/daemons.js";

const NAMESPACE = "com.example.agent";
const CONFIG = Array.from({ length: 100 }, (_, at) => `setting-${at} = on`).join("\n");
const REPORT = Array.from({ length: 400 }, (_, at) => `check ${at + 1}: passed`).join("\n");
const EXPECTED = `role: web
secret: 7 bytes
config: ${CONFIG.length} bytes
report: ${REPORT.length} bytes
status: web is up
`;

/** A store and what its host's administrator does. */
interface Place {
  /** What names it on a command line; nothing where it is found by itself. */
  readonly named?: { readonly type: string; readonly channel?: string };
  readonly env?: NodeJS.ProcessEnv;
  /** Sets native keys from outside. */
  give(values: ReadonlyMap<string, string>): Promise<void>;
  close(): Promise<void>;
}

const PLACES: readonly {
  readonly name: string;
  readonly why?: () => string | undefined;
  open(): Promise<Place>;
}[] = [
  {
    name: "Hyper-V, simulated",
    open: async () => {
      const tree = new PoolTree();
      const host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
      await host.setParameters({ VirtualMachineName: "vm" });
      return {
        env: { PVBUS_SYSROOT: tree.sysroot },
        give: async (values) => {
          const items = [...values].map(([key, data]) => ({ name: key.slice("External/".length), data }));
          await host.removeKvpItems(items.map(({ name }) => name)).catch(() => undefined);
          await host.addKvpItems(items);
        },
        close: () => tree[Symbol.asyncDispose](),
      };
    },
  },
  {
    name: "pool files",
    open: async () => {
      const tree = new PoolTree();
      return {
        named: { type: "Hyper-V" },
        env: { PVBUS_SYSROOT: tree.sysroot },
        give: async (values) => {
          const records = [...values].map(([key, value]) =>
            encodeRecord({ key: Buffer.from(key.slice("External/".length)), value: Buffer.from(value) }),
          );
          tree.put(0, Buffer.concat(records));
        },
        close: () => tree[Symbol.asyncDispose](),
      };
    },
  },
  {
    name: "VMware, simulated",
    open: async () => {
      const host = new VmxHost();
      const machine = await SimulatedVmx.start(host);
      return {
        named: { type: "VMware", channel: machine.channel },
        give: async (values) => {
          for (const [key, value] of values) host.set(key, value);
        },
        close: () => machine[Symbol.asyncDispose](),
      };
    },
  },
  {
    name: "Xen, simulated",
    open: async () => {
      const host = await XenStoreSimulator.listen();
      host.createDomain(1);
      return {
        named: { type: "Xen", channel: `unix:${await host.listenFor(1)}` },
        give: async (values) => {
          for (const [key, value] of values) {
            host.write(`/local/domain/1/${key}`, value);
            host.setPermissions(`/local/domain/1/${key}`, "n1");
          }
        },
        close: () => host.close(),
      };
    },
  },
  {
    name: "KVM, simulated",
    open: async () => {
      const folder = mkdtempSync(join(tmpdir(), "pvbus-agent-"));
      const host = new KvmHostSimulator();
      await host.listen(join(folder, "meta"));
      return {
        named: { type: "KVM", channel: `unix:${join(folder, "meta")}` },
        give: async (values) => {
          for (const [key, value] of values) host.set(key.slice("meta/".length), value);
        },
        close: async () => {
          await host.stop();
          rmSync(folder, { recursive: true });
        },
      };
    },
  },
  {
    name: "pvbus host serve",
    open: async () => {
      const folder = mkdtempSync(join(tmpdir(), "pvbus-agent-"));
      const at = ["--state", join(folder, "state"), "--guest"];
      const guest = `web-1=unix:${join(folder, "sock")}`;
      const { child, done } = start(process.execPath, [PROGRAM, "host", "serve", ...at, guest]);
      await new Promise<void>((resolve, reject) => {
        let said = "";
        (child.stderr as Readable).on("data", (text: string) => {
          said += text;
          if (said.includes('"event":"serving"')) resolve();
        });
        done.then(({ stderr }) => reject(new Error(stderr)), reject);
      });
      return {
        named: { type: "KVM", channel: `unix:${join(folder, "sock")}` },
        give: async (values) => {
          await using keys = await openAdministration(join(folder, "state"));
          for (const [key, value] of values)
            await keys.set("web-1", key.slice("meta/".length), Buffer.from(value));
        },
        close: async () => {
          child.kill("SIGTERM");
          await done;
          rmSync(folder, { recursive: true });
        },
      };
    },
  },
  {
    name: "Debian's C xenstored",
    why: whyNoXenstored,
    open: async () => {
      const daemon = await startXenstored();
      const channel = `unix:${await daemon.guest(1)}`;
      return {
        named: { type: "Xen", channel },
        give: (values) => giveXen(daemon.path, 1, values),
        close: () => daemon.stop(),
      };
    },
  },
  {
    name: "Debian's oxenstored",
    why: whyNoOxenstored,
    open: async () => {
      const daemon = await startOxenstored();
      return {
        named: { type: "Xen", channel: `unix:${daemon.path}` },
        give: (values) => giveXen(daemon.path, 0, values),
        close: () => daemon.stop(),
      };
    },
  },
];

/** Does what a toolstack does: dom0 writes, and lets the guest erase. */
async function giveXen(path: string, domain: number, values: ReadonlyMap<string, string>): Promise<void> {
  const bus = await openPvbus({ detect: false, interfaces: [{ type: "Xen", channel: `unix:${path}` }] });
  try {
    const dom0 = bus.byType("Xen");
    for (const [key, value] of values) {
      const node = `/local/domain/${domain}/${key}`;
      await dom0?.write(node, value);
    }
  } finally {
    await bus.close();
  }
}

/** Returns the native keys of what the host gives: a plain value as it is, a long one split by the layout of docs/portable-keys.md. */
function nativeKeys({ hostKeys }: Pick<PortableLayout, "hostKeys">): Map<string, string> {
  const keyOf = (name: string): string => hostKeys(NAMESPACE, name)[0] ?? "";
  const sum = createHash("sha256").update(CONFIG).digest("hex").slice(0, 32);
  const chunks = CONFIG.match(/[\s\S]{1,700}/g) ?? [];
  const values = new Map([
    [keyOf("role"), "web"],
    [keyOf("secret"), "s3cr3t!"],
  ]);
  for (const [at, chunk] of chunks.entries()) values.set(keyOf(`config__a_${at + 1}`), chunk);
  return values.set(keyOf("config"), `pvbus-set-1 a ${chunks.length} ${CONFIG.length} ${sum}`);
}

async function layoutOf({ named, env }: Place): Promise<PortableLayout> {
  const bus = await openPvbus({
    detect: false,
    sysroot: env?.["PVBUS_SYSROOT"],
    interfaces: [named ?? { type: "Hyper-V" }],
  });
  try {
    const store = (await bus.interfaces[0]?.store()) as ProviderStore;
    return store.portable as PortableLayout;
  } finally {
    await bus.close();
  }
}

describe("one agent program and one agent script, unchanged", function () {
  this.timeout(120_000);
  const compiled = join(ROOT, "dist/examples/portable-agent.js");
  const script = join(ROOT, "examples/portable-agent.sh");
  const printed: string[] = [];
  let bin: string;
  before(() => {
    bin = mkdtempSync(join(tmpdir(), "pvbus-bin-"));
    symlinkSync(PROGRAM, join(bin, "pvbus"));
    // The program's first line asks env(1) for node.
    symlinkSync(process.execPath, join(bin, "node"));
  });
  after(() => {
    rmSync(bin, { recursive: true });
    note(`the same from the program and the script on ${printed.length} stores: ${printed.join(", ")}`);
  });
  const path = (): string => `${bin}:${process.env["PATH"]}`;

  for (const { name, why, open } of PLACES)
    it(`print the same on ${name}`, async function () {
      const missing = why?.();
      if (missing !== undefined) return pending(this, missing);
      const place = await open();
      try {
        const values = nativeKeys(await layoutOf(place));
        const { type, channel } = place.named ?? {};
        const words = [type, channel].filter((each) => each !== undefined);
        const options =
          type === undefined ? [] : ["-t", type, ...(channel === undefined ? [] : ["--channel", channel])];
        for (const command of [
          [process.execPath, compiled, ...words],
          [script, ...options],
        ]) {
          await place.give(values);
          const [program = "", ...args] = command;
          const child = spawn(program, args, { env: { ...process.env, ...place.env, PATH: path() } });
          let [stdout, stderr] = ["", ""];
          child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
          child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
          const [code] = await once(child, "close");
          expect([stdout, stderr, code], program).to.deep.equal([EXPECTED, "", 0]);
        }
        printed.push(name);
      } finally {
        await place.close();
      }
    });

  it("print the same on VMware's port, under the trap host", async function () {
    const why = whyNoTrapHost();
    if (why !== undefined) return pending(this, why);
    const key = (namespace: string, name: string): string[] => [`guestinfo.${namespace}.${name}`];
    const variables = Object.fromEntries(nativeKeys({ hostKeys: key }));
    for (const command of [[process.execPath, compiled], [script]]) {
      const { stdout, stderr, report } = await underVmware(command, {
        variables,
        env: { ...process.env, PATH: path() },
      });
      expect([stdout, stderr, report.code], command.at(-1)).to.deep.equal([EXPECTED, "", 0]);
    }
    printed.push("VMware's port");
  });
});
