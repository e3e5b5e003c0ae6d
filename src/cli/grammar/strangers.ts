import fs from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, isAbsolute, join, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { foreignHand, foreignHandOn, type OwnershipRule } from "../../base/host/ownership.js";
import { checkManifest } from "../../bus/manifest-rules.js";
import type { ProviderManifest } from "../../contract/manifest.js";
import { UsageError } from "./usage.js";

/** Where strangers are looked for, and what they must withstand. */
interface StrangerRules {
  /** Directory that paths are relative to. */
  readonly cwd: string;
  /** Whether the program has all rights, so that nobody else may be able to change what it loads. */
  readonly isRoot: boolean;
  /** Folder of pvbus itself; undefined where it is no package. */
  readonly root?: string | undefined;
}

/** Manifests of one module. */
interface Stranger {
  /** Names the module again from any directory. */
  readonly again: string;
  readonly manifests: readonly ProviderManifest[];
}

const PACKAGE = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/i;
/** Conditions of a package's `exports` that hold for an import. */
const CONDITIONS = "node import module-sync default".split(" ");
/** A package of more is no provider. */
const MAX_FILES = 50_000;

/** Returns the folder of the package that this program belongs to; undefined where it stands alone. */
export function ownRoot(): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve("pvbus/package.json"));
  } catch {
    return undefined;
  }
}

/**
 * Loads the manifests of a module: a path, or the name of a package beside pvbus.
 * @throws UsageError that names it: it is not there, not safe to load, cannot be loaded or is no manifest
 */
export async function loadStranger(name: string, rules: StrangerRules): Promise<Stranger> {
  try {
    const isPath = name.startsWith(".") || name.startsWith("/") || isAbsolute(name);
    const { file, folder, again } = isPath ? atPath(resolve(rules.cwd, name)) : inPackages(name, rules.root);
    if (rules.isRoot) checkFolder(folder);
    const module = (await import(pathToFileURL(file).href)) as { readonly default?: unknown };
    return { again: again ?? name, manifests: manifestsOf(module.default, name) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`cannot load the provider ${name}: ${why}`, { cause: error });
  }
}

interface Place {
  readonly file: string;
  readonly folder: string;
  /** How it is named from any directory. */
  readonly again?: string;
}

function atPath(path: string): Place {
  const stats = fs.statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new Error(`there is no ${path}`);
  if (stats.isDirectory()) return { ...inFolder(path), again: path };
  const file = fs.realpathSync(path);
  return { file, folder: folderOf(file), again: path };
}

/** Looks in pvbus's own packages, then beside it; never where the working directory, variables or a home say. */
function inPackages(name: string, root: string | undefined): Place {
  if (!PACKAGE.test(name))
    throw new Error("it is neither a path, which begins with . or /, nor the name of a package");
  const beside = root === undefined ? undefined : dirname(root);
  const folders = [
    ...(root === undefined ? [] : [join(root, "node_modules")]),
    ...(beside !== undefined && basename(beside) === "node_modules" ? [beside] : []),
  ];
  const found = folders
    .map((each) => join(each, name))
    .find((each) => fs.existsSync(join(each, "package.json")));
  if (found !== undefined) return inFolder(found);
  throw new Error(
    `there is no such package in ${folders.join(" or ") || "this installation"}; install it beside pvbus, or give its path`,
  );
}

function inFolder(path: string): Place {
  const folder = fs.realpathSync(path);
  const entry = entryOf(folder);
  const file = fs.realpathSync(join(folder, entry));
  if (!isBelow(file, folder)) throw new Error(`its entry ${entry} lies outside of its folder`);
  return { file, folder };
}

/** Returns a package's entry for an import. */
function entryOf(folder: string): string {
  const text = fs.readFileSync(join(folder, "package.json"), "utf8");
  const { exports, main = "index.js" } = JSON.parse(text) as Record<string, unknown>;
  const entry = exports === undefined ? main : chosen(exports);
  if (typeof entry === "string") return entry;
  throw new Error(`its package.json names nothing to import`);
}

/** Returns the target of `.` in a package's `exports`. */
function chosen(exports: unknown): unknown {
  if (typeof exports !== "object" || exports === null) return exports;
  if (Array.isArray(exports)) return exports.map(chosen).find((each) => typeof each === "string");
  const entries = Object.entries(exports);
  const own = entries.find(([key]) => key === ".");
  if (own !== undefined) return chosen(own[1]);
  for (const [key, value] of entries) {
    const target = CONDITIONS.includes(key) ? chosen(value) : undefined;
    if (typeof target === "string") return target;
  }
  return undefined;
}

/** Returns the folder of the package that a file belongs to; its own where there is none. */
function folderOf(file: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    if (fs.existsSync(join(folder, "package.json"))) return folder;
    if (folder === dirname(folder) || basename(folder) === "node_modules") return dirname(file);
  }
}

function isBelow(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : `${folder}${sep}`);
}

/**
 * Checks that nobody but root can change anything in a package, nor put another one in its place.
 * @throws Error with what to do
 */
function checkFolder(folder: string): void {
  const rule: OwnershipRule = { trusted: new Set() };
  const refused = (path: string, why: string): never => {
    throw new Error(
      `root does not load what others can change: ${path} ${why}; run \`chown -R root ${folder}; chmod -R go-w ${folder}\`, or pvbus as another user`,
    );
  };
  const hand = foreignHandOn(folder, rule);
  if (hand !== undefined) refused(hand.path, hand.why);
  // Nobody but root changes the folder, so what is looked at stays as it is.
  const waiting = [folder];
  let count = 0;
  for (let here = waiting.pop(); here !== undefined; here = waiting.pop())
    for (const name of fs.readdirSync(here)) {
      const path = join(here, name);
      if (++count > MAX_FILES) throw new Error(`${folder} holds more than ${MAX_FILES} files`);
      const stats = fs.lstatSync(path);
      const why = foreignHand(stats, rule);
      if (why !== undefined) refused(path, why);
      if (stats.isDirectory()) waiting.push(path);
      if (stats.isSymbolicLink() && !isBelow(`${realPath(path)}${sep}`, folder))
        throw new Error(
          `root does not load what lies outside of a package: ${path} is a link out of ${folder}`,
        );
    }
}

function realPath(link: string): string {
  try {
    return fs.realpathSync(link);
  } catch {
    // It leads nowhere, today.
    return "";
  }
}

function manifestsOf(given: unknown, name: string): readonly ProviderManifest[] {
  // A CommonJS module that was an ES module before a compiler had it.
  const isWrapped =
    typeof given === "object" && given !== null && "__esModule" in given && "default" in given;
  const exported = isWrapped ? given.default : given;
  if (exported === undefined)
    throw new TypeError("it has no default export; export its manifest, or a list of them, as the default");
  const manifests: readonly unknown[] = Array.isArray(exported) ? exported : [exported];
  if (manifests.length === 0) throw new TypeError("its default export is an empty list");
  return manifests.map((each) => {
    checkManifest(each, name);
    return each;
  });
}
