import { isAtOrBelow } from "../protocol/keys.js";
import { type Change, Refusal } from "./operations.js";

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

/** One event: the watch that fires, and what it tells. */
export interface Firing extends Change {
  readonly watch: Watch;
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

  /** Returns what fires on changes. */
  *firing(changes: readonly Change[]): Generator<Firing, void, undefined> {
    for (const { path, gone } of changes) {
      for (const watch of this.#watches) {
        // A removed tree is told by its top, and to who watches a node inside it by that node.
        if (gone.has(watch.path)) yield { watch, path: watch.path, gone };
        else if (covers(watch, path)) yield { watch, path, gone };
      }
    }
  }

  #find({ path, token }: Pick<Watch, "path" | "token">): number {
    return this.#watches.findIndex((each) => each.path === path && each.token === token);
  }
}

/** Returns a path as its watch tells it. */
export function toldPath({ watch: { given, path: top }, path }: Pick<Firing, "watch" | "path">): string {
  return given.startsWith("/") ? path : given + path.slice(top.length);
}

function covers({ path: top, depth }: Watch, path: string): boolean {
  const levels = path === top ? 0 : path.slice(top === "/" ? 1 : top.length + 1).split("/").length;
  return isAtOrBelow(path, top) && levels <= depth;
}
