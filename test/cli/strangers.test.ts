import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { expect } from "chai";
import { loadStranger } from "../../src/cli/grammar/strangers.js";
import { PROGRAM, run } from "../support/command-line.js";
import { pending } from "../support/pending.js";

/** A provider of one key, in a module that imports nothing. */
const PROVIDER = `{
  id: "acme", type: "Acme",
  capabilities: () => ({ read: true, write: false, delete: false, list: false, watch: false }),
  open: async ({ options }) => ({
    capabilities: { read: true, write: false, delete: false, list: false, watch: false },
    read: async () => Buffer.from(JSON.stringify(Object.keys(options ?? {}).length > 0 ? options : "found")),
    close: async () => undefined,
  }),
}`;
const BIND = `({ bind }) => { bind(Symbol.for("pvbus.Provider")).toConstantValue(${PROVIDER}); }`;
const SYSTEMS = "systems: { read: [], write: [], delete: [], list: [], watch: [] }";
const FIELDS = `id: "acme", type: "Acme", ${SYSTEMS}`;
const LOAD = `load: async () => ({ id: 4711, load: ${BIND} })`;

/** Source of a module whose default export is a manifest with these fields besides. */
const manifest = (more = ""): string => `export default { ${FIELDS}, ${LOAD}, ${more} };`;

describe("providers of strangers", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-strangers-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** Writes a file and returns its path. */
  function put(name: string, text: string): string {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  }

  const read = (...providers: readonly string[]) =>
    run([...providers.flatMap((each) => ["--provider", each]), "-t", "acme", "get", "key"]);

  describe("are found", () => {
    it("at a path, absolute or relative to the working directory, of a module or of a package's folder", async () => {
      const module = put("acme.mjs", manifest());
      put("by-exports/package.json", '{"exports":{".":{"types":"./x.d.ts","import":"./lib/acme.mjs"}}}');
      put("by-exports/lib/acme.mjs", manifest());
      put("by-main/package.json", '{"main":"acme.cjs"}');
      put("by-main/acme.cjs", manifest().replace("export default", "module.exports ="));
      put("compiled/package.json", "{}");
      put(
        "compiled/index.js",
        `Object.defineProperty(exports, "__esModule", { value: true });\n${manifest().replace("export default", "exports.default =")}`,
      );
      put("list.mjs", `${manifest().replace("export default", "const acme =")}\nexport default [acme];`);
      for (const path of [
        module,
        ...["by-exports", "by-main", "compiled", "list.mjs"].map((name) => join(folder, name)),
        `./${relative(process.cwd(), module)}`,
      ])
        expect(await read(path), path).to.deep.equal({ code: 0, stdout: '"found"\n', stderr: "" });
    });

    it("by name in pvbus's own packages, then beside it, and nowhere else", async () => {
      const root = join(folder, "lib/node_modules/pvbus");
      const rules = { cwd: folder, isRoot: false, root };
      const ofType = (type: string): string => manifest().replace('"Acme"', `"${type}"`);
      const place = (at: string, type: string): void => {
        put(`${at}/package.json`, '{"type":"module"}');
        put(`${at}/index.js`, ofType(type));
      };
      place("node_modules/acme", "Here");
      place("lib/acme", "Above");
      const refused = await loadStranger("acme", rules).catch((error: Error) => error.message);
      expect(refused).to.match(/^cannot load the provider acme: there is no such package in .*; install it/);
      place("lib/node_modules/acme", "Beside");
      place("lib/node_modules/@of/acme", "Scoped");
      const typeOf = async (name: string): Promise<string | undefined> =>
        (await loadStranger(name, rules)).manifests[0]?.type;
      expect(await typeOf("acme")).to.equal("Beside");
      expect(await typeOf("@of/acme")).to.equal("Scoped");
      place("lib/node_modules/pvbus/node_modules/acme", "Own");
      expect(await typeOf("acme")).to.equal("Own");
      // Beside a clone lies whatever its owner keeps there.
      place("src/acme", "Neighbour");
      const clone = loadStranger("acme", { ...rules, root: join(folder, "src/pvbus") });
      expect(await clone.catch((error: Error) => error.message)).to.include("there is no such package");
    });

    it("never by name in the working directory, in a home or where a variable says", () => {
      for (const at of ["node_modules/acme", ".node_modules/acme", "paths/acme"]) {
        put(`${at}/package.json`, '{"main":"index.mjs"}');
        put(`${at}/index.mjs`, manifest());
      }
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [PROGRAM, "--provider", "acme", "-t", "acme", "get", "key"],
        {
          cwd: folder,
          encoding: "utf8",
          env: { ...process.env, HOME: folder, NODE_PATH: join(folder, "paths") },
        },
      );
      expect([stdout, status]).to.deep.equal(["", 2]);
      expect(stderr).to.include("cannot load the provider acme: there is no such package");
    });

    it("in PVBUS_PROVIDERS, separated as PATH is; the same module twice is one", async () => {
      const [one, two] = [
        put("one.mjs", manifest()),
        put("two.mjs", manifest().replaceAll("acme", "zeta").replace('"Acme"', '"Zeta"')),
      ];
      const env = { PVBUS_PROVIDERS: ["", one, two, ""].join(delimiter) };
      expect((await run(["-t", "acme", "get", "key"], { env })).stdout).to.equal('"found"\n');
      expect((await run(["--provider", one, "--help"], { env })).stdout).to.match(/Types: .*, Acme, Zeta\./);
    });

    it("before all other words are read: before and behind the command, with = too, but not behind --", async () => {
      const path = put("acme.mjs", manifest());
      for (const argv of [
        ["get", "--provider", path, "-t", "acme", "key"],
        ["-t", "acme", "get", "key", `--provider=${path}`],
      ])
        expect((await run(argv)).stdout, argv.join(" ")).to.equal('"found"\n');
      const behind = await run(["-t", "acme", "get", "--", "--provider", path]);
      expect([behind.code, behind.stderr]).to.deep.equal([
        2,
        "pvbus: get: too many arguments; quote a value that holds spaces\n",
      ]);
      for (const argv of [["get", "key", "--provider"], ["--provider", "-t", "acme"], ["--provider="]])
        expect((await run(argv)).stderr).to.equal("pvbus: --provider takes a value: --provider MODULE\n");
    });

    it("with settings that are converted as the manifest has them", async () => {
      const path = put(
        "acme.mjs",
        manifest(`options: { label: { kind: "text", line: "a text" }, count: { kind: "number", line: "a number" },
          fast: { kind: "boolean", line: "a switch" }, names: { kind: "list", line: "names", of: "names" } }`),
      );
      const given = ["label=123", "count=7", "fast=true", "names=a,b"].flatMap((each) => ["-o", each]);
      const { stdout } = await run(["--provider", path, "-t", "acme", ...given, "get", "key"]);
      expect(JSON.parse(stdout)).to.deep.equal({ label: "123", count: 7, fast: true, names: ["a", "b"] });
      for (const [setting, message] of [
        ["count=x", /^pvbus: acme option count must be a whole number\n$/],
        ["fast=1", /^pvbus: acme option fast must be true or false\n$/],
        ["__proto__=x", /^pvbus: acme has no option __proto__/],
      ] as const) {
        const { code, stderr } = await run(["--provider", path, "-t", "acme", "-o", setting, "get", "key"]);
        expect(stderr).to.match(message);
        expect(code).to.equal(2);
      }
    });
  });

  describe("take the place of a built-in provider of the same id", () => {
    it("with its store and its commands", async () => {
      const mine = manifest(
        'commands: [{ name: "mine", args: [], description: "mine", load: async () => async () => 7 }]',
      )
        .replaceAll('"acme"', '"hyperv"')
        .replaceAll('"Acme"', '"Hyper-V"');
      const path = put("hyperv.mjs", mine);
      expect(await run(["--provider", path, "-t", "Hyper-V", "get", "key"])).to.include({
        stdout: '"found"\n',
      });
      expect((await run(["--provider", path, "mine"])).code).to.equal(7);
      expect((await run(["--provider", path, "kvpd"])).stderr).to.include("unknown command 'kvpd'");
    });
  });

  describe("are refused by one error that names them, exit 2", () => {
    const rows: readonly (readonly [what: string, source: string, message: RegExp])[] = [
      ["a module that throws", "throw new Error('at once');", /: at once$/],
      ["a module that throws no error", "throw 'text';", /: text$/],
      ["a module that is no JavaScript", "export default {;", /: Unexpected token/],
      [
        "a module that imports what is not there",
        'import "none-of-this";',
        /Cannot find package 'none-of-this'/,
      ],
      ["a module without a default export", "export const acme = 1;", /it has no default export/],
      ["an empty list", "export default [];", /an empty list/],
      ["a text", 'export default "acme";', /is no provider manifest: it is no object/],
      ["null", "export default null;", /it is no object/],
      ["a list with a hole", `export default [, 1];`, /it is no object/],
      ["an id in capitals", manifest('id: "Acme"'), /id must be a lower-case name/],
      ["an id that is none", manifest("id: 7"), /id must be a lower-case name/],
      ["a type with a line end", manifest('type: "A\\nB"'), /\(acme\).*type must be a short text/],
      ["no load", manifest("load: undefined"), /load must be a function/],
      ["no systems", manifest("systems: undefined"), /systems must be an object/],
      ["systems without a verb", manifest("systems: { read: [] }"), /systems\.write must be a list/],
      ["locate that is no function", manifest("locate: true"), /locate must be a function/],
      ["serves that is no list", manifest('serves: "kvm"'), /serves must be a list/],
      ["options that are no schema", manifest('options: { a: "text" }'), /options must be a schema/],
      [
        "options of an unknown kind",
        manifest('options: { a: { kind: "date", line: "x" } }'),
        /must be a schema/,
      ],
      ["commands that are no list", manifest("commands: {}"), /commands must be a list/],
      ["a command of null", manifest("commands: [null]"), /a command must be an object/],
      ["a command with a bad name", manifest('commands: [{ name: "a b" }]'), /lower-case letters/],
      [
        "a command whose name is code for a shell",
        manifest('commands: [{ name: "$(id)", args: [], description: "x", load: async () => {} }]'),
        /lower-case letters/,
      ],
      [
        "a command without load",
        manifest('commands: [{ name: "x", args: [], description: "x" }]'),
        /the command x must have load/,
      ],
      [
        "a command with bad arguments",
        manifest('commands: [{ name: "x", args: ["key"], description: "x", load() {} }]'),
        /the command x must have args/,
      ],
      [
        "a command with a bad option",
        manifest(
          'commands: [{ name: "x", args: [], description: "x", options: [{ name: "`id`", description: "x" }], load() {} }]',
        ),
        /the command x must have options/,
      ],
      [
        "a command without actions in its list",
        manifest('commands: [{ name: "x", description: "x", actions: [] }]'),
        /the command x must have a list of actions/,
      ],
      ["a demo without load", manifest('demo: { through: "x" }'), /demo must have through and load/],
      ["a manifest that throws", manifest("get serves() { throw new Error('no') }"), /: no$/],
      [
        "a command whose name is taken",
        manifest('commands: [{ name: "get", args: [], description: "x", load() {} }]'),
        /pvbus and the provider .*both have the command "get"/,
      ],
      [
        "a command whose name a built-in provider has",
        manifest('commands: [{ name: "host", args: [], description: "x", load() {} }]'),
        /built-in provider kvm and the provider .*both have the command "host"/,
      ],
      [
        "an option that is a global one",
        manifest(
          'commands: [{ name: "x", args: [], description: "x", options: [{ name: "json", description: "x" }], load() {} }]',
        ),
        /option --json of its command x is a global one too/,
      ],
      [
        "an option with a global letter",
        manifest(
          'commands: [{ name: "x", args: [], description: "x", options: [{ name: "own", short: "t", description: "x" }], load() {} }]',
        ),
        /option --own of its command x is a global one too, or has the letter of one/,
      ],
      [
        "an option that takes a value elsewhere",
        manifest(
          'commands: [{ name: "x", args: [], description: "x", options: [{ name: "pools", description: "x" }], load() {} }]',
        ),
        /option --pools of its command x takes a value here and none elsewhere/,
      ],
      [
        "an option that is there twice",
        manifest(
          'commands: [{ name: "x", args: [], description: "x", options: [{ name: "a", description: "x" }, { name: "a", description: "x" }], load() {} }]',
        ),
        /option --a of its command x is there twice/,
      ],
      ["detection without lists", manifest('detection: { paths: "/x" }'), /detection must have lists/],
    ];
    for (const [what, source, message] of rows) {
      it(what, async () => {
        const path = put("acme.mjs", source);
        const { code, stdout, stderr } = await run(["--provider", path, "detect"]);
        expect(stderr)
          .to.match(/^pvbus: [^\n]+\n$/)
          .and.include(path);
        expect(stderr.trimEnd()).to.match(message);
        expect([code, stdout]).to.deep.equal([2, ""]);
        const asJson = await run(["--json", "--provider", path, "detect"]);
        expect(JSON.parse(asJson.stderr).error.message).to.include(path);
      });
    }

    it("two with one id, both of them", async () => {
      const [one, two] = [put("one.mjs", manifest()), put("two.mjs", manifest())];
      const { code, stderr } = await read(one, two);
      expect(code).to.equal(2);
      expect(stderr).to.equal(
        `pvbus: the provider ${one} and the provider ${two} both have the id "acme"; leave one out\n`,
      );
    });

    it("what is not there, what is no name, a package's entry outside of it", async () => {
      put("out/package.json", '{"main":"../acme.mjs"}');
      put("acme.mjs", manifest());
      put("nothing/package.json", '{"exports":{"./other":"./x.js"}}');
      for (const [name, message] of [
        [join(folder, "none.mjs"), /there is no /],
        ["data:text/javascript,export default 1", /neither a path, which begins with \. or \/, nor the name/],
        ["acme/lib/provider.js", /neither a path/],
        ["node:fs", /neither a path/],
        [join(folder, "out"), /its entry \.\.\/acme\.mjs lies outside of its folder/],
        [join(folder, "nothing"), /its package\.json names nothing to import/],
      ] as const) {
        const { code, stderr } = await run(["--provider", name, "detect"]);
        expect(stderr).to.match(message);
        expect(stderr).to.include(`cannot load the provider ${name}`);
        expect(code).to.equal(2);
      }
    });
  });

  describe("that cannot be made are told when their store is used, with the manifest and inversify's version", () => {
    const rows: readonly (readonly [what: string, load: string])[] = [
      ["a module of another shape", "async () => ({ registry: [] })"],
      ["no module", "async () => undefined"],
      ["a load that throws", "async () => { throw new Error('broken'); }"],
      ["no PROVIDER", "async () => ({ id: 1, load: () => undefined })"],
      [
        "two of PROVIDER",
        `async () => ({ id: 1, load: (options) => { (${BIND})(options); (${BIND})(options); } })`,
      ],
      [
        "a module of inversify's that throws",
        "async () => ({ id: 1, load: () => { throw new Error('no'); } })",
      ],
    ];
    for (const [what, load] of rows) {
      it(what, async () => {
        const path = put("acme.mjs", manifest(`load: ${load}`));
        const { code, stdout, stderr } = await read(path);
        expect([code, stdout]).to.deep.equal([1, ""]);
        expect(stderr).to.match(
          /the provider acme \(Acme\) cannot be loaded: .*inversify \^8\.2.*\[ERR_UNAVAILABLE\]/,
        );
        expect((await run(["--provider", path, "detect"])).code).to.equal(0);
      });
    }
  });

  describe("for root", () => {
    const place = (): string => {
      put("package/package.json", '{"main":"index.mjs"}');
      put("package/lib/part.mjs", "export const part = 1;");
      put("package/index.mjs", `import "./lib/part.mjs";\n${manifest()}`);
      rmSync(join(folder, "package/inside"), { force: true });
      symlinkSync("lib/part.mjs", join(folder, "package/inside"));
      chmodSync(folder, 0o755);
      return join(folder, "package");
    };
    const load = (path: string): Promise<string> =>
      loadStranger(path, { cwd: folder, isRoot: true }).then(
        () => "loaded",
        (error: Error) => error.message,
      );

    it("are loaded where nobody else can write", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root");
      expect(await load(place())).to.equal("loaded");
      expect(await load(join(place(), "index.mjs"))).to.equal("loaded");
    });

    it("are refused where anything in their folder, or the way to it, is somebody else's", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root");
      const path = place();
      const spoil: readonly (readonly [
        name: string,
        spoil: (path: string) => void,
        fix: (path: string) => void,
      ])[] = ["index.mjs", "lib/part.mjs", "package.json", "lib", ".", ".."].flatMap((name) => [
        [name, (at) => chmodSync(at, 0o777), (at) => chmodSync(at, 0o755)],
        [name, (at) => chmodSync(at, 0o775), (at) => chmodSync(at, 0o755)],
        [name, (at) => chownSync(at, 12345, 0), (at) => chownSync(at, 0, 0)],
      ]);
      for (const [name, break_, fix] of spoil) {
        const at = join(path, name);
        break_(at);
        expect(await load(path), name).to.match(
          new RegExp(
            `root does not load what others can change: ${at} (?:can be written|belongs).*chown -R root`,
          ),
        );
        // As a file of the package it is refused too.
        expect(await load(join(path, "index.mjs")), name).to.include("root does not load");
        fix(at);
      }
      expect(await load(path)).to.equal("loaded");
    });

    it("are refused where a link leads out of their folder", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root");
      const path = place();
      for (const target of ["/etc/passwd", "../package-of-mine", "/nowhere", join(folder, "package-2")]) {
        symlinkSync(target, join(path, "lib/out"));
        expect(await load(path), target).to.match(/lib\/out is a link out of /);
        rmSync(join(path, "lib/out"));
      }
    });

    it("are looked at by the program itself", async function () {
      if (process.geteuid?.() !== 0) pending(this, "root");
      const path = place();
      chmodSync(join(path, "index.mjs"), 0o666);
      const { code, stderr } = await read(path);
      expect(code).to.equal(2);
      expect(stderr).to.include("index.mjs can be written by all users");
    });
  });

  it("are ignored with a warning where the program is setuid", async () => {
    const path = put("acme.mjs", "globalThis.strangerWasLoaded = true;");
    const warning = "a setuid pvbus takes no further providers: --provider and PVBUS_PROVIDERS are ignored";
    const plain = await run(["--provider", path, "detect"], { isElevated: true });
    expect([plain.code, plain.stderr]).to.deep.equal([0, `pvbus: warning: ${warning}\n`]);
    const asJson = await run(["--json", "--provider", path, "detect"], { isElevated: true });
    expect(JSON.parse(asJson.stderr)).to.deep.equal({ warning });
    expect(globalThis).not.to.have.property("strangerWasLoaded");
    expect((await run(["detect"], { isElevated: true })).stderr).to.equal("");
  });
});
