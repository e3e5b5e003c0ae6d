import type { Permission } from "../protocol/permissions.js";

/** One node; replaced, never changed. */
export interface Node {
  readonly value: Buffer;
  readonly permissions: readonly Permission[];
  readonly children: readonly string[];
  /** Changes with every change of the node. */
  readonly generation: number;
}

/** Where nodes are looked up and put. */
export interface Nodes {
  get(path: string): Node | undefined;
  /** @param node undefined removes it */
  put(path: string, node: Omit<Node, "generation"> | undefined): void;
}

/** The nodes that everybody sees. */
export class SharedNodes implements Nodes {
  readonly #nodes = new Map<string, Node>();
  #generation = 0;

  constructor() {
    this.put("/", { value: Buffer.alloc(0), permissions: [{ domain: 0, access: "none" }], children: [] });
  }

  get(path: string): Node | undefined {
    return this.#nodes.get(path);
  }

  put(path: string, node: Omit<Node, "generation"> | undefined): void {
    if (node === undefined) this.#nodes.delete(path);
    else this.#nodes.set(path, { ...node, generation: ++this.#generation });
  }

  /** Number of nodes that a domain owns. */
  ownedBy(domain: number): number {
    let count = 0;
    for (const { permissions } of this.#nodes.values()) if (permissions[0]?.domain === domain) count++;
    return count;
  }
}

/**
 * The nodes as one transaction sees them, in the manner of the C daemon: no snapshot, but each node stays as it was at the
 * first look, and a check at the end.
 */
export class TransactionNodes implements Nodes {
  readonly #shared: SharedNodes;
  readonly #seen = new Map<string, Node | undefined>();
  readonly #changed = new Map<string, Omit<Node, "generation"> | undefined>();

  constructor(shared: SharedNodes) {
    this.#shared = shared;
  }

  get(path: string): Node | undefined {
    if (this.#changed.has(path)) {
      const node = this.#changed.get(path);
      return node && { ...node, generation: 0 };
    }
    if (!this.#seen.has(path)) this.#seen.set(path, this.#shared.get(path));
    return this.#seen.get(path);
  }

  put(path: string, node: Omit<Node, "generation"> | undefined): void {
    this.get(path);
    this.#changed.set(path, node);
  }

  /** Makes the changes; false, and none is made, when somebody else changed what was seen. */
  commit(): boolean {
    for (const [path, node] of this.#seen)
      if (this.#shared.get(path)?.generation !== node?.generation) return false;
    for (const [path, node] of this.#changed) this.#shared.put(path, node);
    return true;
  }
}

/** Returns the path above; undefined for the root. */
export function parentOf(path: string): string | undefined {
  if (path === "/") return undefined;
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
