/** Begins to forget what was taken when there is so much of it. */
const COMPACT_AT = 1024;

/** Who waits, in the order of arrival; taking and leaving are cheap however many there are. */
export class WaitingLine<T> {
  #items: (T | undefined)[] = [];
  #head = 0;

  /** How many wait. */
  get length(): number {
    return this.#items.length - this.#head;
  }

  /** Adds one at the end. */
  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes who waits longest; undefined when nobody does. */
  shift(): T | undefined {
    if (this.#head === this.#items.length) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    // A line that never becomes empty must not grow for ever.
    if (
      this.#head === this.#items.length ||
      (this.#head >= COMPACT_AT && this.#head * 2 >= this.#items.length)
    ) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Takes one out, wherever it stands. */
  remove(item: T): void {
    const at = this.#items.indexOf(item, this.#head);
    if (at >= 0) this.#items.splice(at, 1);
  }

  /** Gives all that wait. */
  all(): T[] {
    return this.#items.slice(this.#head) as T[];
  }

  /** Takes all. */
  clear(): T[] {
    const all = this.all();
    this.#items = [];
    this.#head = 0;
    return all;
  }
}
