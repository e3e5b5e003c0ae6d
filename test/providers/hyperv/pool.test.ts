import nodeFs, { mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect } from "chai";
import { POOLS, type PoolInfo } from "../../../providers/hyperv/protocol/keys.js";
import { encodeRecord } from "../../../providers/hyperv/protocol/record.js";
import type { PoolFs } from "../../../providers/hyperv/transport/files/descriptor.js";
import {
  type Locker,
  PoolFile,
  type PoolFileOptions,
} from "../../../providers/hyperv/transport/files/file.js";
import { sharePoolFile } from "../../../providers/hyperv/transport/files/open.js";
import { FilePool } from "../../../providers/hyperv/transport/files/pool.js";
import { PoolRecords } from "../../../providers/hyperv/transport/files/records.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, openPvbus, type PvInterface } from "../../../src/index.js";
import { lockFile } from "../../../src/native/posix/file-lock.js";
import { pending } from "../../support/pending.js";
import { collect, fixture, pairsOf } from "../../support/pools.js";
import { findPython, start } from "../../support/processes.js";
import { rejects } from "../../support/rejects.js";

const GUEST = POOLS.find(({ name }) => name === "Guest") as PoolInfo;
const pair = (key: string, value: string): Buffer =>
  encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });
const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();
const posix: Locker = (fd, { mode, call }) => lockFile(fd, { mode, call, kind: "posix", flock: false });
const ofd: Locker = (fd, { mode, call }) => lockFile(fd, { mode, call });

describe("Hyper-V pool file", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-pool-"));
    path = join(folder, ".kvp_pool_1");
    writeFileSync(path, "");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const fileOptions = (lock: Locker, fs?: PoolFs): PoolFileOptions => ({
    path,
    pool: "Guest",
    trustedOwners: new Set([0, process.geteuid?.() ?? 0]),
    makePrivate: false,
    create: false,
    lock,
    ...(fs === undefined ? {} : { fs }),
  });
  const poolOn = (file: PoolFile, now = () => Date.now(), durable = false): FilePool =>
    new FilePool(
      new PoolRecords({
        info: GUEST,
        file,
        clock: { now },
        canLock: () => true,
        durable,
        scrub: false,
      }),
    );

  it("sees a change of equal size whose modification time was set back", async () => {
    writeFileSync(path, pair("k", "1"));
    const pool = poolOn(new PoolFile(fileOptions(ofd)));
    await new Promise((resolve) => setTimeout(resolve, 80));
    const { atime, mtime } = statSync(path);
    expect(text(await pool.read("k", new Call()))).to.equal("1");
    writeFileSync(path, pair("k", "2"));
    utimesSync(path, atime, mtime);
    expect(text(await pool.read("k", new Call()))).to.equal("2");
    await pool.close();
  });

  it("trusts no stamp from the future or of a file system that stamps in whole seconds", async () => {
    writeFileSync(path, pair("k", "1"));
    let locks = 0;
    const counting: Locker = (fd, options) => {
      locks++;
      return ofd(fd, options);
    };
    const past = poolOn(new PoolFile(fileOptions(counting)), () => Date.now() - 3_600_000);
    await past.read("k", new Call());
    await past.read("k", new Call());
    expect(locks).to.equal(2);
    await past.close();
    const whole: PoolFs = {
      ...nodeFs,
      lstatSync: ((name: string, options: { bigint: true }) => {
        const stats = nodeFs.lstatSync(name, options);
        stats.mtimeNs -= stats.mtimeNs % 1_000_000_000n;
        stats.ctimeNs -= stats.ctimeNs % 1_000_000_000n;
        return stats;
      }) as PoolFs["lstatSync"],
    };
    const coarse = poolOn(
      new PoolFile(fileOptions(counting, whole)),
      () => Math.floor(statSync(path).ctimeMs / 1000) * 1000 + 1500,
    );
    await coarse.read("k", new Call());
    expect(locks).to.equal(3);
    await coarse.close();
  });

  it("takes a lock to read a length that a half-done rewrite may have, none otherwise", async () => {
    let locks = 0;
    const counting: Locker = (fd, options) => {
      locks++;
      return ofd(fd, options);
    };
    for (const [records, torn, expected] of [
      [0, 0, 1],
      [8, 0, 1],
      [16, 0, 1],
      [1, 100, 1],
      [1, 0, 0],
      [7, 0, 0],
      [9, 0, 0],
    ] as const) {
      writeFileSync(
        path,
        Buffer.concat([...Array.from({ length: records }, (_, i) => pair(`k${i}`, "v")), Buffer.alloc(torn)]),
      );
      const pool = poolOn(new PoolFile(fileOptions(counting)), () => Date.now() + 10_000);
      locks = 0;
      await pool.read("k", new Call());
      expect(locks, `${records} records and ${torn} bytes`).to.equal(expected);
      await pool.close();
    }
  });

  it("keeps every record when a write fails at any point, and says why", async () => {
    const whole = fixture("pool0_utf8.bin");
    for (const [errno, code] of [
      ["ENOSPC", "ERR_NO_SPACE"],
      ["EDQUOT", "ERR_NO_SPACE"],
      ["EIO", "ERR_UNAVAILABLE"],
      ["EROFS", "ERR_READ_ONLY"],
    ] as const) {
      for (let failing = 1; failing <= 4; failing++) {
        writeFileSync(path, whole);
        let writes = 0;
        const faulty: PoolFs = {
          ...nodeFs,
          writeSync: ((fd: number, bytes: Uint8Array, offset: number, length: number, position: number) => {
            if (++writes >= failing)
              throw Object.assign(new Error(errno), { code: errno, syscall: "write", errno: -1 });
            return nodeFs.writeSync(fd, bytes, offset, length, position);
          }) as PoolFs["writeSync"],
        };
        const pool = poolOn(new PoolFile(fileOptions(ofd, faulty)));
        const long = "n".repeat(1022);
        const outcomes = await Promise.allSettled([
          pool.write("new", Buffer.from(long), new Call()),
          pool.delete("naïve", new Call()),
        ]);
        for (const outcome of outcomes) {
          if (outcome.status === "rejected") expect((outcome.reason as { code: string }).code).to.equal(code);
        }
        const found = new Map(pairsOf(nodeFs.readFileSync(path)));
        for (const [key, value] of pairsOf(whole)) {
          if (key !== "naïve") expect(found.get(key), `${errno} at write ${failing}`).to.equal(value);
        }
        expect(found.get("new")).to.be.oneOf([undefined, long]);
        await pool.close();
      }
    }
  });

  it("says that there is no room where the system's number has no name of Node's", async () => {
    const quota: PoolFs = {
      ...nodeFs,
      writeSync: (() => {
        throw Object.assign(new Error("Unknown system error"), {
          code: "Unknown system error -122",
          syscall: "write",
          errno: -constants.errno.EDQUOT,
        });
      }) as PoolFs["writeSync"],
    };
    const pool = poolOn(new PoolFile(fileOptions(ofd, quota)));
    const error = await rejects(pool.write("k", Buffer.from("v"), new Call()), "ERR_NO_SPACE");
    expect(error.message).to.include("EDQUOT");
    await pool.close();
  });

  it("looks at a record before it changes or removes it, whatever the stamps say", async () => {
    // A file system that stamps nothing: every state looks like one that is long at rest.
    const frozen: PoolFs = {
      ...nodeFs,
      lstatSync: ((name: string, options: { bigint: true }) => {
        const stats = nodeFs.lstatSync(name, options);
        stats.mtimeNs = stats.ctimeNs = 1_700_000_000_123_456_789n;
        return stats;
      }) as PoolFs["lstatSync"],
    };
    for (const change of ["write", "delete"] as const) {
      writeFileSync(path, Buffer.concat(["a", "b", "c"].map((key) => pair(key, key))));
      const pool = poolOn(new PoolFile(fileOptions(ofd, frozen)));
      await pool.read("a", new Call());
      expect(text(await pool.read("b", new Call()))).to.equal("b");
      writeFileSync(path, Buffer.concat(["b", "c", "d"].map((key) => pair(key, key))));
      expect(text(await pool.read("b", new Call())), "a read too").to.equal("b");
      writeFileSync(path, Buffer.concat(["c", "d", "b"].map((key) => pair(key, key))));
      if (change === "write") await pool.write("b", Buffer.from("new"), new Call());
      else expect(await pool.delete("b", new Call())).to.equal(true);
      const others = pairsOf(nodeFs.readFileSync(path)).filter(([key]) => key !== "b");
      expect(others).to.deep.equal([
        ["c", "c"],
        ["d", "d"],
      ]);
      await pool.close();
    }
  });

  it("lets a running change end before it closes, and the caller go when the signal fires", async () => {
    const many = Array.from({ length: 3_000 }, (_, i) => pair(`k${i}`, "v".repeat(i % 900)));
    for (const abort of [false, true]) {
      writeFileSync(path, Buffer.concat(many));
      let moving = (): void => undefined;
      const begun = new Promise<void>((resolve) => {
        moving = resolve;
      });
      const watched: PoolFs = {
        ...nodeFs,
        writeSync: ((fd: number, bytes: Uint8Array, offset: number, length: number, position: number) => {
          moving();
          return nodeFs.writeSync(fd, bytes, offset, length, position);
        }) as PoolFs["writeSync"],
      };
      const pool = poolOn(new PoolFile(fileOptions(ofd, watched)));
      const controller = new AbortController();
      const deleting = pool.delete("k0", new Call({ signal: controller.signal }));
      await begun;
      if (abort) {
        controller.abort();
        await rejects(deleting, "ERR_ABORTED");
      }
      await pool.close();
      if (!abort) expect(await deleting).to.equal(true);
      expect(nodeFs.readFileSync(path).equals(Buffer.concat(many.slice(1)))).to.equal(true);
      await rejects(pool.read("k1", new Call()), "ERR_DISCONNECTED");
    }
  });

  it("opens nothing but a regular file, and leaves the mode of one with a second name", async () => {
    nodeFs.unlinkSync(path);
    nodeFs.mkdirSync(path);
    const opened: string[] = [];
    const watched: PoolFs = {
      ...nodeFs,
      openSync: ((name: string, flags: number, mode?: number) => {
        opened.push(name);
        return nodeFs.openSync(name, flags, mode);
      }) as PoolFs["openSync"],
    };
    const pool = poolOn(new PoolFile(fileOptions(ofd, watched)));
    await rejects(pool.read("k", new Call()), "ERR_CORRUPT");
    await rejects(pool.write("k", Buffer.from("v"), new Call()), "ERR_CORRUPT");
    expect(opened).to.deep.equal([]);
    await pool.close();
    nodeFs.rmdirSync(path);
    writeFileSync(path, pair("k", "v"), { mode: 0o644 });
    nodeFs.chmodSync(path, 0o644);
    nodeFs.linkSync(path, join(folder, "other"));
    const shared = poolOn(new PoolFile({ ...fileOptions(ofd), makePrivate: true }));
    expect(text(await shared.read("k", new Call()))).to.equal("v");
    expect(statSync(path).mode & 0o777).to.equal(0o644);
    await shared.close();
  });

  it("syncs in order when durable: the file at each barrier, and the directory of a new one", async () => {
    nodeFs.unlinkSync(path);
    const synced: string[] = [];
    const names = new Map<number, string>();
    const watched: PoolFs = {
      ...nodeFs,
      openSync: ((name: string, flags: number, mode?: number) => {
        const fd = nodeFs.openSync(name, flags, mode);
        names.set(fd, name);
        return fd;
      }) as PoolFs["openSync"],
      fsync: ((fd: number, done: (error: null) => void) => {
        synced.push(names.get(fd) ?? "?");
        nodeFs.fsync(fd, () => done(null));
      }) as unknown as PoolFs["fsync"],
    };
    const file = new PoolFile({ ...fileOptions(ofd, watched), create: true });
    const pool = poolOn(file, undefined, true);
    await pool.write("k", Buffer.from("v"), new Call());
    expect(synced).to.include(folder);
    expect(synced.at(-1)).to.be.oneOf([path, folder]);
    const before = synced.length;
    await pool.write("k", Buffer.from("w"), new Call());
    expect(synced.length - before, "one page").to.equal(1);
    await pool.close();
  });

  it("keeps nothing of what was done under its locks", async () => {
    const file = new PoolFile(fileOptions(ofd));
    const held: WeakRef<object>[] = [];
    for (let i = 0; i < 50; i++) {
      const result = await file.locked("shared", new Call(), () => ({ large: Buffer.alloc(10_000) }));
      held.push(new WeakRef(result));
    }
    await new Promise((resolve) => setImmediate(resolve));
    setFlagsFromString("--expose-gc");
    (runInNewContext("gc") as () => void)();
    expect(held.slice(0, 45).filter((each) => each.deref() !== undefined).length).to.equal(0);
    await file.close();
  });

  it("continues short writes", async () => {
    const dribble: PoolFs = {
      ...nodeFs,
      writeSync: ((fd: number, bytes: Uint8Array, offset: number, length: number, position: number) =>
        nodeFs.writeSync(fd, bytes, offset, Math.min(length, 100), position)) as PoolFs["writeSync"],
    };
    const pool = poolOn(new PoolFile(fileOptions(ofd, dribble)));
    await pool.write("k", Buffer.from("v".repeat(900)), new Call());
    expect(pairsOf(nodeFs.readFileSync(path))).to.deep.equal([["k", "v".repeat(900)]]);
    await pool.close();
  });

  describe("with record locks of the POSIX kind, as on FreeBSD", () => {
    it("is one descriptor for all users in the process, whose closing drops nobody's lock", async function () {
      const python = findPython("import fcntl");
      if (python === undefined) {
        return pending(this, "no python3");
      }
      const opened: number[] = [];
      const counted: PoolFs = {
        ...nodeFs,
        openSync: ((...args: Parameters<PoolFs["openSync"]>) => {
          const fd = nodeFs.openSync(...args);
          opened.push(fd);
          return fd;
        }) as PoolFs["openSync"],
      };
      const first = sharePoolFile(fileOptions(posix, counted));
      const second = sharePoolFile(fileOptions(posix, counted));
      let seen = "";
      await first.locked("exclusive", new Call(), async () => {
        second.read(Buffer.alloc(1), 0);
        expect(opened).to.have.length(1);
        await second.close();
        await second.close();
        const script = `import fcntl,sys
f=open(sys.argv[1],"r+b")
try: fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB); print("got it")
except OSError: print("held")`;
        seen = (await start(python, ["-c", script, path]).done).stdout.trim();
      });
      expect(seen).to.equal("held");
      await first.close();
      await rejects(
        first.locked("shared", new Call(), () => undefined),
        "ERR_DISCONNECTED",
      );
    });

    it("goes by each user's own owners, locks and right to create it", async () => {
      const taken: string[] = [];
      const named =
        (name: string): Locker =>
        (fd, options) => {
          taken.push(name);
          return posix(fd, options);
        };
      const first = sharePoolFile({ ...fileOptions(named("first")), create: true });
      const second = sharePoolFile(fileOptions(named("second")));
      const strict = sharePoolFile({ ...fileOptions(named("strict")), trustedOwners: new Set([4_000_000]) });
      const private_ = sharePoolFile({ ...fileOptions(named("private")), makePrivate: true });
      const lock = (file: PoolFile): Promise<unknown> =>
        file.locked("exclusive", new Call(), () => undefined);
      await lock(first);
      await lock(second);
      expect(taken).to.deep.equal(["first", "second"]);
      await rejects(lock(strict), "ERR_PERMISSION");
      expect(() => strict.read(Buffer.alloc(1), 0)).to.throw("neither root nor this user");
      nodeFs.chmodSync(path, 0o644);
      await lock(private_);
      expect(nodeFs.statSync(path).mode & 0o777).to.equal(0o600);
      rmSync(path);
      await rejects(lock(second), "ERR_UNAVAILABLE");
      await lock(first);
      expect(nodeFs.existsSync(path)).to.equal(true);
      await Promise.all([first, second, strict, private_].map((file) => file.close()));
    });

    it("serialises two pools on it without a lost record", async () => {
      const pools = [1, 2].map(() => poolOn(sharePoolFile(fileOptions(posix))));
      await Promise.all(
        pools.flatMap((pool, p) =>
          Array.from({ length: 40 }, (_, i) => pool.write(`${p}-${i}`, Buffer.from("v"), new Call())),
        ),
      );
      expect(new Map(pairsOf(nodeFs.readFileSync(path))).size).to.equal(80);
      await Promise.all(pools.map((pool) => pool.close()));
    });
  });

  it("is found in FreeBSD's place, and in the old one of Linux", async () => {
    for (const [platform, place] of [
      ["freebsd", "var/db/hyperv/pool"],
      ["linux", "var/opt/hyperv"],
    ] as const) {
      const sysroot = mkdtempSync(join(tmpdir(), "pvbus-place-"));
      mkdirSync(join(sysroot, place), { recursive: true });
      writeFileSync(join(sysroot, place, ".kvp_pool_0"), fixture("pool0_basic.bin"));
      const bus = await openPvbus({ host: nodeHost({ platform, sysroot }) });
      expect(bus.primary?.type).to.equal("Hyper-V");
      expect((await collect((bus.primary as PvInterface).list("External"))).length).to.equal(3);
      await bus.close();
      rmSync(sysroot, { recursive: true });
    }
  });
});
