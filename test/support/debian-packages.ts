import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { ROOT } from "./pools.js";

/** What is downloaded once; git ignores it. */
const CACHE = join(ROOT, ".lab-cache/debian");
const STAMP = ".version";
const FETCH_MS = 180_000;

/** Packages of Debian, unpacked but not installed. */
export interface DebianPackage {
  /** Where their files are. */
  readonly directory: string;
  /** Version of the first one, as Debian writes it. */
  readonly version: string;
}

/** Returns a package unpacked, from the cache or from Debian's archive. @throws Error when it cannot be had */
export function debianPackage(name: string): DebianPackage {
  return debianTree(name, [name]);
}

/**
 * Returns packages unpacked into one tree.
 * @param name of the tree
 * @param suite whose packages they are, where it is another one than this machine's: `trixie`
 * @param options.withDependencies whether whatever they depend on comes too, libraries of C included
 * @throws Error when one cannot be had
 */
export function debianTree(
  name: string,
  packages: readonly string[],
  suite?: string,
  { withDependencies = false }: { readonly withDependencies?: boolean } = {},
): DebianPackage {
  const directory = join(CACHE, name);
  if (!existsSync(join(directory, STAMP))) {
    const all = withDependencies ? closure(packages, suite) : packages;
    fetchTree(all, directory, suite);
  }
  return { directory, version: readFileSync(join(directory, STAMP), "utf8") };
}

/** Returns the names of the trees in the cache. */
export function cachedTrees(): readonly string[] {
  return existsSync(CACHE) ? readdirSync(CACHE) : [];
}

function fetchTree(packages: readonly string[], directory: string, suite: string | undefined): void {
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, ".fetch-"));
  try {
    download(packages, work, suite === undefined ? [] : privateApt(suite));
    const archives = readdirSync(work).filter((file) => file.endsWith(".deb"));
    if (archives.length !== packages.length)
      throw new Error(`apt-get downloaded ${archives.length} of ${packages.length} packages`);
    for (const archive of archives) run("dpkg-deb", ["-x", archive, "root"], work);
    const first = archives.find((file) => file.startsWith(`${packages[0]}_`)) ?? "";
    writeFileSync(join(work, "root", STAMP), run("dpkg-deb", ["-f", first, "Version"], work).trim());
    // Another run may have been faster.
    if (!existsSync(directory)) renameSync(join(work, "root"), directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Returns the packages, in front, with all that they need on a machine that has nothing. */
function closure(packages: readonly string[], suite: string | undefined): readonly string[] {
  mkdirSync(CACHE, { recursive: true });
  const options = [...(suite === undefined ? [] : privateApt(suite)), "-o", "Dir::State::status=/dev/null"];
  const solve = (): string =>
    run("apt-get", [...options, "-s", "install", "--no-install-recommends", "-y", ...packages], CACHE);
  let solved: string;
  try {
    solved = solve();
  } catch {
    run("apt-get", [...options, "update", "-qq"], CACHE);
    solved = solve();
  }
  const needed = [...solved.matchAll(/^Inst (\S+)/gm)].map(([, name = ""]) => name);
  return [...packages, ...needed.filter((name) => !packages.includes(name))];
}

function download(packages: readonly string[], work: string, options: readonly string[]): void {
  const fetch = (): string => run("apt-get", [...options, "download", "-qq", ...packages], work);
  try {
    fetch();
  } catch {
    // A fresh machine has no list of packages yet.
    run("apt-get", [...options, "update", "-qq"], work);
    fetch();
  }
}

/** Returns apt's options for the packages of another suite: its lists and settings are apart, the machine's are not touched. */
function privateApt(suite: string): readonly string[] {
  const place = join(CACHE, `.apt-${suite}`);
  for (const name of ["lists/partial", "archives/partial", "etc"])
    mkdirSync(join(place, name), { recursive: true });
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const source = join(place, "etc/sources.list");
  writeFileSync(source, `deb [signed-by=${keyring}] http://deb.debian.org/debian ${suite} main\n`);
  const settings = {
    "Dir::Etc::SourceList": source,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State::Lists": join(place, "lists"),
    "Dir::Cache": place,
    // Whoever fetches may not enter the cache otherwise.
    "APT::Sandbox::User": "root",
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

/** Runs a program and gives its standard output. @throws Error with its last words when it fails */
function run(command: string, args: readonly string[], cwd: string): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    timeout: FETCH_MS,
  });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim().split("\n").at(-1) ?? "";
  throw new Error(`${command} ${args.slice(0, 3).join(" ")} failed: ${why}`);
}
