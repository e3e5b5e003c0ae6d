import {
  chmodSync,
  linkSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type UnchangedName, unchangedName } from "../../src/native/posix/unchanged.js";

const isLinux = process.platform === "linux";

describe(`looks at a name${isLinux ? "" : " [pending: Linux only]"}`, () => {
  /** Long ago: what changes within one tick of the file system's clock would look the same. */
  const old = new Date(1_000_000_000_000);
  const past = new Date(1_100_000_000_000);
  let folder: string;
  let path: string;
  let name: UnchangedName;
  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-look-"));
    path = join(folder, "file");
    writeFileSync(path, "one");
    utimesSync(path, old, old);
    name = unchangedName(path) as UnchangedName;
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("find it changed at the first look, and not at the next ones", () => {
    expect([name.look(), name.look(), name.look()]).to.deep.equal([false, true, true]);
  });

  const changes: Record<string, () => void> = {
    "its bytes, of the same length": () => writeFileSync(path, "two"),
    "its length": () => writeFileSync(path, "three"),
    "its mode": () => chmodSync(path, 0o600),
    "a second name": () => linkSync(path, join(folder, "other")),
    "its time of modification": () => utimesSync(path, past, past),
    "the file in its place, of the same bytes and times": () => {
      utimesSync(path, past, past);
      name.look();
      writeFileSync(join(folder, "new"), "one");
      utimesSync(join(folder, "new"), past, past);
      renameSync(join(folder, "new"), path);
    },
    "a link in its place": () => {
      renameSync(path, join(folder, "new"));
      symlinkSync("new", path);
    },
  };
  for (const [what, change] of Object.entries(changes)) {
    it(`see ${what}`, () => {
      name.look();
      change();
      expect([name.look(), name.look()]).to.deep.equal([false, true]);
    });
  }

  it("never call a missing file unchanged, nor one that came back", () => {
    name.look();
    renameSync(path, join(folder, "away"));
    expect([name.look(), name.look()]).to.deep.equal([false, false]);
    renameSync(join(folder, "away"), path);
    expect([name.look(), name.look()]).to.deep.equal([false, true]);
  });
});
