/** One node of a tree of paths whose values are known by what stands for them. */
export class PathTree<T> {
  /** What stands for the node's value; undefined: it is not known. */
  value: T | undefined;
  /** The last walk that came past it. */
  seen = 0;
  readonly #children = new Map<string, PathTree<T>>();

  /** Whether nothing is below. */
  get isEmpty(): boolean {
    return this.#children.size === 0;
  }

  /** Returns a node, added with those above it when it is not known. */
  add(names: readonly string[]): PathTree<T> {
    let node: PathTree<T> = this;
    for (const name of names) {
      let child = node.#children.get(name);
      if (child === undefined) {
        child = new PathTree();
        node.#children.set(name, child);
      }
      node = child;
    }
    return node;
  }

  /** Returns a node; undefined: it is not known. */
  at(names: readonly string[]): PathTree<T> | undefined {
    let node: PathTree<T> = this;
    for (const name of names) {
      const child = node.#children.get(name);
      if (child === undefined) return undefined;
      node = child;
    }
    return node;
  }

  /** Forgets a node and all below it; the top itself stays, without a value. */
  remove(names: readonly string[]): void {
    if (names.length === 0) {
      this.value = undefined;
      this.#children.clear();
      return;
    }
    const parent = this.at(names.slice(0, -1));
    if (parent !== undefined) parent.#children.delete(names.at(-1) as string);
  }

  /** Returns all nodes below with their paths, relative to this one, each after its parent; what is added meanwhile may be left out. */
  *below(): Generator<{ readonly names: readonly string[]; readonly node: PathTree<T> }, void, undefined> {
    const waiting: { readonly names: readonly string[]; readonly node: PathTree<T> }[] = [
      { names: [], node: this },
    ];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      for (const [name, node] of next.node.#children) {
        const found = { names: [...next.names, name], node };
        yield found;
        waiting.push(found);
      }
    }
  }
}
