import { lstatSync, mkdirSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { isElevated, processEnvironment } from "../../base/host/environment.js";
import { foreignHandOn, ourselves } from "../../base/host/ownership.js";

/** Node's own, since 22.1. */
interface Caching {
  readonly enableCompileCache?: (directory: string) => unknown;
}

/**
 * Has Node keep compiled code between starts, where it can and there is a place for it. `NODE_DISABLE_COMPILE_CACHE=1`, which Node
 * reads itself, keeps it from that.
 */
export function enableCompileCache(
  { enableCompileCache: enable }: Caching = process.getBuiltinModule("node:module") as Caching,
  place = compileCacheDirectory,
): void {
  const directory = enable === undefined ? undefined : place();
  if (directory !== undefined) enable?.(directory);
}

/**
 * Returns the directory of the cache, which is made where there is none; undefined when somebody else could write there: Node runs
 * what it finds and checks no signature. `HOME` is not looked at, the directory for temporary files never.
 */
export function compileCacheDirectory(
  env = processEnvironment(),
  home = (): string => process.getBuiltinModule("node:os").userInfo().homedir,
): string | undefined {
  if (isElevated()) return undefined;
  try {
    const own = env["XDG_CACHE_HOME"];
    const steps = own === undefined || !isAbsolute(own) ? [home(), ".cache", "pvbus"] : [own, "pvbus"];
    let directory = "";
    for (const [at, step] of steps.entries()) {
      directory = join(directory, step);
      // In a directory that we have looked at, what we make is ours.
      if (at > 0) makePrivate(directory);
      if (foreignHandOn(directory, { trusted: ourselves() }) !== undefined) return undefined;
    }
    return (lstatSync(directory).mode & 0o077) === 0 ? directory : undefined;
  } catch {
    // No home, no permission, a full disk: a cache is not worth a word.
    return undefined;
  }
}

function makePrivate(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
