import { realpathSync } from "node:fs";
import { pvbusError } from "../../base/errors.js";

/** The koffi module; its types stay inside this folder. */
export type Koffi = typeof import("koffi");

/** Returns koffi; takes part as a parameter so that a test can stand in for a machine without it. */
export type KoffiLoader = () => Koffi;

/** Loads node:module on first use: with it comes the loader of ESM, which a CommonJS program need not have. */
function requireHere(): NodeJS.Require {
  return process.getBuiltinModule("node:module").createRequire(import.meta.url);
}

let outcome: { readonly koffi: Koffi } | { readonly error: unknown } | undefined;

/**
 * Returns koffi, loading it on the first call of the process; success and failure are both remembered.
 * @throws PvbusError `ERR_UNAVAILABLE` when its binary for this platform is not installed or may not be loaded
 */
export const loadKoffi: KoffiLoader = () => {
  try {
    outcome ??= { koffi: requireHere()("koffi") as Koffi };
  } catch (error) {
    outcome = { error };
  }
  if ("koffi" in outcome) return outcome.koffi;
  throw pvbusError(
    "ERR_UNAVAILABLE",
    "native calls are not available: koffi cannot be loaded; install pvbus without --omit=optional on this very " +
      "platform, and allow native addons where Node's permission model is on (--allow-addons)",
    { cause: outcome.error },
  );
};

export function koffiPath(): string {
  return requireHere().resolve("koffi");
}

/** Returns the file of the native code that koffi consists of, by its real name; undefined for what is no koffi of this process. */
export function koffiBinary(koffi: Koffi): string | undefined {
  const modules = Object.values(requireHere().cache);
  // Modules that Node's ESM loader puts there have no name.
  const file = modules.find((each) => each?.filename?.endsWith(".node") && each.exports?.load === koffi.load);
  return file === undefined ? undefined : realpathSync(file.filename);
}

/** Returns a function that makes something once for each key, and keeps it as long as the key lives. */
export function oncePer<K extends object, V>(make: (key: K) => V): (key: K) => V {
  const made = new WeakMap<K, V>();
  return (key) => {
    if (!made.has(key)) made.set(key, make(key));
    return made.get(key) as V;
  };
}
