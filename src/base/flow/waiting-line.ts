interface Place<T> {
  readonly item: T;
  before: Place<T> | undefined;
  behind: Place<T> | undefined;
}

/** Who waits, in the order of arrival; coming, being taken and leaving cost the same however many there are. */
export class WaitingLine<T> {
  readonly #places = new Map<T, Place<T>>();
  // Links, not the map's own order: to find its first entry costs as much as entries were taken before.
  #first: Place<T> | undefined;
  #last: Place<T> | undefined;

  get length(): number {
    return this.#places.size;
  }

  /** Adds one at the end, who must not stand in the line already. */
  push(item: T): void {
    const place: Place<T> = { item, before: this.#last, behind: undefined };
    this.#places.set(item, place);
    if (this.#last === undefined) this.#first = place;
    else this.#last.behind = place;
    this.#last = place;
  }

  /** Takes who waits longest; undefined when nobody does. */
  shift(): T | undefined {
    const first = this.#first;
    if (first !== undefined) this.#take(first);
    return first?.item;
  }

  remove(item: T): void {
    const place = this.#places.get(item);
    if (place !== undefined) this.#take(place);
  }

  all(): T[] {
    const all: T[] = [];
    for (let place = this.#first; place !== undefined; place = place.behind) all.push(place.item);
    return all;
  }

  clear(): T[] {
    const all = this.all();
    this.#places.clear();
    this.#first = undefined;
    this.#last = undefined;
    return all;
  }

  #take({ item, before, behind }: Place<T>): void {
    this.#places.delete(item);
    if (before === undefined) this.#first = behind;
    else before.behind = behind;
    if (behind === undefined) this.#last = before;
    else behind.before = before;
  }
}
