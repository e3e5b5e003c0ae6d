import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import ts from "typescript";
import { HypervProvider } from "../providers/hyperv/index.js";
import { HypervHostSimulator, KvmHostSimulator, VmxHost, XenStoreSimulator } from "../providers/testing.js";
import { VmwareProvider } from "../providers/vmware/index.js";
import { XenProvider } from "../providers/xen/index.js";
import { nodeHost } from "../src/base/host/node-host.js";
import { BUILT_IN } from "../src/composition.js";
import { type OpenOptions, openPvbus } from "../src/index.js";
import { BARE, run } from "./support/command-line.js";
import { PoolTree, ROOT } from "./support/pools.js";
import { SimulatedVmx } from "./support/vmware.js";

const VERBS = ["read", "write", "delete", "list", "watch"] as const;

const README = readFileSync(join(ROOT, "README.md"), "utf8");
const NS = "com.example.agent";

/** A guest of one row of the table, and what its host's administrator does. */
interface Row extends AsyncDisposable {
  /** How the interface is named, which detection would have found. */
  readonly options: Pick<OpenOptions, "interfaces" | "sysroot">;
  /** Sets the portable value that the guest gets. */
  give(name: string, value: string): Promise<void> | void;
  /** Reads what the guest has published. */
  published(name: string): Promise<string | undefined> | string | undefined;
}

const ROWS: Readonly<Record<string, () => Promise<Row>>> = {
  "Hyper-V": async () => {
    const tree = new PoolTree();
    const host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
    const given = new Set<string>();
    return {
      options: { sysroot: tree.sysroot, interfaces: [{ type: "Hyper-V" }] },
      give: async (name, value) => {
        const items = [{ name: `${NS}/${name}`, data: value }];
        await (given.has(name) ? host.modifyKvpItems(items) : host.addKvpItems(items));
        given.add(name);
      },
      published: async (name) =>
        (await host.guestItems()).find((each) => each.name === `${NS}/${name}`)?.data,
      [Symbol.asyncDispose]: () => tree[Symbol.asyncDispose](),
    };
  },
  Xen: async () => {
    const xen = await XenStoreSimulator.listen({ domain: 7 });
    xen.createDomain(7);
    const path = (directory: string, name: string): string =>
      `/local/domain/7/${directory}/com@2eexample@2eagent/${name}`;
    return {
      options: { interfaces: [{ type: "Xen", channel: `unix:${xen.path}` }] },
      give: (name, value) => xen.write(path("vm-data", name), value),
      published: (name) => xen.read(path("data", name))?.toString(),
      [Symbol.asyncDispose]: () => xen.close(),
    };
  },
  KVM: async () => {
    const tree = new PoolTree();
    const host = await KvmHostSimulator.listen(join(tree.sysroot, "meta.sock"));
    return {
      options: { sysroot: tree.sysroot, interfaces: [{ type: "KVM", channel: "unix:/meta.sock" }] },
      give: (name, value) => host.set(`${NS}/${name}`, value),
      published: (name) => Buffer.from(host.get(`${NS}/${name}`) ?? "").toString(),
      [Symbol.asyncDispose]: async () => {
        await host.stop();
        await tree[Symbol.asyncDispose]();
      },
    };
  },
  VMware: async () => {
    const host = new VmxHost();
    const vmx = await SimulatedVmx.start(host);
    const fast = { pollMs: 10, longestPollMs: 20 };
    return {
      options: { interfaces: [{ type: "VMware", channel: vmx.channel, options: fast }] },
      give: (name, value) => void host.set(`guestinfo.${NS}.${name}`, Buffer.from(value)),
      published: (name) => Buffer.from(host.get(`guestinfo.${NS}.${name}`) ?? "").toString(),
      [Symbol.asyncDispose]: () => vmx[Symbol.asyncDispose](),
    };
  },
};

/** Returns a block of the page: the first of a language. */
function block(language: string): string {
  const found = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "s").exec(README);
  return found?.[1] ?? "";
}

/** The commands of the first screen that begin so, without their comments. */
const firstCommands = (front: string): string[] =>
  block("sh")
    .split("\n")
    .map((line) => line.replace(/ +#.*/, ""))
    .filter((line) => line.startsWith(front));

describe("README", () => {
  it("begins with the installation, detection and three portable commands", () => {
    const { name } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { name: string };
    expect(firstCommands("npm")).to.deep.equal([`npm install --global ${name}`]);
    expect(firstCommands("pvbus").map((line) => line.split(" ")[1])).to.deep.equal([
      "detect",
      "get",
      "set",
      "watch",
    ]);
    expect(README.indexOf(block("ts")), "what a first screen holds").to.be.lessThan(2500);
  });

  for (const [type, start] of Object.entries(ROWS))
    describe(`on ${type}`, () => {
      const open = (row: Row) => (options: OpenOptions) =>
        openPvbus({ snapshot: BARE, ...options, ...row.options });

      it("runs the three portable commands as they stand", async () => {
        await using row = await start();
        const [get = "", set = "", watch = ""] = firstCommands("pvbus ").slice(1);
        const argv = (line: string): string[] => line.trim().split(" ").slice(1);
        const waiting = run(argv(get), { open: open(row) });
        await row.give("config", "the first");
        expect(await waiting).to.deep.equal({ code: 0, stdout: "the first\n", stderr: "" });
        expect(await run(argv(set), { open: open(row) })).to.deep.equal({ code: 0, stdout: "", stderr: "" });
        expect(await row.published("status")).to.equal("ready");
        const onMessage = (): void => void row.give("config", "the second");
        const seen = await run([...argv(watch), "--count", "1"], { open: open(row), onMessage });
        expect(seen).to.deep.equal({ code: 0, stdout: "config=the second\n", stderr: "watching config\n" });
      });

      it("runs the portable program as it stands", async () => {
        await using row = await start();
        const { outputText } = ts.transpileModule(block("ts").replace(/^import .*$/m, ""), {
          compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
        });
        const printed: string[] = [];
        let bus: Awaited<ReturnType<typeof openPvbus>> | undefined;
        const opened = async (): Promise<unknown> => {
          bus = await open(row)({});
          return bus;
        };
        const log = async (...words: readonly string[]): Promise<void> => {
          printed.push(words.join(" "));
          // What ends a program that follows for ever.
          if (printed.length === 2) await bus?.close();
        };
        const AsyncFunction = Object.getPrototypeOf(log).constructor;
        const program = new AsyncFunction("openPvbus", "console", outputText.replace(/^export \{\};$/m, ""));
        const ended = program(opened, { log }).then(
          () => "ended",
          (error: { code?: string }) => error.code ?? error,
        );
        await row.give("config", "the first");
        // The program is at its watch some time after it has told that it is ready; each of the later values is a change.
        let count = 0;
        while (printed.length < 2) {
          await new Promise(setImmediate);
          if ((await row.published("status")) === "ready" && printed.length === 1)
            await row.give("config", `value ${++count}`);
        }
        expect(await ended).to.equal("ERR_DISCONNECTED");
        expect(printed[0]).to.equal("the host gives the first");
        expect(printed[1]).to.match(/^now it gives value \d+$/);
      });
    });

  it("has the table of systems that the manifests make: node scripts/systems-table.mjs prints it", async () => {
    const { systemsTable } = (await import(`${ROOT}/scripts/systems-table.mjs`)) as {
      systemsTable: (manifests: unknown) => string;
    };
    expect(readFileSync(join(ROOT, "README.md"), "utf8")).to.include(`\n${systemsTable(BUILT_IN)}\n`);
  });

  for (const Provider of [HypervProvider, XenProvider, VmwareProvider])
    it(`promises for ${Provider.name.replace("Provider", "")} what the provider declares on each system`, () => {
      const { id } = new Provider(nodeHost());
      const manifest = BUILT_IN.find((each) => each.id === id);
      const platforms = new Set(Object.values(manifest?.systems ?? {}).flat());
      expect(platforms.size).to.be.greaterThan(3);
      for (const platform of platforms) {
        const provider = new Provider({ ...nodeHost(), platform });
        // VMware's DataSets are a store of their own, chosen by a setting.
        const targets =
          id === "vmware" && platform !== "openbsd" ? [{}, { options: { dataset: "d" } }] : [{}];
        const declared = VERBS.filter((verb) =>
          targets.some((target) => provider.capabilities(target)[verb]),
        );
        const promised = VERBS.filter((verb) => manifest?.systems[verb].includes(platform));
        expect(declared, platform).to.include.members(promised);
        if (id !== "vmware") expect(declared, platform).to.deep.equal(promised);
      }
    });
});
