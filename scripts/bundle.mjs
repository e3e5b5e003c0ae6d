// Bundles the command lines and the library, both from the same sources: a start that reads a few files takes a fraction of the
// time that the loader needs for the several hundred modules behind it. What a program does not need stays in parts that nobody
// reads. koffi stays outside, it brings its own binary.
//
//   node scripts/bundle.mjs [bin]    with `bin` the command lines alone
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { copyDeclarations } from "./declarations.mjs";
import { bundledPackages, notices } from "./notices.mjs";

const ROOT = resolve(fileURLToPath(new URL("..", import.meta.url)));
const { version, exports } = createRequire(import.meta.url)("../package.json");

/**
 * What is needed together is one part, since each file costs its own way through the loader: these modules and all that they
 * import, as far as it lies in `within` and no part before has it. What is in none is divided by who needs it.
 */
const PARTS = {
  bin: [
    // Needed before the cache of compiled code is set up, so not in it.
    { name: "ground", roots: ["src/cli/start.ts", "src/cli/io/compile-cache.ts"] },
    { name: "program", roots: ["src/cli/pvbus-main.ts"] },
    { name: "bus", roots: ["src/bus/open.ts"] },
    { name: "hyperv", roots: ["providers/hyperv/module.ts", "providers/hyperv/store.ts"] },
  ],
  lib: [
    { name: "pvbus", roots: ["src/index.ts"] },
    {
      name: "bus",
      roots: [
        ...["src/bus/open.ts", "src/detect/detect.ts"],
        // Small, and most providers begin with them.
        ...[
          "src/base/crc32.ts",
          "src/base/flow/notifier.ts",
          "src/base/flow/watch-loop.ts",
          "src/base/host/boot-id.ts",
          "src/base/host/channel.ts",
          "src/base/host/unix-stream.ts",
          "src/mdata/request.ts",
          "providers/lxd/transport/locate.ts",
        ],
        "src/native/windows/firmware-table.ts",
      ],
    },
    { name: "native", roots: ["src/native/cpu/cpuid.ts"] },
    ...["hyperv", "xen", "kvm", "vmware", "virtualbox", "lxd"].map((name) => ({
      name,
      roots: [`providers/${name}/module.ts`],
      within: `providers/${name}/`,
    })),
  ],
};

/** Returns how output is divided: rolldown gives a module to the part that it has a name of. */
function divide(parts) {
  let owners;
  const name = (id, context) => {
    owners ??= claim(parts, context);
    if (/\/node_modules\/(inversify|@inversifyjs|reflect-metadata)\//.test(id)) return "inversify";
    return owners.get(id) ?? null;
  };
  return { includeDependenciesRecursively: false, groups: [{ debugName: "parts", name }] };
}

function claim(parts, context) {
  const owners = new Map();
  for (const { name, roots, within = "" } of parts) {
    const found = roots.map((root) => join(ROOT, root));
    for (const id of found) {
      const isOurs =
        id.startsWith("\0") || (id.startsWith(join(ROOT, within)) && !id.includes("/node_modules/"));
      if (!isOurs || owners.has(id)) continue;
      const { importedIds, isEntry } = context.getModuleInfo(id);
      // An entry of a part would export what the others need of the part as well.
      if (!isEntry) owners.set(id, name);
      found.push(...importedIds);
    }
  }
  return owners;
}

/**
 * Takes from Node's own modules what is used of them, in each module by itself, so that none needs a part for it. For an import Node
 * reads every export, and with some of node:fs come all streams.
 */
const builtins = {
  name: "builtins",
  resolveId: (id, importer) => (id.startsWith("node:") ? `\0${id}?for=${importer}` : null),
  load(id) {
    if (!id.startsWith("\0node:")) return null;
    const name = id.slice(1, id.indexOf("?"));
    const exported = Object.keys(process.getBuiltinModule(name)).map(
      (each) => `export const ${each} = all.${each};`,
    );
    return [`const all = process.getBuiltinModule("${name}");`, "export default all;", ...exported].join(
      "\n",
    );
  },
};

const common = {
  plugins: [builtins],
  cwd: ROOT,
  platform: "node",
  preserveEntrySignatures: "allow-extension",
  // Detection loads on demand, and is a part of its own, though the recorder of machines needs it too.
  checks: { ineffectiveDynamicImport: false },
  external: ["koffi"],
  tsconfig: false,
  resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
  // Nothing but inversify's polyfill, and who imports it for that, does anything when it is loaded.
  treeshake: {
    propertyReadSideEffects: false,
    moduleSideEffects: (id) =>
      /\/node_modules\/(reflect-metadata\/|@inversifyjs\/container\/lib\/index\.js)/.test(id),
  },
};

const DEFINED = { __PVBUS_VERSION__: JSON.stringify(version) };

/** The command lines are CommonJS, whose loader is the quicker one. */
async function bundleCommands() {
  rmSync("dist/bin", { recursive: true, force: true });
  const bundle = await rolldown({
    ...common,
    input: { pvbus: "src/cli/pvbus.ts", hostctl: "src/cli/hostctl.ts" },
    transform: { target: "node20", define: { ...DEFINED, "import.meta.url": "__filename" } },
  });
  const { output } = await bundle.write({
    dir: "dist/bin",
    format: "cjs",
    strict: true,
    minify: true,
    entryFileNames: "[name].cjs",
    chunkFileNames: "[name]-[hash].cjs",
    codeSplitting: divide(PARTS.bin),
  });
  for (const name of ["pvbus", "hostctl"]) chmodSync(`dist/bin/${name}.cjs`, 0o755);
  return output;
}

/** The library is ESM, without spare bytes: to read them takes a tenth of a first call. */
async function bundleLibrary() {
  rmSync("dist/lib", { recursive: true, force: true });
  const entries = Object.values(exports).filter((each) => each.types !== undefined);
  const sources = entries.map(({ types }) => types.replace("./dist/lib/types/", "").replace(".d.ts", ".ts"));
  const names = entries.map((each) => each.default.replace("./dist/lib/", "").replace(".js", ""));
  const bundle = await rolldown({
    ...common,
    // Started as a program of its own, which lies beside the simulator.
    input: { "fuse-server": "providers/hyperv/testing/kvp-device/fuse-server.ts" },
    plugins: [
      builtins,
      {
        name: "entries",
        buildStart() {
          // An entry exports what its source does, and no more, whatever rolldown puts into its file.
          for (const [at, name] of names.entries())
            this.emitFile({
              type: "chunk",
              fileName: `${name}.js`,
              id: join(ROOT, sources[at]),
              preserveSignature: "strict",
            });
        },
      },
    ],
    transform: { target: "node20", define: DEFINED },
  });
  const { output } = await bundle.write({
    dir: "dist/lib",
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js",
    minify: true,
    codeSplitting: divide(PARTS.lib),
  });
  copyDeclarations(entries.map(({ types }) => types));
  return output;
}

process.chdir(ROOT);
if (process.argv[2] === "bin") await bundleCommands();
else {
  const outputs = await Promise.all([bundleCommands(), bundleLibrary()]);
  writeFileSync("THIRD-PARTY-NOTICES", notices(bundledPackages(outputs.flat())));
}
