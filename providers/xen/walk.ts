import { PvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { fairSort } from "../../src/base/flow/fair-sort.js";
import type { Logger } from "../../src/base/host/host.js";
import type { XenStoreClient } from "./client/client.js";
import { type KeyedPath, type KeySyntax, keyedChild } from "./protocol/keys.js";

/** How nodes are named by keys. */
export interface Naming {
  readonly syntax: KeySyntax;
  /** Hears of nodes that no key can name. */
  readonly logger: Logger;
}

export interface Surroundings extends Naming {
  readonly client: XenStoreClient;
}

export interface TreeNode extends KeyedPath {
  /** Its value; undefined where it may not be read. */
  readonly value: Uint8Array | undefined;
  readonly children: readonly string[];
}

/** Nodes that are looked at together. */
const PAGE = 32;

/**
 * Walks everything below a node, each node before what is below it, by name. Nodes that come or go meanwhile may be in it
 * or not; what may not be looked into is left out.
 * @throws PvbusError `ERR_PERMISSION` when the top itself may not be listed
 */
export async function* below(
  top: KeyedPath,
  surroundings: Surroundings,
  call: Call,
): AsyncGenerator<TreeNode, void, undefined> {
  const names = await surroundings.client.directory(top.path, call);
  const levels = [pages(top, names ?? [], surroundings, call)];
  for (let level = levels[0]; level !== undefined; level = levels.at(-1)) {
    const { value: node, done } = await level.next();
    if (done === true) levels.pop();
    else {
      yield node;
      if (node.children.length > 0) levels.push(pages(node, node.children, surroundings, call));
    }
  }
}

/** Looks at the children of one node, a page of them at a time. */
async function* pages(
  parent: KeyedPath,
  names: readonly string[],
  surroundings: Surroundings,
  call: Call,
): AsyncGenerator<TreeNode, void, undefined> {
  const sorted = await fairSort(names, call);
  for (let from = 0; from < sorted.length; from += PAGE) {
    const page = childrenOf(parent, sorted.slice(from, from + PAGE), surroundings);
    const looks = page.map((child) =>
      look(surroundings.client, child, call).catch((error) => {
        if (!isUnnameable(error)) throw error;
        leaveOut(parent, child.path.slice(child.path.lastIndexOf("/") + 1), surroundings);
        return undefined;
      }),
    );
    for (const found of await Promise.all(looks)) if (found !== undefined) yield found;
  }
}

/** Returns the children that a key can name; the log tells of the others. */
export function childrenOf(parent: KeyedPath, names: readonly string[], naming: Naming): KeyedPath[] {
  const children: KeyedPath[] = [];
  for (const name of names) {
    const child = keyedChild(parent, name, naming.syntax);
    if (child !== undefined) children.push(child);
    else if (!name.startsWith("@")) leaveOut(parent, name, naming);
  }
  return children;
}

function leaveOut({ path }: KeyedPath, name: string, { logger }: Naming): void {
  logger.warn("a node is left out: no key can name it", { parent: path, name });
}

/** Returns undefined when the node is gone. */
async function look(client: XenStoreClient, node: KeyedPath, call: Call): Promise<TreeNode | undefined> {
  const { path } = node;
  const [value, children] = await Promise.all([
    unlessRefused(client.read(path, call)),
    unlessRefused(client.directory(path, call)),
  ]);
  if (children === undefined || value === undefined) return undefined;
  return {
    ...node,
    value: value === REFUSED ? undefined : value,
    children: children === REFUSED ? [] : children,
  };
}

/** Reports whether the daemon, or the client, takes no path so long; a daemon may list what it does not take. */
export function isUnnameable(error: unknown): boolean {
  return PvbusError.is(error) && error.code === "ERR_KEY_TOO_LONG";
}

/** Stands for what may not be looked at. */
export const REFUSED: unique symbol = Symbol("refused");

/** Returns {@link REFUSED} in place of a refusal for want of permission. */
export async function unlessRefused<T>(asked: Promise<T>): Promise<T | typeof REFUSED> {
  try {
    return await asked;
  } catch (error) {
    if (PvbusError.is(error) && error.code === "ERR_PERMISSION") return REFUSED;
    throw error;
  }
}

/** Returns undefined in place of a refusal for want of permission. */
export async function ifAllowed<T>(asked: Promise<T>): Promise<T | undefined> {
  const answer = await unlessRefused(asked);
  return answer === REFUSED ? undefined : answer;
}
