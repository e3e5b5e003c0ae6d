// Bundles the command lines: one CommonJS file each starts in about half the time that the loader needs for the
// several hundred modules behind them. koffi stays outside, it brings its own binary.
import { chmodSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { build } from "esbuild";

const { version } = createRequire(import.meta.url)("../package.json");

/** Modules that nearly every run needs. Imported on demand they would be wrapped in functions and so parsed twice. */
const HOT = /\/(container|detect|module|get)\.js"$/;

/** Turns on-demand imports of hot modules into ordinary ones, which the bundler lays flat. */
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

await build({
  entryPoints: { pvbus: "dist/src/cli/pvbus.js", hostctl: "dist/src/cli/hostctl.js" },
  outdir: "dist/bin",
  outExtension: { ".js": ".cjs" },
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  external: ["koffi"],
  minify: true,
  plugins: [flatten],
  alias: { inversify: "./dist/src/cli/small-container.js" },
  define: { "import.meta.url": "__filename", __PVBUS_VERSION__: JSON.stringify(version) },
  logLevel: "warning",
});
for (const name of ["pvbus", "hostctl"]) chmodSync(`dist/bin/${name}.cjs`, 0o755);
