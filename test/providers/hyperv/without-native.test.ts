import { expect } from "chai";
import { encodeRecord } from "../../../providers/hyperv/protocol/record.js";
import { PoolTree, ROOT } from "../../support/pools.js";
import { start } from "../../support/processes.js";

const pair = (key: string, value: string): Buffer =>
  encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });

/** Runs a script in a process of its own, with the bus of the sysroot as `bus`; what it returns comes back. */
async function run(sysroot: string, flags: readonly string[], body: string): Promise<unknown> {
  const script = `
    import { readFileSync } from "node:fs";
    import { openPvbus } from ${JSON.stringify(`${ROOT}/dist/src/index.js`)};
    const loaded = () => readFileSync("/proc/self/maps", "latin1").includes("koffi");
    const bus = await openPvbus({ sysroot: ${JSON.stringify(sysroot)}, interfaces: [{ type: "Hyper-V" }] });
    const result = await (async () => { ${body} })();
    await bus.close();
    console.log(JSON.stringify(result));`;
  const { code, stdout, stderr } = await start(process.execPath, [
    ...flags,
    "--input-type=module",
    "-e",
    script,
  ]).done;
  expect(code, stderr).to.equal(0);
  return JSON.parse(stdout);
}

const isLinux = process.platform === "linux";

describe(`Hyper-V pools and native code${isLinux ? "" : " [pending: looks into /proc]"}`, () => {
  before(function () {
    if (!isLinux) this.skip();
  });

  it("reads and lists a settled pool without loading any", async () => {
    await using tree = new PoolTree();
    tree.put(0, pair("k", "v"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const result = await run(
      tree.sysroot,
      [],
      `const value = await bus.primary.read("External/k");
       const keys = []; for await (const { key } of bus.primary.list("External")) keys.push(key);
       return { value, keys, loaded: loaded() };`,
    );
    expect(result).to.deep.equal({ value: "v", keys: ["External/k"], loaded: false });
  });

  it("loads it for a write, which needs locks", async () => {
    await using tree = new PoolTree();
    const result = await run(tree.sysroot, [], `await bus.primary.write("Guest/k", "v"); return loaded();`);
    expect(result).to.equal(true);
  });

  it("still reads where native code is forbidden, also a pool just written, and refuses to write", async () => {
    await using tree = new PoolTree();
    tree.put(0, pair("k", "v"));
    const result = await run(
      tree.sysroot,
      ["--no-addons"],
      `const value = await bus.primary.read("External/k");
       const code = await bus.primary.write("Guest/k", "v").then(() => "written", (error) => error.code);
       return { value, code };`,
    );
    expect(result).to.deep.equal({ value: "v", code: "ERR_UNAVAILABLE" });
    expect(tree.get(1).length).to.equal(0);
  });
});
