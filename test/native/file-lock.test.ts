import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Call } from "../../src/index.js";
import { lockFile, type RecordLockKind, tryLockFile } from "../../src/native/posix/file-lock.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { findPython, start } from "../support/processes.js";
import { rejects } from "../support/rejects.js";

const python = findPython("import fcntl");
const isLinux = process.platform === "linux";

/** Runs a Python program that takes a lock, says so, and holds it until it is ended. */
async function holder(path: string, take: string): Promise<() => Promise<void>> {
  const script = `import fcntl,sys,time
f=open(sys.argv[1],"r+b"); ${take}; print("held",flush=True); time.sleep(60)`;
  const { child, done } = start(python as string, ["-c", script, path]);
  await new Promise((resolve) => child.stdout?.once("data", resolve));
  return async () => {
    child.kill("SIGKILL");
    await done;
  };
}

/** Asks Python whether it gets a lock at once. */
async function pythonGets(path: string, take: string): Promise<boolean> {
  const script = `import fcntl,sys
f=open(sys.argv[1],"r+b")
try: ${take}; print("yes")
except OSError: print("no")`;
  return (await start(python as string, ["-c", script, path]).done).stdout.trim() === "yes";
}

const RECORD = "fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)";
const FLOCK = "fcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB)";

describe(`file locks${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let folder: string;
  let path: string;
  let fds: number[];
  const open = (flags = "r+"): number => {
    const fd = openSync(path, flags);
    fds.push(fd);
    return fd;
  };
  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-lock-"));
    path = join(folder, "file");
    writeFileSync(path, "x");
    fds = [];
  });
  afterEach(() => {
    for (const fd of fds) closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  for (const kind of ["ofd", "posix"] as const satisfies readonly RecordLockKind[]) {
    describe(`of the ${kind} kind and a foreign program`, () => {
      before(function () {
        if (python !== undefined) return;
        return pending(this, "no python3");
      });

      for (const take of [RECORD, FLOCK]) {
        const family = take === RECORD ? "fcntl" : "flock";
        it(`are not given while it holds one of the ${family} family, and are when it ends`, async () => {
          const release = await holder(path, take);
          const fd = open();
          expect(tryLockFile(fd, { mode: "exclusive", kind })).to.equal(undefined);
          expect(tryLockFile(fd, { mode: "shared", kind })).to.equal(undefined);
          await release();
          const lock = await lockFile(fd, { mode: "exclusive", kind, call: new Call() });
          expect(await pythonGets(path, take)).to.equal(false);
          lock.release();
          lock.release();
          expect(await pythonGets(path, take)).to.equal(true);
        });
      }

      it("shared ones leave room for readers, not for writers", async () => {
        const lock = tryLockFile(open("r"), { mode: "shared", kind });
        expect(await pythonGets(path, "fcntl.lockf(f,fcntl.LOCK_SH|fcntl.LOCK_NB)")).to.equal(true);
        expect(await pythonGets(path, RECORD)).to.equal(false);
        lock?.release();
      });
    });
  }

  it("exclude two descriptors of one process", () => {
    const first = tryLockFile(open(), { mode: "exclusive", flock: false });
    expect(tryLockFile(open(), { mode: "shared", flock: false })).to.equal(undefined);
    readFileSync(path);
    expect(
      tryLockFile(open(), { mode: "exclusive", flock: false }),
      "closing another descriptor keeps it",
    ).to.equal(undefined);
    first?.release();
    expect(tryLockFile(open(), { mode: "exclusive", flock: false })).not.to.equal(undefined);
  });

  it("give flock back when the record lock is taken", () => {
    const record = tryLockFile(open(), { mode: "exclusive", flock: false });
    const fd = open();
    expect(tryLockFile(fd, { mode: "exclusive" })).to.equal(undefined);
    record?.release();
    expect(tryLockFile(open(), { mode: "exclusive" })).not.to.equal(undefined);
  });

  it("wait with the loop free, end by deadline and abort, and leave nothing held", async () => {
    const held = tryLockFile(open(), { mode: "exclusive" });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 2);
    await rejects(lockFile(open(), { mode: "exclusive", call: new Call({ timeoutMs: 300 }) }), "ERR_TIMEOUT");
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 100);
    const error = await rejects(
      lockFile(open(), { mode: "shared", call: new Call({ signal: controller.signal }) }),
      "ERR_ABORTED",
    );
    clearInterval(timer);
    expect(error.cause).to.equal(reason);
    expect(ticks).to.be.greaterThan(5);
    held?.release();
    expect(tryLockFile(open(), { mode: "exclusive" })).not.to.equal(undefined);
  });

  it("are refused with the system's error on a bad descriptor or one that cannot be written", () => {
    expect(() => tryLockFile(1_000_000, { mode: "shared" }))
      .to.throw()
      .with.property("code", "EBADF");
    const fd = open("r");
    expect(() => tryLockFile(fd, { mode: "exclusive" }))
      .to.throw()
      .with.property("code", "EBADF");
    expect(tryLockFile(open(), { mode: "exclusive" }), "nothing stays held").not.to.equal(undefined);
  });

  it("say ERR_UNAVAILABLE without native calls", async () => {
    const script = `
      import { tryLockFile } from ${JSON.stringify(`${ROOT}/dist/src/native/posix/file-lock.js`)};
      try { tryLockFile(0, { mode: "shared" }); } catch (error) { console.log(error.code, error.cause?.code); }`;
    const { stdout } = await start(process.execPath, ["--no-addons", "--input-type=module", "-e", script])
      .done;
    expect(stdout.trim()).to.equal("ERR_UNAVAILABLE ERR_DLOPEN_DISABLED");
  });
});
