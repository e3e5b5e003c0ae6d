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
import { basename, join } from "node:path";
import { CACHE, run } from "./tools.js";

/** A package of Debian, unpacked but not installed. */
export interface DebianPackage {
  /** Where its files are. */
  readonly directory: string;
  /** Version, as Debian writes it. */
  readonly version: string;
}

/** Gives a package unpacked, from the cache or from Debian's archive. @throws Error when it cannot be had */
export function debianPackage(name: string): DebianPackage {
  return debianTree(name, [name]);
}

/**
 * Gives packages unpacked into one tree.
 * @param name of the tree
 * @throws Error when one cannot be had
 */
export function debianTree(name: string, packages: readonly string[]): DebianPackage {
  const directory = join(CACHE, "debian", name);
  const stamp = join(directory, ".version");
  if (!existsSync(stamp)) fetchTree(packages, directory);
  return { directory, version: readFileSync(stamp, "utf8") };
}

/** Fetches packages; the first one's version counts. */
function fetchTree(packages: readonly string[], directory: string): void {
  mkdirSync(join(CACHE, "debian"), { recursive: true });
  const work = mkdtempSync(join(CACHE, "debian", ".fetch-"));
  try {
    run("apt-get", ["download", "-qq", ...packages], { cwd: work });
    const archives = readdirSync(work).filter((file) => file.endsWith(".deb"));
    if (archives.length !== packages.length)
      throw new Error(`apt-get downloaded ${archives.length} of ${packages.length} packages`);
    for (const archive of archives) run("dpkg-deb", ["-x", archive, "root"], { cwd: work });
    const first = archives.find((file) => file.startsWith(`${packages[0]}_`)) ?? "";
    const version = run("dpkg-deb", ["-f", first, "Version"], { cwd: work }).trim();
    writeFileSync(join(work, "root/.version"), version);
    rmSync(directory, { recursive: true, force: true });
    renameSync(join(work, "root"), directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** A kernel of Debian. */
export interface GuestKernel extends DebianPackage {
  /** Name of its module directory, `6.1.0-56-amd64`. */
  readonly release: string;
  /** The compressed kernel. */
  readonly image: string;
}

/** Gives Debian's current kernel for amd64. */
export function guestKernel(): GuestKernel {
  const cached = join(CACHE, "debian");
  const known = existsSync(cached)
    ? readdirSync(cached).find((name) => name.startsWith("linux-image-"))
    : undefined;
  const name = known ?? kernelPackage();
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
