import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { ContainerModule } from "inversify";
import { MemoryProvider, memoryManifest } from "../providers/testing.js";
import { nodeHost } from "../src/base/host/node-host.js";
import { openPvbus, PROVIDER } from "../src/index.js";
import { codeOf } from "./support/memory-interface.js";

const interfaces = [{ type: "Memory" }];

describe("openPvbus", () => {
  let sysroot = "";
  before(() => {
    sysroot = mkdtempSync(join(tmpdir(), "pvbus-open-"));
  });
  after(() => rmSync(sysroot, { recursive: true }));

  it("gives an empty bus on a machine without a hypervisor", async () => {
    const bus = await openPvbus({ sysroot });
    expect(bus.interfaces).to.deep.equal([]);
    expect(bus.primary).to.equal(undefined);
    await bus.close();
  });

  it("binds a provider of the caller's by its manifest", async () => {
    const bus = await openPvbus({ host: nodeHost({ sysroot }), providers: [memoryManifest()], interfaces });
    expect(bus.primary).to.include({ name: "pvbus0", type: "Memory", id: "memory" });
    await bus.portable("com.example").publish("state", "s".repeat(5000));
    expect(await bus.portable("com.example").published("state")).to.have.length(5000);
    await bus.close();
    expect(await codeOf(bus.byType("memory")?.read("guest/a") ?? Promise.resolve())).to.equal(
      "ERR_DISCONNECTED",
    );
  });

  it("loads a container module of the caller's copy of inversify", async () => {
    const given = { "host/name": "vm-1" };
    const module = new ContainerModule(({ bind }) => {
      bind(PROVIDER).toConstantValue(new MemoryProvider(undefined, { given }));
    });
    const manifest = { ...memoryManifest(), load: async () => module };
    const bus = await openPvbus({ sysroot, providers: [manifest], interfaces });
    expect(await bus.primary?.read("host/name")).to.equal("vm-1");
    await bus.close();
  });

  it("prefers the caller's provider to the built-in one of the same id", async () => {
    const own = { ...memoryManifest(), id: "hyperv", type: "Hyper-V" };
    const bus = await openPvbus({ sysroot, providers: [own], interfaces: [{ type: "hyper-v" }] });
    expect(bus.primary?.capabilities.pools).to.have.keys("guest", "host");
    await bus.close();
  });

  it("opens every named store, also two of one type", async () => {
    const bus = await openPvbus({
      sysroot,
      providers: [memoryManifest()],
      interfaces: [...interfaces, ...interfaces],
    });
    expect(bus.interfaces.map(({ name }) => name)).to.deep.equal(["pvbus0", "pvbus1"]);
    expect(bus.primary?.name).to.equal("pvbus0");
    await bus.close();
  });

  it("refuses a type that nobody serves, and a signal that has fired", async () => {
    expect(await codeOf(openPvbus({ sysroot, interfaces }))).to.equal("ERR_NOT_SUPPORTED");
    expect(await codeOf(openPvbus({ sysroot, signal: AbortSignal.abort() }))).to.equal("ERR_ABORTED");
  });

  it("loads inversify only when it is called, and koffi not even then", () => {
    const script = `
      import { register } from "node:module";
      import { MessageChannel } from "node:worker_threads";
      const seen = [];
      const { port1, port2 } = new MessageChannel();
      port1.on("message", (url) => seen.push(url)).unref();
      const hook = "let port; export const initialize = (given) => { port = given; };" +
        "export const resolve = async (name, context, next) => { const found = await next(name, context); port.postMessage(found.url); return found; };";
      register("data:text/javascript," + encodeURIComponent(hook), { data: port2, transferList: [port2] });
      const { openPvbus } = await import(${JSON.stringify(new URL("../src/index.js", import.meta.url).href)});
      const count = async (what) => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return seen.filter((url) => url.includes("/node_modules/" + what)).length;
      };
      const before = [seen.length > 3, await count("inversify"), await count("koffi")];
      const bus = await openPvbus({ sysroot: ${JSON.stringify(sysroot)}, interfaces: [{ type: "Hyper-V" }] });
      const after = [(await count("inversify")) > 0, await count("koffi")];
      const { readFileSync, existsSync } = await import("node:fs");
      const maps = existsSync("/proc/self/maps") ? readFileSync("/proc/self/maps", "utf8") : "";
      console.log(JSON.stringify([...before, ...after, maps.includes("koffi")]));
      await bus.close();`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
    });
    expect(stdout, stderr).to.equal(`${JSON.stringify([true, 0, 0, true, 0, false])}\n`);
  }).timeout(20_000);
});
