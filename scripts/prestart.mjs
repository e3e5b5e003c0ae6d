// Makes what `npm start` runs and nothing more: neither tests nor types are looked at. What is newer than the sources stays.
import { spawnSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MADE = "dist/bin/pvbus.cjs";
const MADE_FROM = ["src", "providers", "scripts/bundle.mjs", "package.json", "package-lock.json"];

const modified = (path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** When a file, or what lies in a directory, was changed last. */
function newest(path) {
  const below = statSync(join(ROOT, path)).isDirectory()
    ? readdirSync(join(ROOT, path), { recursive: true }).map((name) => join(path, name))
    : [];
  return Math.max(modified(path), ...below.map(modified));
}

function run(script, ...args) {
  const { status } = spawnSync(process.execPath, [join(ROOT, "scripts", script), ...args], {
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}

if (modified("node_modules/.package-lock.json") < modified("package-lock.json"))
  console.log("Installing the locked packages, once: some 20 seconds ...");
run("bootstrap.mjs");
if (modified(MADE) < Math.max(...MADE_FROM.map(newest))) {
  console.log("Bundling the command line ...");
  run("bundle.mjs", "bin");
}
