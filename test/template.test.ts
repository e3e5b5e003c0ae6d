import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { ROOT } from "./support/pools.js";

/** The template of a provider's package: packed, installed from its tarball in an empty project, and run there. */
describe("examples/provider-template", function () {
  this.timeout(180_000);
  let folder: string;
  let place: string;
  const run = (command: string, args: readonly string[], cwd = folder) =>
    spawnSync(command, args, {
      cwd,
      encoding: "utf8",
      env: { ...process.env, PVBUS_SYSROOT: join(folder, "root") },
    });
  const pack = (directory: string): string => {
    const { stdout, stderr } = run(
      "npm",
      ["pack", "--ignore-scripts", "--json", "--pack-destination", folder],
      directory,
    );
    const [packed] = JSON.parse(stdout || "[]") as { filename: string }[];
    expect(packed, stderr).not.to.equal(undefined);
    return join(folder, packed?.filename ?? "");
  };

  before(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), "pvbus-template-")));
    writeFileSync(join(folder, "package.json"), '{"name":"user","private":true}');
    const tarballs = [pack(ROOT), pack(join(ROOT, "examples/provider-template"))];
    const options = ["--ignore-scripts", "--silent", "--no-audit", "--no-fund"];
    const { status, stderr } = run("npm", ["install", ...options, ...tarballs]);
    expect(status, stderr).to.equal(0);
    place = join(folder, "node_modules/pvbus-acme");
    for (const runner of ["mocha", "vitest"])
      symlinkSync(realpathSync(join(ROOT, "node_modules", runner)), join(folder, "node_modules", runner));
    mkdirSync(join(folder, "root/run/acme/keys"), { recursive: true });
    writeFileSync(join(folder, "root/run/acme/keys/answer"), "42");
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("is found and read from the command line", () => {
    const pvbus = (...args: readonly string[]) =>
      run(process.execPath, ["node_modules/pvbus/dist/bin/pvbus.cjs", "--provider", "pvbus-acme", ...args]);
    expect(pvbus("detect").stdout).to.match(
      /pvbus0 Acme \(guest-api\)\n {2}path: \/run\/acme\/keys is there/,
    );
    expect(pvbus("get", "-t", "Acme", "acme/answer")).to.include({ stdout: "42\n", status: 0 });
    expect(pvbus("set", "-t", "Acme", "acme/answer", "43").stderr).to.include("acmectl set NAME");
    expect(pvbus("doctor").stdout).to.include("ok   the Acme's keys are there");
  });

  for (const [runner, args, passed] of [
    [
      "mocha",
      ["node_modules/mocha/bin/mocha.js", "--timeout=60000", "--reporter=dot", "test/conformance.mocha.js"],
      /(\d+) passing/,
    ],
    [
      "vitest",
      [
        "node_modules/vitest/vitest.mjs",
        "run",
        "--reporter=default",
        "--testTimeout=60000",
        "test/conformance.test.js",
      ],
      /Tests +(\d+) passed/,
    ],
    ["node:test", ["--test", "--test-reporter=tap", "test/conformance.node.js"], /# pass (\d+)/],
  ] as const)
    it(`passes the conformance suite under ${runner}`, () => {
      const [program = "", ...rest] = args;
      const script = program.startsWith("node_modules/") ? join(folder, program) : program;
      const own = rest.map((each) =>
        each.startsWith("test/") ? join("node_modules/pvbus-acme", each) : each,
      );
      // vitest leaves out what lies below node_modules: it gets a copy of the tests beside them.
      const isVitest = runner === "vitest";
      if (isVitest) spawnSync("cp", ["-r", join(place, "test"), join(place, "src"), folder]);
      const { stdout, stderr, status } = run(process.execPath, [script, ...(isVitest ? rest : own)]);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
      const plain = `${stdout}${stderr}`.replace(/\u001b\[[\d;]*m/g, "");
      expect(status, plain.slice(-3000)).to.equal(0);
      expect(Number(passed.exec(plain)?.[1]), plain.slice(-500)).to.be.greaterThan(50);
      expect(plain).not.to.match(/[1-9]\d* (?:pending|skipped|todo)|# skipped [1-9]/);
    });
});
