import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { FileTree } from "./file-tree.js";

/*
 * Archives that Linux unpacks as its first file system: "newc" records of cpio (Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst), owner root. Several archives in a row count as one.
 */

const FILE = 0o100000;
const DIRECTORY = 0o040000;
const LINK = 0o120000;
const TRAILER = "TRAILER!!!";

/** An archive in the making. */
export class CpioArchive implements FileTree {
  readonly #parts: Buffer[] = [];
  readonly #directories = new Set<string>();
  #node = 0;

  /** Adds a directory and those above it. */
  directory(path: string): this {
    const clean = path.replace(/^\/+|\/+$/g, "");
    if (clean === "" || this.#directories.has(clean)) return this;
    const slash = clean.lastIndexOf("/");
    if (slash > 0) this.directory(clean.slice(0, slash));
    this.#directories.add(clean);
    this.#record(clean, DIRECTORY | 0o755, Buffer.alloc(0));
    return this;
  }

  /** Adds a regular file. */
  file(path: string, content: Buffer | string, mode = 0o644): this {
    const name = this.#name(path);
    this.#record(name, FILE | mode, Buffer.from(content));
    return this;
  }

  /** Adds a symbolic link. */
  link(path: string, target: string): this {
    this.#record(this.#name(path), LINK | 0o777, Buffer.from(target));
    return this;
  }

  /** Adds a file or a tree of this machine; with `follow` what a link at its top leads to. */
  copy(from: string, to: string, follow = false): this {
    const stats = lstatSync(from);
    if (stats.isSymbolicLink() && !follow) return this.link(to, readlinkSync(from));
    if (stats.isDirectory()) {
      this.directory(to);
      for (const name of readdirSync(from)) this.copy(join(from, name), join(to, name));
      return this;
    }
    return this.file(to, readFileSync(from), (stats.isSymbolicLink() ? 0o755 : stats.mode) & 0o777);
  }

  /** Returns the bytes. */
  end(): Buffer {
    this.#record(TRAILER, 0, Buffer.alloc(0));
    return Buffer.concat(this.#parts);
  }

  #name(path: string): string {
    const clean = path.replace(/^\/+/, "");
    const slash = clean.lastIndexOf("/");
    if (slash > 0) this.directory(clean.slice(0, slash));
    return clean;
  }

  #record(name: string, mode: number, content: Buffer): void {
    const isTrailer = name === TRAILER;
    const fields = [
      isTrailer ? 0 : ++this.#node,
      mode,
      0,
      0,
      1,
      0,
      content.length,
      0,
      0,
      0,
      0,
      Buffer.byteLength(name) + 1,
      0,
    ];
    const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${name}\0`;
    this.#parts.push(padded(Buffer.from(head)), padded(content));
  }
}

function padded(bytes: Buffer): Buffer {
  const rest = -bytes.length & 3;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(rest)]);
}
