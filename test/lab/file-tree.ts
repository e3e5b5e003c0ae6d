/** Files of a machine in the making. Paths are absolute, with or without the slash. */
export interface FileTree {
  /** Adds a directory and those above it. */
  directory(path: string): this;
  /** Adds a regular file. */
  file(path: string, content: Buffer | string, mode?: number): this;
  /** Adds a symbolic link. */
  link(path: string, target: string): this;
  /** Adds a file or a tree of this machine; with `follow` what a link at its top leads to. */
  copy(from: string, to: string, follow?: boolean): this;
}
