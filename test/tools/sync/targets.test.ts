import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { DirectoryTarget } from "../../../src/tools/sync/directory-target.js";
import { EnvironmentTarget } from "../../../src/tools/sync/environment-target.js";
import type { SyncTarget } from "../../../src/tools/sync/target.js";
import { codeOf } from "../../support/memory-interface.js";
import { pending } from "../../support/pending.js";
import { asNobody } from "../../support/trees.js";

const content = (values: Readonly<Record<string, string | Uint8Array>>): Map<string, Uint8Array> =>
  new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value as string)]));

const codeOfOpening = (open: () => SyncTarget): unknown => {
  try {
    open()[Symbol.dispose]();
    return "none";
  } catch (error) {
    return (error as { code?: string }).code;
  }
};

let place: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "pvbus-sync-"));
});
afterEach(() => rmSync(place, { recursive: true }));

/** Whatever stands in a directory, by name. */
const filesIn = (directory: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(directory)
      .sort()
      .map((name) => [name, readFileSync(join(directory, name), "utf8")]),
  );

/** Gives a small file system to a directory; false without the right to. */
function mountSmall(path: string): boolean {
  mkdirSync(path, { recursive: true });
  return spawnSync("mount", ["-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", path]).status === 0;
}

describe("a file that a sync keeps", () => {
  it("is its owner's alone, is replaced whole, and leaves nothing beside it", async () => {
    const path = join(place, "made/env");
    using target = new EnvironmentTarget(path);
    await target.write(content({ role: "web" }));
    expect([readFileSync(path, "utf8"), statSync(path).mode & 0o777]).to.deep.equal(["ROLE=web\n", 0o600]);
    expect(statSync(join(place, "made")).mode & 0o777).to.equal(0o700);
    chmodSync(path, 0o644);
    const { ino } = statSync(path);
    await target.write(content({ role: "db", level: "1" }));
    expect(statSync(path).ino).not.to.equal(ino);
    expect(statSync(path).mode & 0o777).to.equal(0o600);
    expect(filesIn(join(place, "made"))).to.deep.equal({ env: "LEVEL=1\nROLE=db\n" });
  });

  it("stays as it is where the new content cannot be held", async () => {
    const path = join(place, "env");
    using target = new EnvironmentTarget(path);
    await target.write(content({ role: "web" }));
    expect(await codeOf(target.write(content({ "a-b": "1", "a.b": "2" })))).to.equal("ERR_CONFLICT");
    expect(await codeOf(target.write(content({ a: Buffer.from([0]) })))).to.equal("ERR_VALUE_INVALID");
    expect(filesIn(place)).to.deep.equal({ env: "ROLE=web\n" });
  });

  it("takes the place of a link, not of what the link leads to", async () => {
    writeFileSync(join(place, "victim"), "unharmed");
    symlinkSync(join(place, "victim"), join(place, "env"));
    using target = new EnvironmentTarget(join(place, "env"));
    await target.write(content({ role: "web" }));
    expect(lstatSync(join(place, "env")).isFile()).to.equal(true);
    expect(filesIn(place)).to.deep.equal({ env: "ROLE=web\n", victim: "unharmed" });
  });

  it("takes the place of no directory, device or descriptor", () => {
    mkdirSync(join(place, "directory"));
    symlinkSync("/dev/null", join(place, "null"));
    symlinkSync("/proc/self/fd/1", join(place, "stdout"));
    for (const name of ["directory", "null", "stdout"])
      expect(
        codeOfOpening(() => new EnvironmentTarget(join(place, name))),
        name,
      ).to.equal("ERR_UNAVAILABLE");
    writeFileSync(join(place, "file"), "");
    expect(codeOfOpening(() => new EnvironmentTarget(join(place, "file/env")))).to.equal("ERR_UNAVAILABLE");
  });

  it("is refused where this user may not write", async function () {
    if (process.geteuid?.() !== 0) return pending(this, "root, which becomes somebody else");
    chmodSync(place, 0o755);
    await asNobody(async () => {
      using target = new EnvironmentTarget(join(place, "env"));
      expect(await codeOf(target.write(content({ a: "1" })))).to.equal("ERR_PERMISSION");
    });
  });

  it("clears away what a killed run left of it, and of no other", async () => {
    const path = join(place, "env");
    using _first = new EnvironmentTarget(path);
    for (const name of [".pvbus-sync-0123456789abcdef-0123456789ab", ".other"])
      writeFileSync(join(place, name), "x");
    const own = await leftover(path);
    using _next = new EnvironmentTarget(path);
    expect(existsSync(own)).to.equal(false);
    expect(readdirSync(place)).to.have.members([".pvbus-sync-0123456789abcdef-0123456789ab", ".other"]);
  });

  /** Makes a file under the name that a run which was killed would leave. */
  async function leftover(path: string): Promise<string> {
    const { HeldDirectory } = await import("../../../src/tools/sync/held-directory.js");
    using directory = new HeldDirectory(place);
    await directory.prepare(path.slice(place.length + 1), "half");
    const [name = ""] = readdirSync(place).filter(
      (each) => readFileSync(join(place, each), "utf8") === "half",
    );
    return join(place, name);
  }
});

describe("a directory that a sync keeps", () => {
  it("has one file per key, of its owner alone, bytes as they are, and nothing else in it", async () => {
    const directory = join(place, "d");
    using target = new DirectoryTarget(directory);
    await target.write(content({ role: "web", "a/b": "2", ".x": "", bytes: Buffer.from([0, 255]) }));
    expect(readdirSync(directory).sort()).to.deep.equal(["%2Ex", "a%2Fb", "bytes", "role"]);
    expect(readFileSync(join(directory, "bytes"))).to.deep.equal(Buffer.from([0, 255]));
    for (const name of readdirSync(directory))
      expect(statSync(join(directory, name)).mode & 0o777, name).to.equal(0o600);
    expect(statSync(directory).mode & 0o777).to.equal(0o700);
  });

  it("loses the files of gone keys, rewrites those that changed, and no others", async () => {
    const directory = join(place, "d");
    using target = new DirectoryTarget(directory);
    await target.write(content({ a: "1", b: "2", c: "3" }));
    const inodeOf = (name: string): number => statSync(join(directory, name)).ino;
    const before = inodeOf("a");
    await target.write(content({ a: "1", b: "two" }));
    expect(filesIn(directory)).to.deep.equal({ a: "1", b: "two" });
    expect(inodeOf("a")).to.equal(before);
  });

  it("loses in the next run what has gone meanwhile, and nothing that is somebody else's", async () => {
    const directory = join(place, "d");
    {
      using target = new DirectoryTarget(directory);
      await target.write(content({ a: "1", gone: "2" }));
    }
    writeFileSync(join(directory, "foreign"), "theirs");
    using target = new DirectoryTarget(directory);
    await target.write(content({ a: "1" }));
    expect(filesIn(directory)).to.deep.equal({ a: "1", foreign: "theirs" });
  });

  it("believes no list of names that others could have written, and none that leads out", async () => {
    const directory = join(place, "d");
    mkdirSync(directory);
    const list = join(place, ".d.pvbus-sync");
    writeFileSync(join(directory, "theirs"), "x");
    writeFileSync(join(place, "outside"), "x");
    writeFileSync(list, "theirs\n", { mode: 0o666 });
    chmodSync(list, 0o666);
    {
      using target = new DirectoryTarget(directory);
      await target.write(content({}));
    }
    expect(readdirSync(directory)).to.deep.equal(["theirs"]);
    chmodSync(list, 0o600);
    writeFileSync(list, "../outside\n..\n.\n\nd/../../outside\n");
    using target = new DirectoryTarget(directory);
    await target.write(content({}));
    expect(readdirSync(place).sort()).to.deep.equal([".d.pvbus-sync", "d", "outside"]);
  });

  it("keeps its list within, hidden, where nothing can be written beside it", async function () {
    if (process.geteuid?.() !== 0) return pending(this, "root, which becomes somebody else");
    const directory = join(place, "d");
    mkdirSync(directory);
    chmodSync(place, 0o755);
    chmodSync(directory, 0o777);
    await asNobody(async () => {
      using first = new DirectoryTarget(directory);
      await first.write(content({ a: "1", b: "2" }));
      using next = new DirectoryTarget(directory);
      await next.write(content({ a: "1" }));
    });
    expect(readdirSync(directory).sort()).to.deep.equal([".pvbus-sync", "a"]);
  });

  it("follows no link that lies in it, and is not led elsewhere by whoever changes the way to it", async () => {
    const directory = join(place, "d");
    mkdirSync(directory);
    writeFileSync(join(place, "victim"), "unharmed");
    symlinkSync(join(place, "victim"), join(directory, "role"));
    using target = new DirectoryTarget(directory);
    await target.write(content({ role: "web" }));
    expect(readFileSync(join(place, "victim"), "utf8")).to.equal("unharmed");
    expect(lstatSync(join(directory, "role")).isFile()).to.equal(true);
    mkdirSync(join(place, "elsewhere"));
    renameSync(directory, join(place, "moved"));
    symlinkSync(join(place, "elsewhere"), directory);
    await target.write(content({ role: "db" }));
    expect(readdirSync(join(place, "elsewhere"))).to.deep.equal([]);
    expect(filesIn(join(place, "moved"))).to.deep.equal({ role: "db" });
  });

  it("changes nothing where a directory is in the way of one of them", async () => {
    const directory = join(place, "d");
    using target = new DirectoryTarget(directory);
    await target.write(content({ a: "1" }));
    mkdirSync(join(directory, "b"));
    expect(await codeOf(target.write(content({ a: "2", b: "2" })))).to.equal("ERR_UNAVAILABLE");
    expect(readdirSync(directory).sort()).to.deep.equal(["a", "b"]);
    expect(readFileSync(join(directory, "a"), "utf8")).to.equal("1");
  });

  it("says that it is gone", async () => {
    const directory = join(place, "d");
    using target = new DirectoryTarget(directory);
    rmSync(directory, { recursive: true });
    expect(await codeOf(target.write(content({ a: "1" })))).to.equal("ERR_UNAVAILABLE");
  });

  it("on a full disk keeps all as it was, and nothing half, until there is room", async function () {
    const small = join(place, "small");
    if (!mountSmall(small)) return pending(this, "mounting a tmpfs needs root");
    try {
      const directory = join(small, "d");
      const file = join(small, "env");
      using files = new DirectoryTarget(directory);
      using variables = new EnvironmentTarget(file);
      const before = content({ a: "1", b: "2" });
      await files.write(before);
      await variables.write(before);
      const after = content({ a: "x".repeat(40_000), b: "y".repeat(40_000), c: "z".repeat(90_000) });
      expect(await codeOf(files.write(after))).to.equal("ERR_NO_SPACE");
      expect(await codeOf(variables.write(after))).to.equal("ERR_NO_SPACE");
      expect(filesIn(directory)).to.deep.equal({ a: "1", b: "2" });
      expect(readFileSync(file, "utf8")).to.equal("A=1\nB=2\n");
      expect(readdirSync(small).sort()).to.deep.equal([".d.pvbus-sync", "d", "env"]);
      await files.write(content({ a: "3" }));
      expect(filesIn(directory)).to.deep.equal({ a: "3" });
    } finally {
      spawnSync("umount", ["-l", small]);
    }
  });
});
