import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { isLong } from "./support/campaign.js";
import { fixture, ROOT } from "./support/pools.js";

/** The package as a user installs it: packed, unpacked elsewhere, its dependencies beside it. */
describe("the packed package", function () {
  this.timeout(120_000);
  let folder: string;
  let paths: readonly string[];
  const run = (command: string, args: readonly string[]) =>
    spawnSync(command, args, {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, PVBUS_SYSROOT: join(folder, "root") },
    });

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-package-"));
    const packed = spawnSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], {
      cwd: ROOT,
      encoding: "utf8",
    });
    const [{ filename: tarball, files }] = JSON.parse(packed.stdout) as [
      { filename: string; files: { path: string }[] },
    ];
    paths = files.map(({ path }) => path);
    writeFileSync(join(folder, "package.json"), '{"name":"user","private":true}');
    if (isLong) install(join(folder, tarball));
    else unpack(join(folder, tarball));
    mkdirSync(join(folder, "root"));
    writeFileSync(join(folder, "root/.kvp_pool_0"), fixture("pool0_basic.bin"));
  });
  function install(tarball: string): void {
    const options = ["--ignore-scripts", "--silent", "--no-audit", "--no-fund"];
    const installed = run("npm", ["install", ...options, tarball]);
    expect(installed.status, installed.stderr).to.equal(0);
  }

  /** Does what npm's installation does, which takes its time for the dependencies: those are ours, as far as they are declared. */
  function unpack(tarball: string): void {
    const modules = join(folder, "node_modules");
    const own = join(modules, "pvbus");
    mkdirSync(join(modules, ".bin"), { recursive: true });
    mkdirSync(own);
    const unpacked = run("tar", ["-xzf", tarball, "-C", own, "--strip-components=1"]);
    expect(unpacked.status, unpacked.stderr).to.equal(0);
    const { dependencies, bin } = JSON.parse(readFileSync(join(own, "package.json"), "utf8")) as Record<
      "dependencies" | "bin",
      Record<string, string>
    >;
    for (const name of Object.keys(dependencies)) {
      mkdirSync(dirname(join(modules, name)), { recursive: true });
      symlinkSync(realpathSync(join(ROOT, "node_modules", name)), join(modules, name));
    }
    for (const [name, path] of Object.entries(bin)) {
      chmodSync(join(own, path), 0o755);
      symlinkSync(join(own, path), join(modules, ".bin", name));
    }
  }
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("gives every subpath to import and to require", () => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      exports: Record<string, unknown>;
    };
    const names = Object.keys(exports).map((subpath) => `pvbus${subpath.slice(1)}`);
    expect(names.length).to.be.greaterThan(5);
    // One start for all: Node takes longer than they do.
    const importing = names.map((name) => {
      const attributes = name.endsWith(".json") ? ', { with: { type: "json" } }' : "";
      return `console.log("${name}", Object.keys(await import("${name}"${attributes})).length > 0);`;
    });
    const requiring = names.map(
      (name) => `console.log("${name}", Object.keys(require("${name}")).length > 0);`,
    );
    const expected = names.map((name) => `${name} true\n`).join("");
    for (const args of [
      ["--input-type=module", "-e", importing.join("\n")],
      ["-e", requiring.join("\n")],
    ]) {
      const { stdout, stderr, status } = run(process.execPath, args);
      expect([stdout, status], stderr).to.deep.equal([expected, 0]);
    }
  });

  it("runs its command lines", () => {
    expect(run("npx", ["--no-install", "pvbus", "get", "External/alpha"])).to.include({
      stdout: "one\n",
      status: 0,
    });
    // What npx does too, without another start of npm.
    expect(run(join(folder, "node_modules/.bin/hostctl"), ["External/alpha"])).to.include({
      stdout: "one\n",
      status: 0,
    });
  });

  it("holds no test, no fixture and no path of this machine", () => {
    expect(paths).to.include.members([
      "dist/bin/pvbus.cjs",
      "dist/bin/hostctl.cjs",
      "LICENSE",
      "README.md",
      "THIRD-PARTY-NOTICES",
    ]);
    expect(
      paths.filter((path) => /(^|\/)test\/|fixture|tsbuildinfo|dist\/bench|dist\/test\//.test(path)),
    ).to.deep.equal([]);
    for (const bin of ["pvbus", "hostctl"])
      expect(readFileSync(join(ROOT, `dist/bin/${bin}.cjs`), "utf8")).not.to.include(ROOT);
  });
});
