import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect } from "chai";
import { ROOT } from "./support/pools.js";

interface Notices {
  bundledPackages(output: readonly object[]): string[];
  notices(directories: readonly string[]): string;
}

/** Names of the packages that these files and what they depend on import. */
function imported(directories: readonly string[]): ReadonlySet<string> {
  const found = new Set<string>();
  const add = (name: string): void => {
    if (found.has(name)) return;
    found.add(name);
    const { dependencies = {} } = JSON.parse(
      readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8"),
    ) as { dependencies?: Record<string, string> };
    for (const each of Object.keys(dependencies)) if (!NOT_BUNDLED.has(each)) add(each);
  };
  for (const directory of directories)
    for (const file of readdirSync(join(ROOT, directory), { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".js")) continue;
      const text = readFileSync(join(ROOT, directory, file), "utf8");
      for (const [, specifier = ""] of text.matchAll(
        /(?<!["'])\b(?:from|import|import\()\s*"([^."\]][^"\s]*)"/g,
      )) {
        const name = /^(?:@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? "";
        if (!isBuiltin(specifier) && !NOT_BUNDLED.has(name)) add(name);
      }
    }
  return found;
}

/** koffi is installed beside the package with its own licence, for its binary; inversify's decorators, of which nothing is used, need the other. */
const NOT_BUNDLED = new Set(["koffi", "pvbus", "@inversifyjs/prototype-utils"]);

describe("THIRD-PARTY-NOTICES", () => {
  let text: string;
  let place: string;
  let script: Notices;

  before(async () => {
    place = mkdtempSync(join(tmpdir(), "pvbus-notices-"));
    text = readFileSync(join(ROOT, "THIRD-PARTY-NOTICES"), "utf8");
    script = (await import(pathToFileURL(join(ROOT, "scripts/notices.mjs")).href)) as Notices;
  });
  after(() => rmSync(place, { recursive: true, force: true }));

  it("names every package whose code the command lines and the library can contain, with its licence", () => {
    const names = imported(["dist/src", "dist/providers"]);
    expect([...names]).to.include("@xmldom/xmldom");
    for (const name of names) {
      const directory = join(ROOT, "node_modules", name);
      const { version } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as {
        version: string;
      };
      expect(text, name).to.contain(`\n${name} ${version} (`);
      const licence = readdirSync(directory).find((file) => /^licen[cs]e/i.test(file));
      expect(licence, `the licence of ${name}`).to.be.a("string");
      expect(text, name).to.contain(readFileSync(join(directory, licence as string), "utf8").trim());
    }
  });

  it("names no package that stays outside", () => {
    for (const name of NOT_BUNDLED) expect(text).not.to.match(new RegExp(`^${name} \\d`, "m"));
  });

  const output = (path: string, renderedLength: number): readonly object[] => [
    { fileName: "asset" },
    { modules: { "dist/src/index.js": { renderedLength: 1 }, [path]: { renderedLength } } },
  ];

  for (const [what, path, directory] of [
    ["a package", "node_modules/one/lib/a.js", "node_modules/one"],
    ["a scoped one", "../other/node_modules/@some/one/a.js", "../other/node_modules/@some/one"],
    ["one within another", "node_modules/two/node_modules/one/a.js", "node_modules/two/node_modules/one"],
  ] as const) {
    it(`takes ${what} from what the bundler says`, () => {
      expect(script.bundledPackages(output(path, 1))).to.deep.equal([join(process.cwd(), directory)]);
      expect(script.bundledPackages(output(path, 0))).to.deep.equal([]);
    });
  }

  it("cannot be made without the text of a licence", () => {
    const directory = join(place, "one");
    mkdirSync(directory);
    writeFileSync(join(directory, "package.json"), '{"name":"one","version":"1.2.3","license":"MIT"}');
    expect(() => script.notices([directory])).to.throw(
      "one 1.2.3 goes into the bundle and brings no licence",
    );
    writeFileSync(join(directory, "LICENCE.txt"), "Do what you like.\n");
    expect(script.notices([directory])).to.contain("one 1.2.3 (MIT)\n\nDo what you like.\n");
  });
});
