import { childPath } from "../protocol/keys.js";
import { type Access, type Permission, readPermission } from "../protocol/permissions.js";

interface Content {
  readonly value: Buffer;
  readonly permissions: readonly Permission[];
  readonly children: readonly string[];
}

/** One node; replaced, never changed. */
export interface Node extends Content {
  /** Changes with every change of the node. */
  readonly generation: number;
}

export interface Nodes {
  get(path: string): Node | undefined;
  /** @param node undefined removes it */
  put(path: string, node: Content | undefined): void;
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

  put(path: string, node: Content | undefined): void {
    if (node === undefined) this.#nodes.delete(path);
    else this.#nodes.set(path, { ...node, generation: ++this.#generation });
  }

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
  readonly #changed = new Map<string, Content | undefined>();

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

  put(path: string, node: Content | undefined): void {
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

export class Refusal extends Error {
  constructor(code: string) {
    super(code);
    this.name = "Refusal";
  }
}

/** Quotas of a guest; the controlling domain has none. */
export interface XenStoreQuotas {
  /** Nodes that it may own; default 1000. */
  readonly nodes?: number;
  /** Bytes of one node: its header, eight for each permission, its value, its children's names; default 2048. */
  readonly nodeBytes?: number;
  /** Watches; default 128. */
  readonly watches?: number;
  /** Open transactions; default 10. */
  readonly transactions?: number;
  /** Permissions of one node; default 5. */
  readonly permissions?: number;
}

/** The quotas of Xen 4.17's C daemon. */
export const DEFAULT_QUOTAS: Required<XenStoreQuotas> = {
  nodes: 1000,
  nodeBytes: 2048,
  watches: 128,
  transactions: 10,
  permissions: 5,
};

/** Bytes of the C daemon's header of a node. */
const NODE_HEADER = 24;
const PERMISSION_BYTES = 8;
const READ: readonly Access[] = ["read", "both"];
const WRITE: readonly Access[] = ["write", "both"];
const OWN: readonly Access[] = [];
const NONE: ReadonlyMap<string, Node> = new Map();

/** Who asks, and what he may use. */
export interface Asking {
  readonly domain: number;
  readonly quotas: Required<XenStoreQuotas>;
  readonly owned: () => number;
}

/** A path that changed. */
export interface Change {
  readonly path: string;
  /** Nodes that were removed, by path; none: it was changed. */
  readonly gone: ReadonlyMap<string, Node>;
}

/**
 * What may be done with nodes, by one domain. Each method throws a {@link Refusal} as the C daemon does; those that change
 * something return what changed.
 */
export class Operations {
  readonly #nodes: Nodes;
  readonly #asking: Asking;

  constructor(nodes: Nodes, asking: Asking) {
    this.#nodes = nodes;
    this.#asking = asking;
  }

  read(path: string): Node {
    return this.#find(path, READ);
  }

  /**
   * Whether events of a path may be told: to who may read the node or the one above.
   * @param gone nodes as they were before they were removed
   */
  maySee(path: string, gone: ReadonlyMap<string, Node>): boolean {
    const paths = [path, parentOf(path) ?? "/"];
    return paths
      .map((each) => this.#nodes.get(each) ?? gone.get(each))
      .some((each) => each !== undefined && this.#may(each, READ));
  }

  write(path: string, value: Buffer): readonly Change[] {
    const node = this.#nodes.get(path);
    if (node === undefined) this.#create(path, value);
    else if (this.#may(node, WRITE)) this.#put(path, { ...node, value });
    else throw new Refusal("EACCES");
    return [{ path, gone: NONE }];
  }

  mkdir(path: string): readonly Change[] {
    const node = this.#nodes.get(path);
    if (node === undefined) return this.write(path, Buffer.alloc(0));
    if (!this.#may(node, WRITE)) throw new Refusal("EACCES");
    return [];
  }

  remove(path: string): readonly Change[] {
    const parent = parentOf(path);
    if (parent === undefined) throw new Refusal("EINVAL");
    try {
      this.#find(path, WRITE);
    } catch (error) {
      if (!(error instanceof Refusal) || error.message !== "ENOENT" || this.#nodes.get(parent) === undefined)
        throw error;
      return [];
    }
    const above = this.#nodes.get(parent) as Node;
    const name = path.slice(path.lastIndexOf("/") + 1);
    this.#nodes.put(parent, { ...above, children: above.children.filter((each) => each !== name) });
    const gone = new Map<string, Node>();
    const waiting = [path];
    for (let top = waiting.pop(); top !== undefined; top = waiting.pop()) {
      const node = this.#nodes.get(top) as Node;
      gone.set(top, node);
      for (const child of node.children) waiting.push(childPath(top, child));
      this.#nodes.put(top, undefined);
    }
    return [{ path, gone }];
  }

  setPermissions(path: string, permissions: readonly Permission[]): readonly Change[] {
    const { domain, quotas } = this.#asking;
    const node = this.#find(path, OWN);
    if (domain !== 0 && permissions[0]?.domain !== domain) throw new Refusal("EPERM");
    if (domain !== 0 && permissions.length > quotas.permissions) throw new Refusal("ENOSPC");
    this.#put(path, { ...node, permissions });
    return [{ path, gone: NONE }];
  }

  #create(path: string, value: Buffer): void {
    const parent = parentOf(path) as string;
    if (this.#nodes.get(parent) === undefined) this.#create(parent, Buffer.alloc(0));
    const above = this.#nodes.get(parent) as Node;
    if (!this.#may(above, WRITE)) throw new Refusal("EACCES");
    const { domain, quotas, owned } = this.#asking;
    if (domain !== 0 && owned() >= quotas.nodes) throw new Refusal("ENOSPC");
    const [first, ...others] = above.permissions as readonly [Permission, ...Permission[]];
    const permissions = domain === 0 ? above.permissions : [{ ...first, domain }, ...others];
    const name = path.slice(path.lastIndexOf("/") + 1);
    this.#put(parent, { ...above, children: [...above.children, name] });
    this.#put(path, { value, permissions, children: [] });
  }

  #put(path: string, node: Content): void {
    const { domain, quotas } = this.#asking;
    const names = node.children.reduce((sum, name) => sum + name.length + 1, 0);
    const size = NODE_HEADER + node.permissions.length * PERMISSION_BYTES + node.value.length + names;
    if (domain !== 0 && size > quotas.nodeBytes) throw new Refusal("ENOSPC");
    this.#nodes.put(path, node);
  }

  /** @param need what the permission must be one of; none: only the owner may */
  #find(path: string, need: readonly Access[]): Node {
    const node = this.#nodes.get(path);
    if (node !== undefined && this.#may(node, need)) return node;
    // Whether a node is there is told only to who may do the same with what is above it.
    for (let above = parentOf(path); above !== undefined; above = parentOf(above)) {
      const there = this.#nodes.get(above);
      if (there === undefined) continue;
      throw new Refusal(node === undefined && this.#may(there, need) ? "ENOENT" : "EACCES");
    }
    throw new Refusal("EACCES");
  }

  #may({ permissions }: Node, need: readonly Access[]): boolean {
    const { domain } = this.#asking;
    const [first, ...others] = permissions as readonly [Permission, ...Permission[]];
    if (domain === 0 || first.domain === domain) return true;
    return need.includes((others.find((each) => each.domain === domain) ?? first).access);
  }
}

export function permissionOf(text: string): Permission {
  const permission = readPermission(text);
  if (permission === undefined) throw new Refusal("EINVAL");
  return permission;
}

/** Returns the path above; undefined for the root. */
function parentOf(path: string): string | undefined {
  if (path === "/") return undefined;
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
