import nodeFs from "node:fs";
import type { PoolFs } from "../../providers/hyperv/transport/files/descriptor.js";
import type { Random } from "../support/campaign.js";

/** Bytes that reach a disk as one. */
const PAGE = 4096;
const ZEROS = Buffer.alloc(PAGE);

/** What a program did to a file, page by page. */
type Event =
  | { readonly kind: "page"; readonly page: number; readonly content: Buffer; readonly size: number }
  | { readonly kind: "size"; readonly size: number; readonly zeroed: readonly [number, Buffer][] }
  | { readonly kind: "syncing" | "synced"; readonly sync: number }
  | { readonly kind: "created" | "directory synced" };

/**
 * A file system that does what it is told on one real file, and keeps the order of every page written, every change of
 * length and every completed sync, from which a {@link Disk} says what a power cut may leave.
 */
export class RecordingFs {
  /** What was done since the last {@link take}. */
  #events: Event[] = [];
  readonly #path: string;
  readonly #files = new Map<number, "file" | "directory">();
  #syncs = 0;

  /** @param path of the one file */
  constructor(path: string) {
    this.#path = path;
  }

  /** Returns what was done since the last time. */
  take(): readonly Event[] {
    return this.#events.splice(0);
  }

  /** The functions for {@link PoolFs}; what they do not name goes to the real file system. */
  readonly fs: PoolFs = {
    ...nodeFs,
    openSync: ((path: string, flags: number, mode?: number) => {
      const existed = nodeFs.existsSync(this.#path);
      const fd = nodeFs.openSync(path, flags, mode);
      const kind = nodeFs.fstatSync(fd).isDirectory() ? "directory" : "file";
      this.#files.set(fd, kind);
      if (kind === "file" && !existed) this.#events.push({ kind: "created" });
      return fd;
    }) as PoolFs["openSync"],
    closeSync: (fd) => {
      this.#files.delete(fd);
      nodeFs.closeSync(fd);
    },
    writeSync: ((fd: number, buffer: Buffer, offset: number, length: number, position: number) => {
      this.#write(fd, Buffer.from(buffer.buffer, buffer.byteOffset + offset, length), position);
      return length;
    }) as PoolFs["writeSync"],
    ftruncateSync: (fd, size = 0) => this.#truncate(fd, size ?? 0),
    fsync: ((fd: number, done: (error: null) => void) => {
      const settle = this.#sync(fd);
      setImmediate(() => {
        settle();
        done(null);
      });
    }) as PoolFs["fsync"],
    ...({ fdatasync: undefined, fsyncSync: (fd: number) => this.#sync(fd)() } as object),
  };

  #write(fd: number, bytes: Buffer, position: number): void {
    for (let done = 0; done < bytes.length; ) {
      const at = position + done;
      const count = Math.min(PAGE - (at % PAGE), bytes.length - done);
      nodeFs.writeSync(fd, bytes, done, count, at);
      const page = Math.floor(at / PAGE);
      this.#events.push({ kind: "page", page, content: pageOf(fd, page), size: nodeFs.fstatSync(fd).size });
      done += count;
    }
  }

  #truncate(fd: number, size: number): void {
    const before = nodeFs.fstatSync(fd).size;
    nodeFs.ftruncateSync(fd, size);
    const zeroed: [number, Buffer][] = [];
    for (let page = Math.floor(size / PAGE); page * PAGE < before; page++)
      zeroed.push([page, pageOf(fd, page)]);
    this.#events.push({ kind: "size", size, zeroed });
  }

  #sync(fd: number): () => void {
    if (this.#files.get(fd) === "directory") return () => this.#events.push({ kind: "directory synced" });
    const sync = ++this.#syncs;
    this.#events.push({ kind: "syncing", sync });
    return () => this.#events.push({ kind: "synced", sync });
  }
}

function pageOf(fd: number, page: number): Buffer {
  const content = Buffer.alloc(PAGE);
  nodeFs.readSync(fd, content, 0, PAGE, page * PAGE);
  return content;
}

/** What one power cut takes and leaves. */
export interface Cut {
  /** The file afterwards; undefined: its name is not there. */
  readonly file: Buffer | undefined;
  /** How it was chosen, in words. */
  readonly how: string;
}

type Choice = (versions: readonly Buffer[], page: number) => Buffer;

const newest: Choice = (versions) => versions.at(-1) as Buffer;
const oldest: Choice = (versions) => versions[0] as Buffer;

/** A file as its disk may hold it: each page in any version since the last completed sync, any length since then. */
export class Disk {
  #pages = new Map<number, Buffer[]>();
  #lengths: number[];
  #syncing = new Map<number, { pages: Map<number, number>; lengths: number }>();
  #named: boolean;

  /** @param file what the disk holds for certain; undefined: there is no file */
  constructor(file: Buffer | undefined) {
    this.#named = file !== undefined;
    this.#lengths = [file?.length ?? 0];
    for (let page = 0; file !== undefined && page * PAGE < file.length; page++)
      this.#pages.set(page, [Buffer.concat([file.subarray(page * PAGE, (page + 1) * PAGE), ZEROS], PAGE)]);
  }

  /** Goes on by one event. */
  apply(event: Event): void {
    switch (event.kind) {
      case "page":
        this.#add(event.page, event.content);
        this.#lengthen(event.size);
        break;
      case "size":
        for (const [page, content] of event.zeroed) this.#add(page, content);
        this.#lengthen(event.size);
        break;
      case "syncing":
        this.#syncing.set(event.sync, {
          pages: new Map([...this.#pages].map(([page, versions]) => [page, versions.length])),
          lengths: this.#lengths.length,
        });
        break;
      case "synced":
        this.#settle(event.sync);
        break;
      case "created":
        this.#named = false;
        break;
      case "directory synced":
        this.#named = true;
        break;
    }
  }

  #add(page: number, content: Buffer): void {
    const versions = this.#pages.get(page);
    if (versions === undefined) this.#pages.set(page, [ZEROS, content]);
    else versions.push(content);
  }

  #lengthen(size: number): void {
    if (this.#lengths.at(-1) !== size) this.#lengths.push(size);
  }

  #settle(sync: number): void {
    const { pages, lengths } = this.#syncing.get(sync) ?? { pages: new Map<number, number>(), lengths: 1 };
    this.#syncing.clear();
    for (const [page, count] of pages) this.#pages.get(page)?.splice(0, count - 1);
    this.#lengths.splice(0, lengths - 1);
  }

  /** Returns another one that is as uncertain as this. */
  clone(): Disk {
    const other = new Disk(undefined);
    other.#named = this.#named;
    other.#lengths = [...this.#lengths];
    other.#pages = new Map([...this.#pages].map(([page, versions]) => [page, [...versions]]));
    return other;
  }

  /** Returns what a kill leaves: all that was done. */
  killed(): Buffer {
    return this.#image(this.#lengths.at(-1) as number, newest);
  }

  /** Returns one of the files that a power cut may leave now; the telling ones come more often. */
  cut(random: Random): Cut {
    if (!this.#named && random() < 0.2) return { file: undefined, how: "without its name" };
    const uncertain = [...this.#pages].flatMap(([page, versions]) => (versions.length > 1 ? [page] : []));
    const one = uncertain.length > 0 ? random.pick(uncertain) : -1;
    const share = random();
    const any: Choice = (versions) => random.pick(versions);
    const kinds: [string, Choice][] = [
      ["all pages new", newest],
      ["all pages old", oldest],
      [`all pages new but ${one}`, (versions, page) => (page === one ? any : newest)(versions, page)],
      [`all pages old but ${one}`, (versions, page) => (page === one ? newest : oldest)(versions, page)],
      [`pages up to ${one} new`, (versions, page) => (page <= one ? newest : oldest)(versions, page)],
      [`pages from ${one} new`, (versions, page) => (page >= one ? newest : oldest)(versions, page)],
      [
        `${Math.round(share * 100)} % of pages new`,
        (versions, page) => (random() < share ? newest : oldest)(versions, page),
      ],
      ["any page any version", any],
    ];
    const [how, choice] = random.pick(kinds);
    const length = random() < 0.5 ? (this.#lengths.at(-1) as number) : random.pick(this.#lengths);
    return {
      file: this.#image(length, choice),
      how: `${how}, ${length} of ${this.#lengths.join("/")} bytes`,
    };
  }

  #image(length: number, choose: Choice): Buffer {
    const pages: Buffer[] = [];
    for (let page = 0; page * PAGE < length; page++)
      pages.push(choose(this.#pages.get(page) ?? [ZEROS], page));
    return Buffer.concat(pages, length);
  }
}
