import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { FileTree } from "./file-tree.js";
import { run } from "./tools.js";

/** A disk in the making, for machines whose first process wants a file system as it is in the field. */
export class Disk implements FileTree {
  readonly #root = realpathSync(mkdtempSync(join(tmpdir(), "pvbus-lab-disk-")));

  /** Makes the tree of a merged /usr, as Debian has it. */
  constructor() {
    // What mkdtemp(3) makes is its owner's alone, and so would be the machine's root.
    chmodSync(this.#root, 0o755);
    for (const name of ["bin", "sbin", "lib", "lib64"])
      this.directory(`usr/${name}`).link(name, `usr/${name}`);
  }

  directory(path: string): this {
    mkdirSync(join(this.#root, path), { recursive: true });
    return this;
  }

  file(path: string, content: Buffer | string, mode = 0o644): this {
    const place = this.#place(path);
    writeFileSync(place, content);
    chmodSync(place, mode);
    return this;
  }

  /** Adds a symbolic link, unless something is there. */
  link(path: string, target: string): this {
    const place = this.#place(path);
    if (lstatSync(place, { throwIfNoEntry: false }) === undefined) symlinkSync(target, place);
    return this;
  }

  copy(from: string, to: string, follow = false): this {
    const source = follow && lstatSync(from).isSymbolicLink() ? realpathSync(from) : from;
    const place = this.#place(to);
    // A directory that is a link already is filled, not replaced; this machine's own files are nobody's target.
    const target = existsSync(place) ? realpathSync(place) : place;
    if (!target.startsWith(`${this.#root}/`)) throw new Error(`${to} leads out of the disk, to ${target}`);
    cpSync(source, target, { recursive: true, verbatimSymlinks: true, force: true });
    return this;
  }

  /** Makes the disk's file and forgets the tree. */
  write(path: string, mebibytes: number): void {
    rmSync(path, { force: true });
    run("mkfs.ext4", ["-q", "-F", "-m", "0", "-d", this.#root, path, `${mebibytes}M`]);
    this.discard();
  }

  /** Forgets the tree. */
  discard(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }

  #place(path: string): string {
    const place = join(this.#root, path);
    mkdirSync(dirname(place), { recursive: true });
    return place;
  }
}
