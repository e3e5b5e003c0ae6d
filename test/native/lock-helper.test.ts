import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Call } from "../../src/index.js";
import { type LockMode, lockFile, tryLockFile } from "../../src/native/posix/file-lock.js";
import { openDescriptors } from "../support/descriptors.js";
import { childrenOf, eventually, helperOf, isWaiting } from "../support/lock-helpers.js";
import { LockHolder } from "../support/lock-holder.js";
import { ROOT } from "../support/pools.js";
import { rejects } from "../support/rejects.js";

const LONGEST_MS = 20_000;

describe("the helper that waits for a lock in the kernel", function () {
  this.timeout(60_000);

  let folder: string;
  let path: string;
  let fd: number;
  before(function () {
    const why = process.platform === "linux" ? LockHolder.whyNot() : "it is for Linux";
    if (why === undefined) return;
    console.warn(`      NOT RUN: ${why}`);
    this.skip();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-helper-"));
    path = join(folder, "file");
    writeFileSync(path, "x");
    fd = openSync(path, "r+");
  });
  afterEach(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  /** Reports whether somebody else gets the locks at this moment. */
  const isFree = (mode: LockMode = "exclusive"): boolean => {
    const other = openSync(path, "r+");
    const lock = tryLockFile(other, { mode });
    lock?.release();
    closeSync(other);
    return lock !== undefined;
  };
  const waiting = (options: { signal?: AbortSignal; timeoutMs?: number; mode?: LockMode } = {}) =>
    lockFile(fd, { mode: options.mode ?? "exclusive", helper: true, call: new Call(options, LONGEST_MS) });

  for (const family of ["record", "flock"] as const)
    for (const mode of ["exclusive", "shared"] as const) {
      it(`gets ${mode} locks when a writer by ${family} lets go; they stay when it has ended`, async () => {
        await using holder = await LockHolder.start(path, family, "exclusive");
        const taking = waiting({ mode });
        const helper = await eventually(() => helperOf(process.pid, path));
        await eventually(() => isWaiting(helper));
        await holder.release();
        const lock = await taking;
        expect(helperOf(process.pid, path)).to.equal(undefined);
        expect(isFree(), "for a writer").to.equal(false);
        expect(isFree("shared"), "for a reader").to.equal(mode === "shared");
        lock.release();
        expect(isFree()).to.equal(true);
      });
    }

  it("has nothing of ours but the file: no other descriptor, no environment", async () => {
    const more = openSync(join(ROOT, "package.json"), "r");
    await using _ = await LockHolder.start(path, "record", "exclusive");
    const stop = new AbortController();
    const taking = waiting({ signal: stop.signal });
    const helper = await eventually(() => helperOf(process.pid, path));
    await eventually(() => isWaiting(helper));
    const target = (each: string): string => readlinkSync(`/proc/${helper}/fd/${each}`);
    const open = readdirSync(`/proc/${helper}/fd`).map(target);
    expect(open.filter((each) => each === path)).to.have.length(1);
    expect(["0", "1", "2"].map(target)).to.deep.equal(["/dev/null", "/dev/null", "/dev/null"]);
    expect(open.filter((each) => each.startsWith(ROOT))).to.deep.equal([]);
    expect(readFileSync(`/proc/${helper}/environ`, "utf8")).to.equal("");
    stop.abort();
    await rejects(taking, "ERR_ABORTED");
    closeSync(more);
  });

  it("is killed by the signal and by the deadline, and what it got is given back", async () => {
    const before = openDescriptors();
    // A reader by record locks: the helper gets flock(2) and waits for the other.
    await using holder = await LockHolder.start(path, "record", "shared");
    const stop = new AbortController();
    const aborted = waiting({ signal: stop.signal });
    const first = await eventually(() => helperOf(process.pid, path));
    await eventually(() => isWaiting(first));
    expect(isFree("shared"), "with the helper's flock(2)").to.equal(false);
    const began = performance.now();
    stop.abort();
    await rejects(aborted, "ERR_ABORTED");
    expect(performance.now() - began).to.be.lessThan(1_000);
    expect(childrenOf(process.pid)).not.to.include(first);
    expect(isFree("shared"), "after the signal").to.equal(true);

    const late = waiting({ timeoutMs: 1_500 });
    const second = await eventually(() => helperOf(process.pid, path));
    await rejects(late, "ERR_TIMEOUT");
    expect(childrenOf(process.pid)).not.to.include(second);
    expect(isFree("shared"), "after the deadline").to.equal(true);
    await holder.release();
    expect(openDescriptors()).to.be.lessThanOrEqual(before + 1);
  });

  for (const how of ["exit", "SIGKILL"] as const) {
    it(`ends with the process that started it (${how})`, async () => {
      await using _ = await LockHolder.start(path, "record", "exclusive");
      const program = `
        const { lockFile } = await import(${JSON.stringify(join(ROOT, "dist/src/native/posix/file-lock.js"))});
        const { Call } = await import(${JSON.stringify(join(ROOT, "dist/src/index.js"))});
        const { openSync } = await import("node:fs");
        process.stdin.once("data", () => process.exit(0));
        await lockFile(openSync(${JSON.stringify(path)}, "r+"), { mode: "exclusive", helper: true, call: new Call() });`;
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        stdio: ["pipe", "ignore", "inherit"],
      });
      const ended = once(child, "exit");
      const helper = await eventually(() => helperOf(child.pid as number, path));
      await eventually(() => isWaiting(helper));
      if (how === "exit") child.stdin.write("x");
      else child.kill(how);
      await ended;
      await eventually(() => {
        try {
          return / Z /.test(readFileSync(`/proc/${helper}/stat`, "utf8")) ? true : undefined;
        } catch {
          return true;
        }
      });
    });
  }

  for (const program of ["/bin/false", "/nonexistent"]) {
    it(`is done without where there is none to be had (${program})`, async () => {
      await using holder = await LockHolder.start(path, "record", "exclusive");
      const taking = lockFile(fd, {
        mode: "exclusive",
        helper: true,
        helperProgram: program,
        call: new Call({ timeoutMs: LONGEST_MS }),
      });
      await new Call().sleep(300);
      await holder.release();
      (await taking).release();
      expect(isFree()).to.equal(true);
    });
  }
});
