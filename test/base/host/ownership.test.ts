import { chmodSync, lchownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { foreignHand, foreignHandOn, ourselves } from "../../../src/base/host/ownership.js";
import { pending } from "../../support/pending.js";
import { fileTree, removeTree } from "../../support/trees.js";

const US = { trusted: ourselves() };
const SOMEBODY = 4_242;

describe("who else can change a place", () => {
  let root: string;

  beforeEach(function () {
    if (process.geteuid === undefined) pending(this, "a system with users");
    root = fileTree({ "var/pools/file": "x" });
    chmodSync(join(root, "var"), 0o755);
    chmodSync(join(root, "var/pools"), 0o755);
  });

  afterEach(() => {
    if (root !== undefined) removeTree(root);
  });

  it("says from owner and mode alone who can", () => {
    const at = (uid: number, mode: number) => ({ uid, mode, isSymbolicLink: () => false });
    const us = { trusted: new Set([1_000]) };
    expect(foreignHand(at(0, 0o755), us)).equal(undefined);
    expect(foreignHand(at(1_000, 0o700), us)).equal(undefined);
    expect(foreignHand(at(SOMEBODY, 0o700), us)).equal(`belongs to user ${SOMEBODY}`);
    expect(foreignHand(at(0, 0o775), us)).equal("can be written by its group");
    expect(foreignHand(at(0, 0o1777), us)).equal("can be written by all users");
    expect(foreignHand(at(0, 0o1777), { ...us, sticky: true })).equal(undefined);
    expect(foreignHand(at(SOMEBODY, 0o1777), { ...us, sticky: true })).equal(`belongs to user ${SOMEBODY}`);
  });

  it("finds nobody below the system's temporary directory, which is sticky", () => {
    expect(foreignHandOn(join(root, "var/pools"), US)).equal(undefined);
    expect(foreignHandOn(join(root, "var/pools/file"), US)).equal(undefined);
  });

  it("finds whoever can write a directory on the way, or the place itself", () => {
    chmodSync(join(root, "var"), 0o775);
    expect(foreignHandOn(join(root, "var/pools"), US)).deep.equal({
      path: join(root, "var"),
      why: "can be written by its group",
    });
    chmodSync(join(root, "var"), 0o755);
    chmodSync(join(root, "var/pools"), 0o1777);
    expect(foreignHandOn(join(root, "var/pools"), US)?.path).equal(join(root, "var/pools"));
    expect(foreignHandOn(join(root, "var/pools/file"), US)).equal(undefined);
    expect(foreignHandOn(join(root, "var/pools"), { ...US, sticky: true })).equal(undefined);
  });

  it("looks at the way behind a link too, dots and all", () => {
    mkdirSync(join(root, "open/inner"), { recursive: true });
    symlinkSync("../open/inner", join(root, "var/link"));
    symlinkSync(join(root, "open/inner/.."), join(root, "var/up"));
    expect(foreignHandOn(join(root, "var/link"), US)).equal(undefined);
    chmodSync(join(root, "open"), 0o777);
    expect(foreignHandOn(join(root, "var/link"), US)?.path).equal(join(root, "open"));
    chmodSync(join(root, "open"), 0o1777);
    expect(foreignHandOn(join(root, "var/link"), US)).equal(undefined);
    expect(foreignHandOn(join(root, "var/up"), US)?.path).equal(join(root, "open"));
  });

  it("goes the way that the system goes: there is none through a file, dots or not", () => {
    symlinkSync("pools/file/../file", join(root, "var/link"));
    expect(() => foreignHandOn(join(root, "var/link"), US)).throw("ENOENT");
  });

  it("takes no link of another user's, who could put another in its place", function () {
    if (process.geteuid?.() !== 0) pending(this, "root, to give files away");
    symlinkSync("pools", join(root, "var/link"));
    lchownSync(join(root, "var/link"), SOMEBODY, SOMEBODY);
    expect(foreignHandOn(join(root, "var/link"), US)?.path).equal(join(root, "var/link"));
    const both = { trusted: new Set([...ourselves(), SOMEBODY]) };
    expect(foreignHandOn(join(root, "var/link"), both)).equal(undefined);
    lchownSync(join(root, "var/pools"), SOMEBODY, SOMEBODY);
    expect(foreignHandOn(join(root, "var/pools/file"), US)?.why).equal(`belongs to user ${SOMEBODY}`);
  });

  it("throws for what is not there and for links in a circle", () => {
    symlinkSync("circle", join(root, "var/circle"));
    writeFileSync(join(root, "var/plain"), "");
    expect(() => foreignHandOn(join(root, "var/none"), US)).throw("ENOENT");
    expect(() => foreignHandOn(join(root, "var/circle"), US)).throw("ELOOP");
  });
});
