import { Refusal } from "./operations.js";

/** A path that changed. */
export interface Change {
  /** Absolute. */
  readonly path: string;
  /** Whether its node and all below it are gone. */
  readonly removed: boolean;
}

/** One watch of a connection. */
export interface Watch {
  /** Path as given. */
  readonly given: string;
  /** Path, absolute. */
  readonly path: string;
  readonly token: string;
  /** Levels below the path that are told too. */
  readonly depth: number;
}

/** One event: the watch that fires, and the absolute path that it tells. */
export interface Firing {
  readonly watch: Watch;
  readonly path: string;
}

/** The watches of one connection. */
export class WatchList {
  readonly #watches: Watch[] = [];
  readonly #most: number;

  /** @param most how many there may be */
  constructor(most: number) {
    this.#most = most;
  }

  /** @throws Refusal `EEXIST`, `E2BIG` as Xen 4.17's C daemon */
  add(watch: Watch): void {
    if (this.#find(watch) >= 0) throw new Refusal("EEXIST");
    if (this.#watches.length >= this.#most) throw new Refusal("E2BIG");
    this.#watches.push(watch);
  }

  /** @throws Refusal `ENOENT` */
  remove(watch: Pick<Watch, "path" | "token">): void {
    const at = this.#find(watch);
    if (at < 0) throw new Refusal("ENOENT");
    this.#watches.splice(at, 1);
  }

  clear(): void {
    this.#watches.length = 0;
  }

  /** Gives what fires on changes. */
  *firing(changes: readonly Change[]): Generator<Firing, void, undefined> {
    for (const { path, removed } of changes) {
      for (const watch of this.#watches) {
        // A removed tree is told by its top, and to who watches inside it by the watched path.
        if (removed && watch.path.startsWith(below(path))) yield { watch, path: watch.path };
        else if (covers(watch, path)) yield { watch, path };
      }
    }
  }

  #find({ path, token }: Pick<Watch, "path" | "token">): number {
    return this.#watches.findIndex((each) => each.path === path && each.token === token);
  }
}

/** Gives a path as its watch tells it. */
export function toldPath({ watch: { given, path: top }, path }: Firing): string {
  return given.startsWith("/") || given.startsWith("@") ? path : given + path.slice(top.length);
}

function below(path: string): string {
  return path === "/" ? "/" : `${path}/`;
}

function covers({ path: top, depth }: Watch, path: string): boolean {
  if (path === top) return true;
  return path.startsWith(below(top)) && path.slice(below(top).length).split("/").length <= depth;
}
