import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { GuestKernel } from "./kernel.js";

/** A kernel module. */
export interface KernelModule {
  /** Its file on this machine. */
  readonly path: string;
  /** Its file's name. */
  readonly file: string;
}

/**
 * Returns modules and what they depend on, in the order in which they can be inserted. What a module needs stands in its
 * own `depends=` text, so no depmod(8) is needed. Names that the kernel has built in are left out.
 */
export function modulesInOrder(kernel: GuestKernel, names: readonly string[]): readonly KernelModule[] {
  const all = new Map<string, string>();
  collect(join(kernel.directory, "lib/modules", kernel.release, "kernel"), all);
  const builtIn = builtInNames(kernel);
  const order: KernelModule[] = [];
  const seen = new Set<string>();
  const add = (name: string): void => {
    const clean = canonical(name);
    if (seen.has(clean) || builtIn.has(clean)) return;
    seen.add(clean);
    const path = all.get(clean);
    if (path === undefined) throw new Error(`the kernel ${kernel.release} has no module ${name}`);
    const depends = /\0depends=([^\0]*)\0/.exec(readFileSync(path).toString("latin1"))?.[1] ?? "";
    for (const each of depends.split(",").filter((part) => part !== "")) add(each);
    order.push({ path, file: basename(path) });
  };
  for (const name of names) add(name);
  return order;
}

const canonical = (name: string): string => name.replaceAll("-", "_");

function collect(directory: string, into: Map<string, string>): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) collect(path, into);
    else if (entry.name.endsWith(".ko")) into.set(canonical(entry.name.slice(0, -3)), path);
  }
}

function builtInNames(kernel: GuestKernel): ReadonlySet<string> {
  const path = join(kernel.directory, "lib/modules", kernel.release, "modules.builtin");
  const names = readFileSync(path, "utf8").split("\n");
  return new Set(names.filter((name) => name !== "").map((name) => canonical(basename(name, ".ko"))));
}
