import { chmodSync, chownSync, mkdirSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { compileCacheDirectory, enableCompileCache } from "../../src/cli/io/compile-cache.js";
import { pending } from "../support/pending.js";
import { fileTree, removeTree } from "../support/trees.js";

describe("the cache of compiled code", () => {
  let root: string;
  let home: string;
  const NOBODY = 65534;

  beforeEach(function () {
    if (process.geteuid === undefined) return pending(this, "a system with users");
    root = fileTree({});
    home = join(root, "home");
    mkdirSync(home, { mode: 0o755 });
  });
  afterEach(() => removeTree(root));

  const directory = (env: Record<string, string> = {}): string | undefined =>
    compileCacheDirectory(env, () => home);

  it("lies below the home of the user database, private, whatever HOME says", () => {
    expect(directory({ HOME: "/tmp" })).to.equal(join(home, ".cache/pvbus"));
    for (const each of [".cache", ".cache/pvbus"])
      expect(statSync(join(home, each)).mode & 0o777, each).to.equal(0o700);
    expect(directory(), "the second time").to.equal(join(home, ".cache/pvbus"));
  });

  it("lies below XDG_CACHE_HOME, where that is absolute", () => {
    expect(directory({ XDG_CACHE_HOME: home })).to.equal(join(home, "pvbus"));
    expect(directory({ XDG_CACHE_HOME: "home" })).to.equal(join(home, ".cache/pvbus"));
  });

  for (const [what, spoil] of [
    ["that all may write", (at: string) => chmodSync(at, 0o777)],
    ["that all may write, sticky", (at: string) => chmodSync(at, 0o1777)],
    ["that its group may write", (at: string) => chmodSync(at, 0o775)],
    ["of somebody else", (at: string) => chownSync(at, NOBODY, NOBODY)],
  ] as const) {
    for (const part of ["home", "home/.cache", "home/.cache/pvbus"]) {
      it(`is not used in a directory ${what}: ${part}`, function () {
        if (what === "of somebody else" && process.geteuid?.() !== 0)
          return pending(this, "root, to give a directory away");
        mkdirSync(join(root, "home/.cache/pvbus"), { recursive: true, mode: 0o700 });
        spoil(join(root, part));
        expect(directory()).to.equal(undefined);
      });
    }
  }

  it("is not used where a link leads to a place of somebody else, or others may read it", () => {
    const theirs = join(root, "theirs");
    mkdirSync(theirs);
    chmodSync(theirs, 0o777);
    symlinkSync(theirs, join(home, ".cache"));
    expect(directory()).to.equal(undefined);
    const open = join(root, "open");
    mkdirSync(join(open, "pvbus"), { recursive: true, mode: 0o755 });
    expect(directory({ XDG_CACHE_HOME: open })).to.equal(undefined);
  });

  it("is not used without a home", () => {
    home = join(root, "nobody");
    expect(directory()).to.equal(undefined);
    expect(() => statSync(home)).to.throw("ENOENT");
  });

  it("is not looked for where Node has none, and not used where there is no place", () => {
    const asked: string[] = [];
    const caching = { enableCompileCache: (at: string) => asked.push(at) };
    enableCompileCache({}, () => expect.fail("looked for"));
    enableCompileCache(caching, () => undefined);
    enableCompileCache(caching, () => "/there");
    expect(asked).to.deep.equal(["/there"]);
  });
});
