import type { RawEntry } from "../contract/store.js";

/** The pairs that all stores of one memory provider share, and who follows them. */
export class MemoryRecords {
  readonly #values = new Map<string, Uint8Array>();
  readonly #followers = new Set<(change: RawEntry) => void>();

  /** Returns a copy of the value; undefined when there is no such key. */
  get(key: string): Uint8Array | undefined {
    return this.#values.get(key)?.slice();
  }

  /** Keeps a copy of the value, or removes the key; tells the followers. */
  set(key: string, value: Uint8Array | undefined): void {
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value.slice());
    for (const follower of this.#followers) follower({ key, value: value?.slice() });
  }

  /** Reports whether the key is there. */
  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** Returns all keys as they are now. */
  keys(): readonly string[] {
    return [...this.#values.keys()];
  }

  /** Calls the follower on each later change. @returns what ends that */
  follow(follower: (change: RawEntry) => void): () => void {
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }
}
