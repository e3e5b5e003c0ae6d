export interface KeyEntry<V> {
  readonly key: string;
  readonly value: V;
}

/** A table at one instant, in sorted portions of at most 128 entries; it never changes. */
export type KeyPortions<V> = readonly (readonly KeyEntry<V>[])[];

const MOST = 128;

/**
 * Keys in the order of their UTF-16 units. What it looks like at an instant is to be had at once and stays as it is, however long
 * somebody works through it: portions are replaced, never changed.
 */
export class KeyTable<V> {
  #portions: KeyPortions<V> = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: string): V | undefined {
    const portion = this.#portions[this.#portionOf(key)] ?? [];
    const entry = portion[indexIn(portion, key)];
    return entry?.key === key ? entry.value : undefined;
  }

  set(key: string, value: V): void {
    const at = this.#portionOf(key);
    const portion = this.#portions[at] ?? [];
    const index = indexIn(portion, key);
    const isThere = portion[index]?.key === key;
    const next = [...portion.slice(0, index), { key, value }, ...portion.slice(isThere ? index + 1 : index)];
    if (!isThere) this.#size++;
    this.#replace(at, next.length > MOST ? [next.slice(0, MOST / 2), next.slice(MOST / 2)] : [next]);
  }

  delete(key: string): void {
    const at = this.#portionOf(key);
    const portion = this.#portions[at] ?? [];
    const next = portion.filter((entry) => entry.key !== key);
    if (next.length === portion.length) return;
    this.#size--;
    this.#replace(at, next.length === 0 ? [] : [next]);
  }

  portions(): KeyPortions<V> {
    return this.#portions;
  }

  #replace(at: number, by: KeyPortions<V>): void {
    this.#portions = [...this.#portions.slice(0, at), ...by, ...this.#portions.slice(at + 1)];
  }

  /** Returns the portion in which a key is, or would be: the last one that does not begin behind it. */
  #portionOf(key: string): number {
    let low = 0;
    for (let high = this.#portions.length; high - low > 1; ) {
      const middle = (low + high) >>> 1;
      if ((this.#portions[middle]?.[0]?.key as string) <= key) low = middle;
      else high = middle;
    }
    return low;
  }
}

/** Returns where a key is, or would be, among sorted ones. */
function indexIn<V>(portion: readonly KeyEntry<V>[], key: string): number {
  let low = 0;
  for (let high = portion.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if ((portion[middle]?.key as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
