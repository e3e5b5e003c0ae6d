// Brings the guided fuzzer: jazzer.js, whose machine code (libFuzzer) wants a newer C library than Debian 12 has. Node runs
// with that library beside it: unpacked from Debian's own packages into the cache, nothing is installed.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const CACHE = resolve(HERE, "../../.lab-cache");
const LIBRARY = join(CACHE, "fuzz-libc");
const RELEASE = "trixie";
const PACKAGES = ["libc6", "libstdc++6", "libgcc-s1"];
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const ADDON = "@jazzer.js/fuzzer";
const FETCH_MS = 180_000;

/**
 * Returns the command that begins a run of the fuzzer: a Node that loads it, and its program.
 * @throws Error in words when it cannot be had here
 */
export function fuzzer() {
  install();
  const program = join(HERE, "node_modules/@jazzer.js/core/dist/cli.js");
  for (const node of [() => [process.execPath], () => nodeWithLibrary()]) {
    const command = node();
    if (loads(command)) return [...command, program];
  }
  throw new Error("the fuzzer's machine code does not load, with a newer C library either");
}

/** Installs the locked packages when they are absent or older than the lock file. */
function install() {
  const modified = (name) => statSync(join(HERE, name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (modified("node_modules/.package-lock.json") >= modified("package-lock.json")) return;
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], HERE);
}

function loads([command, ...args]) {
  const code = `require(${JSON.stringify(ADDON)})`;
  return spawnSync(command, [...args, "-e", code], { cwd: HERE, stdio: "ignore" }).status === 0;
}

/** Node started by the newer library's own loader. */
function nodeWithLibrary() {
  if (process.platform !== "linux" || !existsSync(KEYRING))
    throw new Error(
      "the fuzzer's machine code does not load here, and there is no Debian to take a C library from",
    );
  if (!existsSync(LIBRARY)) fetchLibrary();
  const loader = readdirSync(join(LIBRARY, "usr/lib"), { recursive: true, encoding: "utf8" }).find((name) =>
    /(^|\/)ld-linux-[^/]*\.so\.\d$/.test(name),
  );
  if (loader === undefined) throw new Error("the C library has no loader");
  const path = join(LIBRARY, "usr/lib", loader);
  return [path, "--library-path", resolve(path, ".."), process.execPath];
}

function fetchLibrary() {
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, ".fuzz-libc-"));
  try {
    for (const name of ["lists/partial", "cache/archives/partial"])
      mkdirSync(join(work, name), { recursive: true });
    writeFileSync(join(work, "sources"), `deb [signed-by=${KEYRING}] ${archive()} ${RELEASE} main\n`);
    const settings = [
      `Dir::Etc::sourcelist=${work}/sources`,
      "Dir::Etc::sourceparts=-",
      `Dir::State::lists=${work}/lists`,
      `Dir::Cache=${work}/cache`,
      "APT::Sandbox::User=root",
      "Acquire::Languages=none",
    ].flatMap((each) => ["-o", each]);
    run("apt-get", [...settings, "-qq", "update"], work);
    run("apt-get", [...settings, "-qq", "download", ...PACKAGES], work);
    const archives = readdirSync(work).filter((name) => name.endsWith(".deb"));
    for (const name of archives) run("dpkg-deb", ["-x", name, "root"], work);
    // Another run may have been faster.
    if (!existsSync(LIBRARY)) renameSync(join(work, "root"), LIBRARY);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Returns the archive that this machine takes its own packages from: another release is at the same place. */
function archive() {
  const ask = () => {
    const format = "$(REPO_URI) $(CODENAME) $(ORIGIN)";
    const lines = run("apt-get", ["indextargets", "--format", format], HERE).split("\n");
    return lines
      .map((line) => /^(\S+) [a-z]+ Debian$/.exec(line)?.[1])
      .find((uri) => uri !== undefined && !uri.includes("security"));
  };
  const known = ask();
  if (known !== undefined) return known;
  // A fresh machine has no list of packages yet.
  run("apt-get", ["update", "-qq"], HERE);
  const found = ask();
  if (found === undefined) throw new Error("this machine takes no packages from Debian");
  return found;
}

/** Runs a program and gives its output. @throws Error with its last words when it fails */
function run(command, args, cwd) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    timeout: FETCH_MS,
  });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim().split("\n").at(-1) ?? "";
  throw new Error(`${command} failed: ${why}`);
}
