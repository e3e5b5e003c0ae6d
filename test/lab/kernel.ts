import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { cachedTrees, type DebianPackage, debianPackage } from "../support/debian-packages.js";
import { run } from "./tools.js";

/** A kernel of Debian. */
export interface GuestKernel extends DebianPackage {
  /** Name of its module directory, `6.1.0-56-amd64`. */
  readonly release: string;
  /** The compressed kernel. */
  readonly image: string;
}

/** Returns Debian's current kernel for amd64. */
export function guestKernel(): GuestKernel {
  const name = cachedTrees().find((tree) => tree.startsWith("linux-image-")) ?? kernelPackage();
  const found = debianPackage(name);
  const image = readdirSync(join(found.directory, "boot")).find((file) => file.startsWith("vmlinuz-"));
  if (image === undefined) throw new Error(`${name} has no kernel`);
  const path = join(found.directory, "boot", image);
  return { ...found, release: basename(image).slice("vmlinuz-".length), image: path };
}

/** The package that Debian's own meta-package stands for now. */
function kernelPackage(): string {
  const name = /^\s*Depends: (linux-image-\S+)$/m.exec(
    run("apt-cache", ["depends", "linux-image-amd64"]),
  )?.[1];
  if (name === undefined) throw new Error("apt knows no linux-image-amd64; run apt-get update");
  return name;
}
