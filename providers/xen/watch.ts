import { createHash } from "node:crypto";
import { PvbusError } from "../../src/base/errors.js";
import { Backoff } from "../../src/base/flow/backoff.js";
import { Call } from "../../src/base/flow/call.js";
import type { RawEntry, WatchHooks } from "../../src/contract/store.js";
import { isAtOrBelow, type KeyedPath, keyedChild } from "./protocol/keys.js";
import { below, isUnnameable, REFUSED, type Surroundings, unlessRefused } from "./walk.js";

type Changes = AsyncGenerator<RawEntry, void, undefined>;
type Told = Generator<RawEntry, void, undefined>;

const A_CHANGE = "a change";
/** Longest wait for one answer: the watch itself may go on for ever. */
const LOOK_MS = 30_000;
const PAUSES = { firstMs: 20, longestMs: 2_000 } as const;
const UNLISTED: readonly string[] = ["ERR_PERMISSION", "ERR_NOT_SUPPORTED"];
/** Longest value that is kept as it is; of a longer one a hash is. */
const KEPT_BYTES = 32;

/**
 * Turns the events of one watch, which say "look here again", into changes of keys. It knows what it has told: the daemon
 * tells of a removed tree by its top alone, of nodes made on the way to another one not at all, so below whatever changed
 * each node is compared with that.
 *
 * Whatever goes wrong while it looks (the daemon is restarted, a directory changes all the time) means that something was
 * lost: it looks at everything again. Only the end of the call, of the client, and what is no {@link PvbusError} end it.
 */
export class StoreWatch {
  readonly #top: KeyedPath;
  readonly #surroundings: Surroundings;
  readonly #call: Call;
  /** What has been told, by what stands for the values. */
  readonly #known = new PathTree();
  #walks = 0;

  constructor(top: KeyedPath, surroundings: Surroundings, call: Call) {
    this.#top = top;
    this.#surroundings = surroundings;
    this.#call = call;
  }

  /** Yields changes until the call is over; then it returns, or throws that it is over. */
  async *changes({ ready }: WatchHooks): Changes {
    const { signal, remainingMs: timeoutMs } = this.#call;
    for await (const event of this.#surroundings.client.watch(this.#top.path, { signal, timeoutMs })) {
      if (event.reason === "registered") {
        // What changes from here on is seen: its event waits behind this one.
        for await (const _ of this.#untilDone(this.#lookAtAll()));
        ready();
      } else yield* this.#untilDone(event.reason === "resync" ? this.#lookAtAll() : this.#lookAt(event.path));
    }
  }

  /** Looks, and when that fails at everything, until it is done. */
  async *#untilDone(look: Changes): Changes {
    const { logger } = this.#surroundings;
    const backoff = new Backoff(PAUSES);
    for (let looking = look; ; looking = this.#lookAtAll()) {
      try {
        yield* looking;
        return;
      } catch (error) {
        this.#call.check(A_CHANGE);
        if (!PvbusError.is(error) || this.#surroundings.client.isClosed) throw error;
        logger.warn("a watch lost its way and looks at everything again", { path: this.#top.path, error });
      }
      await backoff.sleep(this.#call, A_CHANGE);
    }
  }

  /** Returns the call of a look: it ends with the watch at the latest. */
  #look(): Call {
    const { signal, remainingMs } = this.#call;
    return new Call({ signal, timeoutMs: Math.min(LOOK_MS, remainingMs) });
  }

  #names(path: string): string[] {
    const { path: top } = this.#top;
    return path === top ? [] : path.slice(top === "/" ? 1 : top.length + 1).split("/");
  }

  #node(names: readonly string[]): KeyedPath | undefined {
    let node: KeyedPath | undefined = this.#top;
    for (const name of names) node = node && keyedChild(node, name, this.#surroundings.syntax);
    return node;
  }

  /** Looks at one node, and compares what is below it: it may have been removed and made again. */
  async *#lookAt(path: string): Changes {
    if (!isAtOrBelow(path, this.#top.path)) return;
    const names = this.#names(path);
    const node = this.#node(names);
    if (node === undefined) return;
    const call = this.#look();
    const value = await this.#read(node, call);
    if (value === REFUSED) return;
    if (value === undefined) return yield* this.#gone(names, node);
    for (let depth = 0; depth < names.length; depth++) yield* this.#onTheWay(names.slice(0, depth), call);
    const known = this.#known.add(names);
    yield* this.#tell(known, node, value);
    if (known.children.size > 0) yield* this.#compare(names, node);
  }

  /** Tells of a node that was made on the way to another one. */
  async *#onTheWay(names: readonly string[], call: Call): Changes {
    const node = this.#known.at(names)?.value === undefined ? this.#node(names) : undefined;
    const value = node && (await this.#read(node, call));
    if (node !== undefined && value !== undefined && value !== REFUSED)
      yield* this.#tell(this.#known.add(names), node, value);
  }

  /** Events were lost: everything may have changed. */
  async *#lookAtAll(): Changes {
    const value = await this.#read(this.#top, this.#look());
    if (value === undefined) {
      if (this.#known.value !== undefined || this.#known.children.size > 0) yield* this.#gone([], this.#top);
    } else if (value !== REFUSED && stampOf(value) !== this.#known.value)
      yield* this.#tell(this.#known, this.#top, value);
    yield* this.#compare([], this.#top);
  }

  /** Reports what is below a node and was not told, and what was told and is there no more. */
  async *#compare(names: readonly string[], node: KeyedPath): Changes {
    const walk = ++this.#walks;
    const call = this.#look();
    try {
      for await (const found of below(node, this.#surroundings, call)) {
        const known = this.#known.add(this.#names(found.path));
        known.seen = walk;
        if (found.value !== undefined && stampOf(found.value) !== known.value)
          yield* this.#tell(known, found, found.value);
        if (this.#call.remainingMs > LOOK_MS) call.renew();
        await this.#call.turn(A_CHANGE);
      }
    } catch (error) {
      // What may not be listed, or cannot be here, may be watched all the same.
      if (PvbusError.is(error) && UNLISTED.includes(error.code)) return;
      throw error;
    }
    const gone: (readonly string[])[] = [];
    for (const { names: path, node } of this.#known.below(names)) {
      await this.#call.turn(A_CHANGE);
      if (node.seen !== walk) gone.push(path);
    }
    for (const path of gone) {
      this.#known.remove(path);
      yield* change(this.#node(path), undefined);
    }
  }

  *#gone(names: readonly string[], node: KeyedPath): Told {
    yield* change(node, undefined);
    for (const { names: path } of this.#known.below(names)) yield* change(this.#node(path), undefined);
    this.#known.remove(names);
  }

  *#tell(known: PathTree, node: KeyedPath, value: Uint8Array): Told {
    known.value = stampOf(value);
    yield* change(node, value);
  }

  async #read({ path }: KeyedPath, call: Call): Promise<Uint8Array | undefined | typeof REFUSED> {
    try {
      return await unlessRefused(this.#surroundings.client.read(path, call));
    } catch (error) {
      if (isUnnameable(error)) return REFUSED;
      throw error;
    }
  }
}

/** The own directory has no key of its own to tell it by. */
function* change(node: KeyedPath | undefined, value: Uint8Array | undefined): Told {
  if (node !== undefined && node.key !== "") yield { key: node.key, value };
}

function stampOf(value: Uint8Array): string {
  if (value.length <= KEPT_BYTES) return `=${Buffer.from(value).toString("latin1")}`;
  return `#${createHash("sha256").update(value).digest("base64")}`;
}

/** One node of the tree of paths that have been told, by what stands for their values. */
export class PathTree {
  /** What stands for the node's value; undefined: it is not known. */
  value: string | undefined;
  /** The last walk that came past it. */
  seen = 0;
  readonly children = new Map<string, PathTree>();

  /** Returns a node, added with those above it when it is not known. */
  add(names: readonly string[]): PathTree {
    let node: PathTree = this;
    for (const name of names) {
      const child = node.children.get(name) ?? new PathTree();
      node.children.set(name, child);
      node = child;
    }
    return node;
  }

  /** Returns a node; undefined: it is not known. */
  at(names: readonly string[]): PathTree | undefined {
    let node: PathTree | undefined = this;
    for (const name of names) node = node?.children.get(name);
    return node;
  }

  /** Forgets a node and all below it; the top itself stays, without a value. */
  remove(names: readonly string[]): void {
    if (names.length === 0) {
      this.value = undefined;
      this.children.clear();
    } else this.at(names.slice(0, -1))?.children.delete(names.at(-1) as string);
  }

  /** Returns all nodes below one with their paths, each after its parent; what is added meanwhile may be left out. */
  *below(top: readonly string[] = []): Generator<TreePath, void, undefined> {
    const node = this.at(top);
    const waiting: TreePath[] = node === undefined ? [] : [{ names: top, node }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      for (const [name, node] of next.node.children) {
        const found = { names: [...next.names, name], node };
        yield found;
        waiting.push(found);
      }
    }
  }
}

interface TreePath {
  readonly names: readonly string[];
  readonly node: PathTree;
}
