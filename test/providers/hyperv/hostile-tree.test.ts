import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join, relative } from "node:path";
import { expect } from "chai";
import { diagnoseHyperv } from "../../../providers/hyperv/diagnose.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { PvbusError, type PvbusErrorCode, type PvInterface } from "../../../src/index.js";
import { budget, note, seed } from "../../support/campaign.js";
import { PROGRAM } from "../../support/command-line.js";
import { RunningDaemon } from "../../support/kvp-daemon.js";
import { INSIDE, markedPool, OUTSIDE, TreeWithOutside } from "../../support/outside.js";
import { pending } from "../../support/pending.js";
import { collect } from "../../support/pools.js";
import { type Outcome, start } from "../../support/processes.js";
import { rejects } from "../../support/rejects.js";

const DIRECTORY = "var/lib/hyperv";
const POOL = `${DIRECTORY}/.kvp_pool_1`;
/** What a tree may lead away with, from the top down. */
const LEVELS = ["var", "var/lib", DIRECTORY, POOL] as const;
/** How long one call may take. */
const LIMIT = { timeoutMs: 2_000 };

/** Inodes that this process has notifications of. */
function watchedInodes(): number[] {
  const inodes: number[] = [];
  for (const fd of readdirSync("/proc/self/fdinfo")) {
    let text = "";
    try {
      text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
    } catch {
      // The descriptor of the listing itself.
    }
    for (const [, ino = ""] of text.matchAll(/^inotify wd:\S+ ino:([0-9a-f]+)/gm))
      inodes.push(Number.parseInt(ino, 16));
  }
  return inodes;
}

function pvbus(sysroot: string, ...args: string[]): Promise<Outcome> {
  return start(process.execPath, [PROGRAM, "-t", "Hyper-V", "--sysroot", sysroot, ...args]).done;
}

/** The code of our error; any other error is a failure of the test. */
async function codeOf(work: Promise<unknown>): Promise<PvbusErrorCode | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return error.code;
  }
}

/** Every verb once; gives what was read and the codes of what failed. */
async function allVerbs(hv: PvInterface): Promise<{ seen: string[]; codes: Set<PvbusErrorCode> }> {
  const seen: string[] = [];
  const codes = new Set<PvbusErrorCode>();
  const attempt = async (work: Promise<unknown>): Promise<void> => {
    const code = await codeOf(work);
    if (code !== undefined) codes.add(code);
  };
  const see = (...entries: readonly { value?: string | undefined }[]): void => {
    for (const { value } of entries) seen.push(String(value));
  };
  await attempt(hv.read("Guest/marker", LIMIT).then((value) => see({ value })));
  await attempt(collect(hv.list("Guest/", LIMIT)).then((all) => see(...all)));
  await attempt(hv.write("Guest/written", "by us", LIMIT));
  await attempt(hv.delete("Guest/marker", LIMIT));
  await attempt(collect(hv.watch("Guest/", { timeoutMs: 50 })).then((all) => see(...all)));
  return { seen, codes };
}

describe("Hyper-V pools in a hostile tree", function () {
  this.timeout(60_000);
  let both: TreeWithOutside;
  const inTree = (path: string): string => join(both.tree.sysroot, path);

  beforeEach(() => {
    both = new TreeWithOutside();
  });
  afterEach(() => both[Symbol.asyncDispose]());

  const lead = (place: string, kind: "absolute" | "relative"): void => {
    const target = join(both.outside, place);
    rmSync(inTree(place), { recursive: true });
    symlinkSync(kind === "absolute" ? target : relative(dirname(inTree(place)), target), inTree(place));
  };

  for (const place of LEVELS) {
    for (const kind of ["absolute", "relative"] as const) {
      it(`leads nowhere by a link in the place of ${place}, ${kind}`, async () => {
        lead(place, kind);
        for (const options of [{ createPools: true }, { createPools: true, directory: `/${DIRECTORY}` }]) {
          const { seen, codes } = await allVerbs(await both.tree.open(options));
          expect(seen).to.deep.equal([]);
          expect(
            [...codes].every(
              (code) => code === "ERR_UNAVAILABLE" || code === "ERR_PERMISSION" || code === undefined,
            ),
          ).to.equal(true);
        }
        expect(both.isUntouched()).to.equal(true);
      });
    }
  }

  it("follows links as chroot does: an absolute one begins at the tree", async () => {
    for (const target of ["/data/pools", "../../../../../../data/pools"]) {
      mkdirSync(inTree("data"), { recursive: true });
      renameSync(both.tree.directory, inTree("data/pools"));
      symlinkSync(target, both.tree.directory);
      const hv = await both.tree.open();
      expect(await hv.read("Guest/marker")).to.equal(INSIDE);
      await hv.write("Guest/marker", INSIDE);
      rmSync(both.tree.directory);
      renameSync(inTree("data/pools"), both.tree.directory);
    }
    expect(both.isUntouched()).to.equal(true);
  });

  it("refuses a link in a pool's place, also one that stays in the tree, and says which", async () => {
    writeFileSync(inTree("pool"), markedPool(INSIDE));
    rmSync(inTree(POOL));
    symlinkSync("/pool", inTree(POOL));
    const error = await rejects((await both.tree.open()).read("Guest/marker"), "ERR_PERMISSION");
    expect(error.message).to.contain(inTree(POOL)).and.to.contain("symbolic link");
    expect(error.message).to.not.contain("/proc/");
  });

  it("ends with links in a circle", async () => {
    rmSync(both.tree.directory, { recursive: true });
    symlinkSync("hyperv", both.tree.directory);
    const hv = await both.tree.open({ directory: `/${DIRECTORY}` });
    const { seen, codes } = await allVerbs(hv);
    expect(seen).to.deep.equal([]);
    expect(codes).to.include("ERR_PERMISSION");
  });

  for (const [name, place] of [
    ["a directory", (path: string) => mkdirSync(path)],
    ["a FIFO", (path: string) => execFileSync("mkfifo", [path])],
    ["a device", (path: string) => execFileSync("mknod", [path, "c", "1", "5"])],
    [
      "a socket",
      (path: string) => new Promise<void>((resolve) => createServer().listen(path, resolve).unref()),
    ],
  ] as const) {
    it(`opens nothing of ${name} in a pool's place`, async function () {
      rmSync(inTree(POOL));
      try {
        await place(inTree(POOL));
      } catch (error) {
        pending(this, `${name}: ${(error as Error).message}`);
      }
      const { seen, codes } = await allVerbs(await both.tree.open({ createPools: true }));
      expect(seen).to.deep.equal([]);
      expect(codes).to.deep.equal(new Set(["ERR_CORRUPT"]));
    });
  }

  it("has no notification of anything outside", async function () {
    if (process.platform !== "linux") pending(this, "inotify");
    for (const place of ["var/lib", DIRECTORY]) {
      lead(place, "absolute");
      const hv = await both.tree.open({ directory: `/${DIRECTORY}` });
      const controller = new AbortController();
      const watch = hv.watch("Guest/", { signal: controller.signal })[Symbol.asyncIterator]();
      const next = watch.next();
      await hv.read("Guest/marker").catch(() => undefined);
      const outside = both.inodes();
      const watched = watchedInodes();
      expect(watched.length).to.be.greaterThan(0);
      expect(watched.filter((inode) => outside.has(inode))).to.deep.equal([]);
      controller.abort();
      await next;
      rmSync(inTree(place));
      mkdirSync(both.tree.directory, { recursive: true });
    }
  });

  it("is examined by doctor without hanging or leaving", () => {
    const host = nodeHost({ sysroot: both.tree.sysroot, platform: "linux", env: {} });
    mkdirSync(inTree("sys/bus/vmbus/devices/x"), { recursive: true });
    mkdirSync(inTree("proc/7"), { recursive: true });
    for (const path of ["sys/bus/vmbus/devices/x/class_id", "proc/7/comm"])
      execFileSync("mkfifo", [inTree(path)]);
    mkdirSync(inTree("dev"));
    symlinkSync(join(both.outside, "dev/vmbus"), inTree("dev/vmbus"));
    lead(DIRECTORY, "absolute");
    expect(
      diagnoseHyperv(host).filter(({ what, works }) => works && !what.startsWith("native")),
    ).to.deep.equal([{ what: "the VMBus driver is loaded", works: true }]);
  });

  it("is left by no command", async () => {
    for (const place of ["var/lib", DIRECTORY, POOL]) {
      lead(place, "relative");
      const outcomes = await Promise.all([
        pvbus(both.tree.sysroot, "ls", "Guest/"),
        pvbus(both.tree.sysroot, "get", "Guest/marker"),
        pvbus(both.tree.sysroot, "set", "-o", "createPools=true", "Guest/marker", "by us"),
        pvbus(both.tree.sysroot, "--timeout", "1", "watch", "Guest/"),
      ]);
      for (const { code, stdout } of outcomes) {
        expect(code).to.be.within(0, 1);
        expect(stdout).to.not.contain(OUTSIDE);
      }
      expect(both.isUntouched()).to.equal(true);
      rmSync(inTree(place));
      mkdirSync(both.tree.directory, { recursive: true });
      both.tree.put(1, markedPool(INSIDE));
    }
  });

  describe("that somebody changes meanwhile", () => {
    const seconds = budget(1, 30);
    const places = LEVELS;

    it("is not left by any verb, and crashes none", async () => {
      const { sysroot } = both.tree;
      await both.swap(seed(), ...places);
      const until = performance.now() + seconds * 1_000;
      const seen = new Map<string, number>();
      const codes = new Map<string, number>();
      let calls = 0;
      const see = (value: unknown): void => void seen.set(String(value), (seen.get(String(value)) ?? 0) + 1);
      // A busy machine may need longer to show anything at all.
      const isOver = (): boolean => performance.now() >= until && seen.has(INSIDE) && both.swaps > 0;
      const keep = async (work: (hv: PvInterface) => Promise<unknown>): Promise<void> => {
        while (!isOver()) {
          const hv = await both.tree.open({ createPools: true, directory: `/${DIRECTORY}` });
          for (let at = 0; at < 100 && !isOver(); at++) {
            calls++;
            const code = await codeOf(work(hv));
            if (code !== undefined) codes.set(code, (codes.get(code) ?? 0) + 1);
          }
          await hv.close();
        }
      };
      await Promise.all([
        keep(async (hv) => see(await hv.read("External/marker", LIMIT))),
        keep(async (hv) => {
          for (const { key, value } of await collect(hv.list("Guest/", LIMIT)))
            if (key === "Guest/marker") see(value);
        }),
        keep((hv) => hv.write("Guest/written", "by us", LIMIT)),
        keep((hv) => hv.delete("Guest/written", LIMIT)),
        keep(async (hv) => {
          for await (const { key, value } of hv.watch("Guest/marker", { timeoutMs: 100 }))
            if (key === "Guest/marker") see(value);
        }),
        (async () => {
          while (!isOver()) {
            const outcomes = await Promise.all([
              pvbus(sysroot, "get", "Guest/marker"),
              pvbus(sysroot, "set", "Guest/written", "by us"),
            ]);
            for (const { code, stdout } of outcomes) {
              expect(code).to.be.within(0, 1);
              see(stdout.trim() === OUTSIDE ? OUTSIDE : "a command");
            }
          }
        })(),
      ]);
      await both.stop();
      note(
        `${calls} calls beside ${both.swaps} swaps: ${JSON.stringify(Object.fromEntries(seen))}, refused ${JSON.stringify(Object.fromEntries(codes))}`,
      );
      expect(seen.get(OUTSIDE)).to.equal(undefined);
      expect(both.isUntouched(), "what stands outside").to.equal(true);
    });

    it("is not left by the daemon", async () => {
      await using daemon = await RunningDaemon.start(both.tree.sysroot, { platform: "linux" });
      await both.swap(seed(), ...places.slice(0, 3), `${DIRECTORY}/.kvp_pool_0`);
      const until = performance.now() + seconds * 1_000;
      let stored = 0;
      while (performance.now() < until || stored === 0 || both.swaps === 0) {
        if ((await daemon.set(0, "written", "by the host")) === 0) stored++;
        for (const [, value] of await daemon.enumerate(0)) expect(value).to.not.equal(OUTSIDE);
        await daemon.delete(0, "written");
      }
      await both.stop();
      note(`${stored} pairs stored beside ${both.swaps} swaps`);
      expect(both.isUntouched(), "what stands outside").to.equal(true);
    });
  });
});
