import { expect } from "chai";
import { count } from "../support/campaign.js";
import { pending } from "../support/pending.js";
import { PoolTree, ROOT } from "../support/pools.js";
import { type Outcome, start } from "../support/processes.js";

const module = (path: string): string => JSON.stringify(`${ROOT}/dist/${path}.js`);

/**
 * Runs a script in a process of its own, which has `fs`, `open()` (targets of its descriptors, module files left out) and
 * `work(body, whenTold)`: a worker that runs a module until it ends; messages go to `whenTold`.
 */
async function run(script: string): Promise<Outcome> {
  const { done } = start(process.execPath, [
    "--input-type=module",
    "-e",
    `import fs from "node:fs";
     import { Worker } from "node:worker_threads";
     const open = () => fs.readdirSync("/proc/self/fd").flatMap((fd) => {
       try { return [fs.readlinkSync("/proc/self/fd/" + fd)]; } catch { return []; }
     }).filter((target) => !/\\.(?:c?js|json)$/.test(target)).sort();
     const work = (body, whenTold = () => undefined, workerData) => new Promise((resolve) => {
       const worker = new Worker(body, { eval: true, workerData });
       worker.on("message", (message) => whenTold(worker, message));
       worker.on("error", ({ message }) => message === "on purpose" || console.log(message));
       worker.once("exit", resolve);
     });
     ${script}`,
  ]);
  return await done;
}

/** Workers that end one after the other: what one of them leaves shows behind the first, what each leaves adds up. */
const TIMES = count(2, 4);
const MANY = count(6, 12);
/** Moments within a millisecond at which a worker is stopped. */
const STOPS = count(4, 14);

const PTMX = `fs.openSync("/dev/ptmx", fs.constants.O_RDWR | fs.constants.O_NOCTTY)`;
const ENDS = {
  "its last line": "",
  "process.exit()": "setTimeout(() => process.exit(0), 1)",
  "an error": `setTimeout(() => { throw new Error("on purpose"); }, 1)`,
  "terminate()": "setInterval(() => undefined, 1000)",
} as const;

describe("a worker thread", () => {
  before(function () {
    if (process.platform !== "linux") return pending(this, "/proc and terminals, which are Linux's");
  });

  for (const [name, end] of Object.entries(ENDS)) {
    it(`may end by ${name} with open pollables: the process lives, and nothing of them stays open`, async () => {
      // The terminal nobody has the other end of has an event at all times, the pipe never has one.
      const { code, signal, stdout, stderr } = await run(`
        const body = \`
          import fs from "node:fs";
          import { parentPort } from "node:worker_threads";
          const { openPollable } = await import(${module("src/native/posix/pollable")});
          const { openDevice } = await import(${module("src/native/posix/device-stream")});
          const listeners = { bufferBytes: 64, onData() {}, onEnd() {} };
          const pollables = Array.from({ length: 4 }, () => openPollable(${PTMX}, listeners));
          const device = openDevice("/dev/ptmx", listeners);
          for (const each of [...pollables, device]) each.unref();
          parentPort.postMessage(pollables[0].mechanism);
          ${end}\`;
        const told = new Set();
        const tell = (worker, message) => {
          told.add(message);
          if (${JSON.stringify(name)} === "terminate()") setTimeout(() => worker.terminate(), told.size);
        };
        await work(body, tell);
        const before = open();
        for (let time = 0; time < ${TIMES}; time++) await work(body, tell);
        const after = open();
        console.log(JSON.stringify({ told: [...told], before, after }));`);
      expect([code, signal], stderr).to.deep.equal([0, null]);
      const { told, before, after } = JSON.parse(stdout);
      expect(told).to.deep.equal(["call"]);
      expect(after).to.deep.equal(before);
    });
  }

  it("closes no descriptor of another thread when it ends", async () => {
    const { code, stdout, stderr } = await run(`
      const body = \`
        import fs from "node:fs";
        import { parentPort } from "node:worker_threads";
        const { openDevice } = await import(${module("src/native/posix/device-stream")});
        const device = openDevice("/dev/ptmx", { bufferBytes: 64, onData() {}, onEnd() {} });
        await device.close();
        parentPort.postMessage("closed");
        parentPort.once("message", () => process.exit(0));\`;
      const own = [];
      await work(body, (worker) => {
        // Numbers that the worker had are ours now.
        for (let time = 0; time < 50; time++) own.push(fs.openSync("/dev/zero", "r"));
        worker.postMessage("end");
      });
      const lost = own.filter((fd) => { try { fs.fstatSync(fd); return false; } catch { return true; } });
      console.log(JSON.stringify(lost));`);
    expect(code, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.equal([]);
  });

  it("that is stopped gives back the lock of a serial line: the next one reads", async () => {
    const { code, stdout, stderr } = await run(`
      const { KvmHostSimulator } = await import(${module("providers/testing")});
      const { DeviceDuplex, openPty } = await import(${module("test/support/device-duplex")});
      const { DeviceStream } = await import(${module("src/native/posix/device-stream")});
      const host = new KvmHostSimulator();
      host.set("key", "value");
      const line = openPty();
      host.serve(await DeviceDuplex.over((options) => new DeviceStream(line.fd, options)));
      const body = \`
        import { parentPort, workerData } from "node:worker_threads";
        const { openPvbus } = await import(${module("src/index")});
        const bus = await openPvbus({ interfaces: [{ type: "KVM", channel: workerData }] });
        parentPort.postMessage(Buffer.from(await bus.primary.read("meta/key")).toString());\`;
      const values = [];
      for (let time = 0; time < 3; time++)
        await work(body, (_, value) => values.push(value), "serial:" + line.path);
      console.log(JSON.stringify(values));
      process.exit(0);`);
    expect(code, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.equal(["value", "value", "value"]);
  });

  it("starts no helper for a lock, whom nobody would reap", async () => {
    await using tree = new PoolTree();
    const { code, stdout, stderr } = await run(`
      const { tryLockFile } = await import(${module("src/native/posix/file-lock")});
      const path = ${JSON.stringify(tree.path(0))};
      const held = tryLockFile(fs.openSync(path, "r+"), { mode: "exclusive" });
      const children = () => fs.readdirSync("/proc/self/task")
        .flatMap((task) => fs.readFileSync("/proc/self/task/" + task + "/children", "utf8").split(" ").filter(Boolean));
      const body = \`
        import fs from "node:fs";
        import { parentPort, workerData } from "node:worker_threads";
        const { lockFile } = await import(${module("src/native/posix/file-lock")});
        const { Call } = await import(${module("src/index")});
        const call = new Call({ timeoutMs: 20000 });
        setTimeout(() => parentPort.postMessage("look"), 300);
        const lock = await lockFile(fs.openSync(workerData, "r+"), { mode: "exclusive", helper: true, call });
        parentPort.postMessage("locked");
        lock.release();
        process.exit(0);\`;
      const seen = [];
      await work(body, (_, message) => {
        seen.push(message, children().length);
        if (message === "look") held.release();
      }, path);
      console.log(JSON.stringify(seen));`);
    expect(code, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.equal(["look", 0, "locked", 0]);
  });

  it("notes its memory once, also when it had koffi before and asks twice", async function () {
    if (!["x64", "arm64"].includes(process.arch))
      return pending(this, "a processor that the code is made for");
    const { code, stdout, stderr } = await run(`
      const body = \`
        import fs from "node:fs";
        import { createRequire } from "node:module";
        import { parentPort } from "node:worker_threads";
        const koffi = createRequire(${JSON.stringify(`${ROOT}/package.json`)})("koffi");
        const had = koffi.load(null).func("int getppid(void)")() > 0;
        const { openLibc } = await import(${module("src/native/ffi/open-libc")});
        const { noteThreadMemory } = await import(${module("src/native/ffi/thread-memory")});
        noteThreadMemory(openLibc());
        const own = Number(fs.readlinkSync("/proc/thread-self").split("/").at(-1));
        const { mappings } = await import(${module("src/native/ffi/memory")});
        const tables = mappings().filter(({ name }) => name.includes("pvbus-threads"));
        const slots = tables.flatMap(({ start }) => {
          const words = new Int32Array(koffi.view(start, 4096));
          return Array.from({ length: 64 }, (_, slot) => words.subarray(slot * 16, slot * 16 + 2));
        });
        parentPort.postMessage([had, slots.filter(([state, thread]) => state === 2 && thread === own).length]);\`;
      const told = [];
      for (let time = 0; time < 3; time++)
        await Promise.all([1, 2, 3].map(() => work(body, (_, message) => told.push(String(message)))));
      console.log(JSON.stringify(told));`);
    expect(code, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.equal(Array.from({ length: 9 }, () => "true,1"));
  });

  it("leaves no mapping behind that the next one does not give back, and shares the page of CPUID", async function () {
    if (process.arch !== "x64") return pending(this, "an x86-64 processor");
    const { code, stdout, stderr } = await run(`
      const body = \`
        const { openCpuid } = await import(${module("src/native/cpu/cpuid")});
        const { callAsync } = await import(${module("src/native/ffi/async-call")});
        const { openLibc } = await import(${module("src/native/ffi/open-libc")});
        const cpuid = openCpuid();
        if (!("read" in cpuid) || cpuid.read(0).eax === 0) throw new Error("no answer");
        await callAsync(openLibc(), openLibc().function("int getppid(void)"));\`;
      const lines = () => fs.readFileSync("/proc/self/maps", "latin1").split("\\n");
      const koffis = () => lines().filter((line) => /---p 00000000 00:00 0/.test(line)).length;
      const pages = () => lines().filter((line) => /r-xp .*memfd:pvbus/.test(line)).length;
      for (let time = 0; time < 2; time++) await work(body);
      const before = { guards: koffis(), pages: pages() };
      for (let time = 0; time < ${MANY}; time++) await work(body);
      const after = { guards: koffis(), pages: pages() };
      await Promise.all(Array.from({ length: 3 }, () => work(body)));
      console.log(JSON.stringify({ before, after, open: open().filter((target) => target.includes("memfd")) }));`);
    expect(code, stderr).to.equal(0);
    const { before, after, open } = JSON.parse(stdout);
    expect(after.pages).to.equal(before.pages);
    // One for each of the many, where they stay; threads of the C library come and go with their own.
    expect(after.guards - before.guards).to.be.lessThan((MANY * 2) / 3);
    expect(open).to.deep.equal([]);
  });

  for (const [name, body] of Object.entries({
    "loads koffi and opens the C library":
      "const dlopen = process.dlopen; process.dlopen = (...args) => { Atomics.store(flag, 0, 1); return dlopen.apply(process, args); }; openLibc();",
    "declares functions":
      "const libc = openLibc(); const library = libc.koffi.load(null); Atomics.store(flag, 0, 1); for (;;) library.func('int getppid(void)');",
  }))
    it(`may be stopped by terminate() while it ${name}`, async function () {
      if (process.arch !== "x64") return pending(this, "a processor that the guard is made for");
      const { code, signal, stdout, stderr } = await run(`
        const { openLibc } = await import(${module("src/native/ffi/open-libc")});
        openLibc();
        const body = \`
          import { workerData as flag } from "node:worker_threads";
          const { openLibc } = await import(${module("src/native/ffi/open-libc")});
          ${body}\`;
        for (let time = 0; time < ${STOPS}; time++) {
          const flag = new Int32Array(new SharedArrayBuffer(4));
          const worker = new Worker(body, { eval: true, workerData: flag });
          const exit = new Promise((resolve) => worker.once("exit", resolve));
          while (Atomics.load(flag, 0) === 0) await new Promise(setImmediate);
          for (const end = performance.now() + (time % ${STOPS}) / ${STOPS}; performance.now() < end; );
          await worker.terminate();
          await exit;
        }
        console.log("alive");`);
      expect([code, signal, stdout.trim()], stderr).to.deep.equal([0, null, "alive"]);
    });
});
