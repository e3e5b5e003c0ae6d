import { expect } from "chai";
import { tryLockFile } from "../../src/native/posix/file-lock.js";
import { pending } from "../support/pending.js";
import { PoolTree, ROOT } from "../support/pools.js";
import { start } from "../support/processes.js";
import { watchedKoffi } from "../support/watched-koffi.js";

const native = (name: string): string => JSON.stringify(`${ROOT}/dist/src/native/${name}.js`);

/** Runs a module script in a process of its own and gives what it prints as JSON. */
async function run(script: string, ...flags: string[]): Promise<unknown> {
  const { code, signal, stdout, stderr } = await start(process.execPath, [
    ...flags,
    "--input-type=module",
    "-e",
    script,
  ]).done;
  expect([code, signal], stderr).to.deep.equal([0, null]);
  return JSON.parse(stdout);
}

describe("native layer", () => {
  it("loads nothing with its modules, koffi with the first call", async function () {
    if (process.platform !== "linux") return pending(this, "/proc, which is Linux's");
    const result = await run(`
      import { readFileSync } from "node:fs";
      const loaded = () => readFileSync("/proc/self/maps", "latin1").includes("koffi");
      const locks = await import(${native("posix/file-lock")});
      const cpuid = await import(${native("cpu/cpuid")});
      const before = loaded();
      cpuid.openCpuid();
      console.log(JSON.stringify([before, loaded()]));`);
    expect(result).to.deep.equal([false, process.arch === "x64"]);
  });

  it("may be evaluated twice in one process: no type is declared twice", async () => {
    const result = await run(`
      const first = await import(${native("cpu/cpuid")});
      const second = await import(${native("cpu/cpuid")} + "?again");
      const again = await import(${native("posix/file-lock")} + "?again");
      const kinds = [first.openCpuid(), second.openCpuid()].map((each) => Object.keys(each)[0]);
      console.log(JSON.stringify([kinds[0] === kinds[1], typeof again.tryLockFile]));`);
    expect(result).to.deep.equal([true, "function"]);
  });

  it("works in worker threads and leaves the main thread's functions intact when they end", async () => {
    await using tree = new PoolTree();
    const script = `
      import { Worker } from "node:worker_threads";
      const body = \`
        import { parentPort, workerData } from "node:worker_threads";
        const { openPvbus } = await import(${native("../index")});
        const bus = await openPvbus({ sysroot: workerData.sysroot, interfaces: [{ type: "Hyper-V" }] });
        for (let i = 0; i < 20; i++) await bus.primary.write("Guest/" + workerData.id + "-" + i, "v");
        await bus.close();
        parentPort.postMessage("done");\`;
      const sysroot = ${JSON.stringify(tree.sysroot)};
      const workers = [1, 2, 3].map((id) => new Worker(body, { eval: true, workerData: { sysroot, id } }));
      await Promise.all(workers.map((w) => new Promise((resolve, reject) => { w.on("message", resolve); w.on("error", reject); })));
      await Promise.all(workers.map((w) => w.terminate()));
      const { openPvbus } = await import(${native("../index")});
      const bus = await openPvbus({ sysroot, interfaces: [{ type: "Hyper-V" }] });
      await bus.primary.write("Guest/main", "v");
      let count = 0;
      for await (const _ of bus.primary.list("Guest")) count++;
      await bus.close();
      console.log(count);`;
    expect(await run(script)).to.equal(61);
  });

  it("declares its functions once, however often it is called", () => {
    let declared = 0;
    const counting = watchedKoffi((declaration, declare) => {
      declared++;
      return declare(declaration);
    });
    for (let i = 0; i < 100; i++) {
      expect(() => tryLockFile(1_000_000, { mode: "shared", koffi: () => counting })).to.throw();
    }
    expect(declared).to.be.lessThan(5);
  });

  it("keeps the process from nothing: it ends by itself after native calls", async () => {
    const result = await run(`
      const { openCpuid } = await import(${native("cpu/cpuid")});
      const { tryLockFile } = await import(${native("posix/file-lock")});
      openCpuid();
      try { tryLockFile(9999, { mode: "shared" }); } catch {}
      console.log("true");`);
    expect(result).to.equal(true);
  });
});
