import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { fixture, ROOT } from "./support/pools.js";

let folder: string;
let paths: readonly string[];
const run = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
  spawnSync(command, args, {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, PVBUS_SYSROOT: join(folder, "root"), ...env },
  });

before(function () {
  this.timeout(120_000);
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
  const installed = run("npm", [
    "install",
    "--ignore-scripts",
    "--silent",
    "--no-audit",
    "--no-fund",
    join(folder, tarball),
  ]);
  expect(installed.status, installed.stderr).to.equal(0);
  mkdirSync(join(folder, "root"));
  writeFileSync(join(folder, "root/.kvp_pool_0"), fixture("pool0_basic.bin"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** The package as a user installs it: packed, unpacked elsewhere, its dependencies beside it. */
describe("the packed package", function () {
  this.timeout(120_000);

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

  it("exports what the sources do, and one identity of it on all subpaths", () => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      exports: Record<string, string | { types: string }>;
    };
    const compare = Object.entries(exports).flatMap(([subpath, to]) => {
      if (typeof to === "string") return [];
      const tested = to.types.replace("./dist/lib/types/", `${ROOT}/dist/`).replace(".d.ts", ".js");
      return `await same(${JSON.stringify(`pvbus${subpath.slice(1)}`)}, ${JSON.stringify(tested)});`;
    });
    expect(compare.length).to.be.greaterThan(5);
    const { stdout, stderr } = run(process.execPath, [
      "--input-type=module",
      "-e",
      `const found = {};
       const same = async (name, tested) => {
         const [shipped, built] = [await import(name), await import(tested)];
         const names = Object.keys(shipped).sort();
         if (names.join() !== Object.keys(built).sort().join()) console.log(name, names.join());
         for (const each of names) {
           if (each in found && found[each] !== shipped[each]) console.log("two of", each);
           found[each] = shipped[each];
         }
       };
       ${compare.join("\n")}
       const { nodeHost, openPvbus, PvbusError } = await import("pvbus");
       const { KvmProvider } = await import("pvbus/providers/kvm");
       const refused = await new KvmProvider(nodeHost()).open({ channel: "nonsense" }).catch((error) => error);
       console.log(refused instanceof PvbusError, refused.name, refused.code);`,
    ]);
    expect(stdout, stderr).to.equal("true RefusedError ERR_NOT_SUPPORTED\n");
  });

  it("depends on koffi alone", () => {
    const [own] = [JSON.parse(readFileSync(join(folder, "node_modules/pvbus/package.json"), "utf8"))];
    expect(Object.keys(own.dependencies)).to.deep.equal(["koffi"]);
    expect(readdirSync(join(folder, "node_modules")).filter((name) => !name.startsWith("."))).to.have.members(
      ["@koromix", "koffi", "pvbus"],
    );
    // It is required, when it is needed.
    const shipped = paths.filter((path) => /^dist\/.*(?:js|ts)$/.test(path));
    expect(shipped.length).to.be.greaterThan(100);
    const imported = shipped.flatMap((path) => {
      const text = readFileSync(join(folder, "node_modules/pvbus", path), "utf8");
      return [...text.matchAll(/\b(?:from|import\(?)["'`](@?[a-z][\w@/.:-]*)["'`]/g)].map(([, name]) => name);
    });
    // Declarations of ours name those of koffi, which is there.
    expect(new Set(imported.filter((name) => name?.startsWith("node:") !== true))).to.deep.equal(
      new Set(["koffi"]),
    );
  });

  it("reads few files to start, and of providers the one that it needs", () => {
    const coverage = join(folder, "coverage");
    const loadedBy = (script: string): string[] => {
      rmSync(coverage, { recursive: true, force: true });
      const { stderr, status } = run(process.execPath, ["--input-type=module", "-e", script], {
        NODE_V8_COVERAGE: coverage,
        PVBUS_SYSROOT: "",
      });
      expect(status, stderr).to.equal(0);
      return readdirSync(coverage).flatMap((name) =>
        (JSON.parse(readFileSync(join(coverage, name), "utf8")).result as { url: string }[])
          .map(({ url }) => url)
          .filter((url) => url.includes("/node_modules/")),
      );
    };
    const imported = loadedBy('await import("pvbus");');
    expect(imported.length).to.be.within(1, 4);
    const opened = loadedBy(
      `const { openPvbus } = await import("pvbus");
       const bus = await openPvbus({ snapshot: { os: "linux", arch: "x64", input: {} }, interfaces: [{ type: "KVM" }] });
       if (bus.primary?.type !== "KVM") throw new Error("not KVM");
       await bus.close();`,
    );
    expect(opened.some((url) => url.includes("/inversify-"))).to.equal(true);
    expect(opened.filter((url) => /\/(?:hyperv|xen|vmware)[-.]|koffi/.test(url))).to.deep.equal([]);
    expect(opened, "files").to.have.length.below(10);
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
      paths.filter((path) =>
        /(^|\/)test\/|fixture|tsbuildinfo|dist\/(?:bench|test|src|providers)\/|\.map$|(?<!\.d)\.ts$/.test(
          path,
        ),
      ),
    ).to.deep.equal([]);
    for (const bin of ["pvbus", "hostctl"])
      expect(readFileSync(join(ROOT, `dist/bin/${bin}.cjs`), "utf8")).not.to.include(ROOT);
    for (const path of paths.filter((each) => each.startsWith("dist/lib/")))
      expect(readFileSync(join(ROOT, path), "utf8"), path)
        .not.to.match(/sourceMappingURL/)
        .and.not.to.include(ROOT);
  });
});

/** A provider of somebody else: a package beside pvbus, with an inversify of its own. Each way to use it takes it as it is. */
describe("a provider in a package of its own", function () {
  this.timeout(120_000);
  const NAME = "@example/pvbus-acme";
  let root: string;
  const pvbus = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
    run(process.execPath, ["node_modules/pvbus/dist/bin/pvbus.cjs", "--provider", NAME, ...args], {
      PVBUS_SYSROOT: root,
      ...env,
    });

  before(() => {
    const place = join(folder, "node_modules", NAME);
    cpSync(join(ROOT, "test/fixtures/stranger"), place, { recursive: true });
    for (const each of ["inversify", "@inversifyjs", "reflect-metadata"])
      cpSync(join(ROOT, "node_modules", each), join(place, "node_modules", each), { recursive: true });
    root = join(folder, "acme");
    mkdirSync(join(root, "var/lib/acme"), { recursive: true });
    writeFileSync(join(root, "var/lib/acme/store.json"), '{"role":"d2Vi"}');
  });

  it("is used from the API, and has an inversify of its own", () => {
    const { stdout, stderr } = run(process.execPath, [
      "--input-type=module",
      "-e",
      `import { createRequire } from "node:module";
       import { openPvbus, PvbusError } from "pvbus";
       import acme from "${NAME}";
       const bus = await openPvbus({ sysroot: ${JSON.stringify(root)}, providers: [acme] });
       const [found] = bus.interfaces;
       await found.write("api", "1");
       const refused = await found.watch().next().catch((error) => PvbusError.is(error) && error.code);
       const own = createRequire(createRequire(import.meta.url).resolve("${NAME}/provider")).resolve("inversify");
       console.log(JSON.stringify({
         type: found.type, role: found.role, primary: found.primary, evidence: found.evidence[0].source,
         read: [await found.read("role"), await found.read("api")], refused,
         isOwn: own.includes("/pvbus-acme/"),
       }));
       await found.delete("api");
       await bus.close();`,
    ]);
    expect(stderr).to.equal("");
    expect(JSON.parse(stdout)).to.deep.equal({
      type: "Acme",
      role: "guest-api",
      primary: true,
      evidence: "path",
      read: ["web", "1"],
      refused: "ERR_NOT_SUPPORTED",
      isOwn: true,
    });
  });

  it("is located, read, written and listed from the command line", () => {
    expect(pvbus(["detect"]).stdout).to.match(/pvbus0 Acme \(guest-api\)/);
    expect(pvbus(["set", "greeting", "hi"])).to.include({ status: 0, stderr: "" });
    expect(pvbus(["-t", "acme", "get", "greeting", "--json"]).stdout).to.include('"value": "hi"');
    expect(pvbus(["ls"]).stdout).to.equal("role=web\ngreeting=hi\n");
    expect(pvbus(["rm", "greeting"]).status).to.equal(0);
    const elsewhere = { PVBUS_SYSROOT: folder };
    const there = pvbus(["-t", "Acme", "-o", "directory=/acme/var/lib/acme", "get", "role"], elsewhere);
    expect(there, there.stderr).to.include({ stdout: "web\n", status: 0 });
    const wrong = pvbus(["-t", "Acme", "-o", "directry=/x", "get", "role"], elsewhere);
    expect([wrong.status, wrong.stderr]).to.deep.equal([
      2,
      "pvbus: acme has no option directry; it has directory, label\n",
    ]);
    // A text stays a text.
    expect(pvbus(["-t", "Acme", "-o", "label=123", "info"]).stdout).to.include("vmName: 123\n");
  });

  it("is examined by doctor", () => {
    const { stdout, status } = pvbus(["doctor"]);
    expect(stdout).to.include("pvbus0 Acme (primary)\n  ok   the Acme's file can be read\n");
    expect(status).to.equal(0);
  });

  it("is in the help, with its command and its settings", () => {
    const { stdout } = pvbus(["--help", "-t", "Acme"]);
    expect(stdout).to.match(/ {2}acme-greet <name> +greet somebody/);
    expect(stdout).to.match(/Types: .*, Acme\./);
    expect(stdout).to.match(
      /Settings of Acme:\n {2}-o directory=TEXT +directory of the store \(\/var\/lib\/acme\)/,
    );
    expect(pvbus(["acme-greet", "--help"]).stdout).to.match(/-g, --greeting TEXT +what to say/);
  });

  it("has a command of its own, which imports nothing of pvbus", () => {
    expect(pvbus(["acme-greet", "-n", "--greeting=-hi-", "you"])).to.include({
      stdout: "-HI- YOU\n",
      stderr: "pvbus: greeted\n",
      status: 0,
    });
    const asJson = pvbus(["--json", "acme-greet", "you"]);
    expect(JSON.parse(asJson.stdout)).to.deep.equal({ greeting: "hello you", loud: false });
    expect(asJson.stderr).to.equal('{"greeted":"you"}\n');
    expect(pvbus(["acme-greet", "nobody"])).to.include({
      stderr: "pvbus: acme-greet: name somebody\n",
      status: 2,
    });
  });

  it("has a demonstration", () => {
    const { steps } = JSON.parse(pvbus(["demo", "-t", "Acme", "--json"]).stdout);
    expect(steps).to.deep.equal([
      { actor: "host", text: 'sets role = "web"' },
      { actor: "guest", text: 'reads role: "web"' },
    ]);
  });

  it("is known to completion: its command, its options and its keys", () => {
    const bin = join(folder, "node_modules/.bin");
    const complete = (...words: readonly string[]): string[] => {
      const script = `${pvbus(["completion", "bash"]).stdout}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}
_pvbus; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout } = run("bash", ["-c", script], {
        PVBUS_SYSROOT: root,
        PATH: `${bin}:${process.env["PATH"]}`,
      });
      return stdout.split("\n").filter(Boolean);
    };
    expect(complete("pvbus", "acme")).to.deep.equal(["acme-greet"]);
    expect(complete("pvbus", "acme-greet", "--gr")).to.deep.equal(["--greeting"]);
    expect(complete("pvbus", "get", "ro")).to.deep.equal(["role"]);
    for (const shell of ["zsh", "fish"])
      expect(pvbus(["completion", shell]).stdout)
        .to.include(`--provider '${NAME}'`)
        .and.include("acme-greet");
  });

  it("comes from PVBUS_PROVIDERS and from a path too", () => {
    const place = join(folder, "node_modules", NAME);
    const env = { PVBUS_SYSROOT: root, PVBUS_PROVIDERS: `${NAME}:${place}` };
    expect(run("npx", ["--no-install", "pvbus", "get", "role"], env).stdout).to.equal("web\n");
  });

  it("passes the conformance suite under mocha", () => {
    symlinkSync(join(ROOT, "node_modules/mocha"), join(folder, "node_modules/mocha"));
    const { stdout, stderr, status } = run(process.execPath, [
      join(folder, "node_modules/mocha/bin/mocha.js"),
      "--timeout=60000",
      "--reporter=dot",
      join(folder, "node_modules", NAME, "conformance.test.js"),
    ]);
    expect(status, stdout + stderr).to.equal(0);
    expect(Number(/(\d+) passing/.exec(stdout)?.[1])).to.be.greaterThan(40);
    expect(stdout).not.to.include("pending");
  });
});
