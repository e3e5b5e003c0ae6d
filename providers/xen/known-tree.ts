/** Names of nodes, as a tree. */
export class KnownTree {
  readonly #children = new Map<string, KnownTree>();

  /** Whether nothing is below. */
  get isEmpty(): boolean {
    return this.#children.size === 0;
  }

  /**
   * Adds a node and those above it.
   * @returns how many names of the path were known
   */
  add(names: readonly string[]): number {
    let node: KnownTree = this;
    let known = 0;
    for (const name of names) {
      let child = node.#children.get(name);
      if (child === undefined) {
        child = new KnownTree();
        node.#children.set(name, child);
      } else known++;
      node = child;
    }
    return known;
  }

  /** Gives what is known at a path; undefined: the node is not known. */
  at(names: readonly string[]): KnownTree | undefined {
    let node: KnownTree = this;
    for (const name of names) {
      const child = node.#children.get(name);
      if (child === undefined) return undefined;
      node = child;
    }
    return node;
  }

  /** Forgets a node and all below it. */
  remove(names: readonly string[]): void {
    const parent = this.at(names.slice(0, -1));
    if (parent !== undefined) parent.#children.delete(names.at(-1) ?? "");
  }

  /** Gives the paths of all nodes below, relative to this one, each after its parent. */
  *paths(): Generator<string[], void, undefined> {
    const waiting: { readonly names: string[]; readonly node: KnownTree }[] = [{ names: [], node: this }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      for (const [name, node] of next.node.#children) {
        const names = [...next.names, name];
        yield names;
        waiting.push({ names, node });
      }
    }
  }
}
