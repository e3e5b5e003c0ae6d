// Bundles the command lines: CommonJS files start in about half the time that the loader needs for the several hundred
// modules behind them. What nearly every run needs is one file; the rest lies in files beside it that are read when they
// are needed, since even text that never runs has to be parsed. koffi stays outside, it brings its own binary.
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { build, transform } from "esbuild";
import { bundledPackages, notices } from "./notices.mjs";

const { version } = createRequire(import.meta.url)("../package.json");

/** Modules that nearly every run needs. */
const HOT = /\/(container|detect|hyperv\/module|get)\.js"$/;

/** Turns on-demand imports of hot modules into ordinary ones. */
const flatten = {
  name: "flatten-hot-imports",
  setup(builder) {
    builder.onLoad({ filter: /\/dist\/(src|providers)\/.*\.js$/ }, async ({ path }) => {
      let header = "";
      let count = 0;
      const source = await readFile(path, "utf8");
      const contents = source.replace(/\bimport\(("[^"]+")\)/g, (whole, name) => {
        if (!HOT.test(name)) return whole;
        header += `import * as __hot${count} from ${name};`;
        return `Promise.resolve(__hot${count++})`;
      });
      const hashbang = /^#!.*\n/.exec(contents)?.[0] ?? "";
      return { contents: hashbang + header + contents.slice(hashbang.length) };
    });
  },
};

const { outputFiles, metafile } = await build({
  entryPoints: { pvbus: "dist/src/cli/pvbus.js", hostctl: "dist/src/cli/hostctl.js" },
  outdir: "dist/bin",
  chunkNames: "part-[hash]",
  bundle: true,
  splitting: true,
  write: false,
  metafile: true,
  platform: "node",
  format: "esm",
  target: "node20",
  external: ["koffi"],
  minify: true,
  plugins: [flatten],
  alias: { inversify: "./dist/src/cli/small-container.js" },
  define: { "import.meta.url": "__filename", __PVBUS_VERSION__: JSON.stringify(version) },
  logLevel: "warning",
});

/** Parts by name: CommonJS text, and the parts that it begins with. */
const parts = new Map();
for (const { path, text } of outputFiles) {
  // Only modules can be split; what came out becomes CommonJS part by part.
  const { code } = await transform(text, {
    format: "cjs",
    platform: "node",
    target: "node20",
    supported: { "dynamic-import": false },
    minify: true,
  });
  const needs = [...text.matchAll(/(?:from|import)"\.\/([^"]+)\.js"/g)].map(([, name]) => name);
  const body = code.replace(/^#!.*\n/, "").replace(/\brequire\("\.\/([^"]+)\.js"\)/g, 'part("$1")');
  parts.set(basename(path, ".js"), { body, needs });
}

/** Returns all parts that the evaluation of one needs. */
function closure(name, into = new Set()) {
  if (into.has(name)) return into;
  into.add(name);
  for (const each of parts.get(name).needs) closure(each, into);
  return into;
}

rmSync("dist/bin", { recursive: true, force: true });
mkdirSync("dist/bin");
const entries = ["pvbus", "hostctl"];
for (const [name, { body }] of parts)
  if (!entries.includes(name))
    writeFileSync(`dist/bin/${name}.cjs`, `module.exports=(exports,module,part)=>{${body}};`);
for (const entry of entries) {
  // In parentheses a function is compiled at once, not looked over first.
  const hot = [...closure(entry)].map(
    (name) => `${JSON.stringify(name)}:((exports,module,part)=>{${parts.get(name).body}})`,
  );
  const loader = `const hot={${hot.join(",\n")}},known=new Map(),part=(name)=>{let m=known.get(name);if(!m){known.set(name,m={exports:{}});(hot[name]??require("./"+name+".cjs"))(m.exports,m,part)}return m.exports};part(${JSON.stringify(entry)});`;
  writeFileSync(`dist/bin/${entry}.cjs`, `#!/usr/bin/env node\n${loader}\n`);
  chmodSync(`dist/bin/${entry}.cjs`, 0o755);
}
writeFileSync("THIRD-PARTY-NOTICES", notices(bundledPackages(metafile)));
