import type { Call } from "../../src/bus/call.js";
import type { RawEntry, WatchHooks } from "../../src/bus/store.js";
import type { XenStoreClient } from "./client.js";
import { childPlace, type Place } from "./keys.js";
import { KnownTree } from "./known-tree.js";
import { isAtOrBelow } from "./path.js";
import { below, REFUSED, type Surroundings, unlessRefused } from "./tree.js";

/** What a watch of a store needs. */
export interface WatchSurroundings extends Surroundings {
  readonly access: XenStoreClient;
}

const A_CHANGE = "a change";

/**
 * Turns the events of one watch, which say "look here again", into changes of keys. It knows which nodes there were: the
 * daemon tells of a removed tree by its top alone, of nodes made on the way to another one not at all.
 */
export class StoreWatch {
  readonly #top: Place;
  readonly #surroundings: WatchSurroundings;
  readonly #call: Call;
  readonly #known = new KnownTree();

  /** @param top what is followed, with all below it */
  constructor(top: Place, surroundings: WatchSurroundings, call: Call) {
    this.#top = top;
    this.#surroundings = surroundings;
    this.#call = call;
  }

  /** Yields changes until the call is over; then it returns, or throws that it is over. */
  async *changes({ ready }: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    const { signal, remainingMs: timeoutMs } = this.#call;
    let armed = false;
    for await (const event of this.#surroundings.access.watch(this.#top.path, { signal, timeoutMs })) {
      if (!armed) {
        armed = true;
        // What changes from here on is seen: its event waits behind this one.
        await this.#learn();
        ready();
      } else if (event.reason === "resync") yield* this.#lookAtAll();
      else yield* this.#lookAt(event.path);
    }
  }

  async #learn(): Promise<void> {
    // What may not be listed may be watched all the same.
    await unlessRefused(this.#addTo(this.#known, this.#top));
  }

  /** Adds what is below a place. */
  async #addTo(tree: KnownTree, place: Place): Promise<void> {
    const above = this.#names(place.path).length;
    for await (const { path } of below(place, false, this.#surroundings, this.#call))
      tree.add(this.#names(path).slice(above));
  }

  /** Names of a path below the top. */
  #names(path: string): string[] {
    const { path: top } = this.#top;
    return path === top ? [] : path.slice(top === "/" ? 1 : top.length + 1).split("/");
  }

  #place(names: readonly string[]): Place | undefined {
    let place: Place | undefined = this.#top;
    for (const name of names) place = place && childPlace(place, name, this.#surroundings.syntax);
    return place;
  }

  /** Looks at one node; what was known below it is compared with what is there. */
  async *#lookAt(path: string): AsyncGenerator<RawEntry, void, undefined> {
    if (!isAtOrBelow(path, this.#top.path)) return;
    const names = this.#names(path);
    const place = this.#place(names);
    if (place === undefined) return;
    const value = await this.#read(place);
    if (value === REFUSED) return;
    if (value === undefined) {
      const known = this.#known.at(names);
      this.#known.remove(names);
      yield* change(place, undefined);
      yield* this.#gone(names, known);
      return;
    }
    const before = this.#known.at(names);
    for (let depth = this.#known.add(names) + 1; depth < names.length; depth++)
      yield* this.#current(names.slice(0, depth));
    yield* change(place, value);
    if (before !== undefined && !before.isEmpty) yield* this.#compare(place, names, before, false);
  }

  /** Events were lost: everything may have changed. */
  async *#lookAtAll(): AsyncGenerator<RawEntry, void, undefined> {
    yield* this.#current([]);
    yield* this.#compare(this.#top, [], this.#known, true);
  }

  /** Tells what came and went below a node; with `all` also what stayed. */
  async *#compare(
    place: Place,
    names: readonly string[],
    before: KnownTree,
    all: boolean,
  ): AsyncGenerator<RawEntry, void, undefined> {
    const now = new KnownTree();
    if ((await unlessRefused(this.#addTo(now, place))) === REFUSED) return;
    const gone: string[][] = [];
    for (const path of before.paths()) {
      await this.#call.turn(A_CHANGE);
      if (now.at(path) === undefined) gone.push(path);
    }
    for (const path of gone) {
      this.#known.remove([...names, ...path]);
      yield* this.#tell([...names, ...path], undefined);
    }
    for (const path of now.paths()) {
      await this.#call.turn(A_CHANGE);
      const isNew = before.at(path) === undefined;
      if (isNew) this.#known.add([...names, ...path]);
      if (isNew || all) yield* this.#current([...names, ...path]);
    }
  }

  *#gone(names: readonly string[], known: KnownTree | undefined): Generator<RawEntry, void, undefined> {
    for (const path of known?.paths() ?? []) yield* this.#tell([...names, ...path], undefined);
  }

  /** Tells a node's present value. */
  async *#current(names: readonly string[]): AsyncGenerator<RawEntry, void, undefined> {
    const place = this.#place(names);
    const value = place && (await this.#read(place));
    if (place !== undefined && value !== REFUSED) yield* change(place, value);
  }

  *#tell(names: readonly string[], value: Uint8Array | undefined): Generator<RawEntry, void, undefined> {
    const place = this.#place(names);
    if (place !== undefined) yield* change(place, value);
  }

  #read({ path }: Place): Promise<Uint8Array | undefined | typeof REFUSED> {
    return unlessRefused(this.#surroundings.access.read(path, this.#call));
  }
}

/** The own directory has no key of its own to tell it by. */
function* change({ key }: Place, value: Uint8Array | undefined): Generator<RawEntry, void, undefined> {
  if (key !== "") yield { key, value };
}
