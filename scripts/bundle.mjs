// Bundles the command lines: a start that reads a few files takes about half the time that the loader needs for the
// several hundred modules behind it. They are CommonJS, whose loader is the quicker one, and what a command does not
// need stays in parts that nobody reads. koffi stays outside, it brings its own binary.
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { rolldown } from "rolldown";
import { bundledPackages, notices } from "./notices.mjs";

const { version } = createRequire(import.meta.url)("../package.json");

/** What is always needed together is one part: each file costs its own way through the loader. The first that matches counts. */
const PARTS = [
  [
    "program",
    /\/src\/(base\/(?!host\/(socket|unix-stream|channel))|contract\/|composition|cli\/io\/(output|process))/,
  ],
  ["program", /\/providers\/\w+\/(manifest|options|commands\/entries)\./],
  ["container", /\/node_modules\/(inversify|@inversifyjs|reflect-metadata)\//],
  ["bus", /\/src\/bus\/(?!portable\/)/],
  ["hyperv", /\/providers\/hyperv\/(store|provider|protocol\/|transport\/files\/)/],
];

rmSync("dist/bin", { recursive: true, force: true });
const bundle = await rolldown({
  input: { pvbus: "dist/src/cli/pvbus.js", hostctl: "dist/src/cli/hostctl.js" },
  platform: "node",
  external: ["koffi"],
  transform: { define: { "import.meta.url": "__filename", __PVBUS_VERSION__: JSON.stringify(version) } },
  // Of our own modules none does anything when it is loaded.
  treeshake: { moduleSideEffects: (id) => id.includes("node_modules") },
});
const { output } = await bundle.write({
  dir: "dist/bin",
  format: "cjs",
  strict: true,
  minify: true,
  entryFileNames: "[name].cjs",
  chunkFileNames: "[name]-[hash].cjs",
  codeSplitting: { groups: PARTS.map(([name, test], at) => ({ name, test, priority: PARTS.length - at })) },
});
for (const name of ["pvbus", "hostctl"]) chmodSync(`dist/bin/${name}.cjs`, 0o755);
writeFileSync("THIRD-PARTY-NOTICES", notices(bundledPackages(output)));
