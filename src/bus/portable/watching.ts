import type { PvbusErrorCode } from "../../base/errors.js";
import { Call } from "../../base/flow/call.js";
import type { WatchOptions } from "../../contract/key-values.js";
import type { PortableChange } from "../../contract/portable.js";
import type { Followed, FollowedPrefix, Following } from "../interface/following.js";
import { decodeHead, isMarked, isPortableName } from "./layout.js";
import { asValue, listHostSide } from "./listing.js";
import { hostPlaces, type PortablePlace } from "./place.js";
import {
  firstPlace,
  isNotAsked,
  isOneOf,
  type PortableTarget,
  type PortableTargets,
  unsupported,
} from "./targets.js";

/** A set that is torn for now, or was taken away meanwhile. */
const TORN: readonly PvbusErrorCode[] = ["ERR_CONFLICT"];

/** What is followed: one name, or a whole namespace. */
export interface Wanted {
  /** The interfaces. */
  readonly targets: PortableTargets;
  /** The namespace. */
  readonly namespace: string;
  /** The only name that is meant. */
  readonly name?: string | undefined;
}

/** Waits as {@link PortableView.wait} does. @param look asks for the value */
export async function waitOnHostSide<T>(
  { targets, namespace, name }: Wanted,
  look: (call: Call) => Promise<T | undefined>,
  call: Call,
): Promise<T> {
  const { waitUntilThere } = await import("../interface/following.js");
  return waitUntilThere(
    followHostSide(targets, namespace, name),
    look,
    call,
    `the value "${name}" of ${namespace}`,
  );
}

/** Follows as {@link PortableView.watch} does. */
export async function* watchHostSide(
  { targets, namespace, name }: Wanted,
  { ready, ...options }: WatchOptions,
): AsyncGenerator<PortableChange, void, undefined> {
  const call = new Call(options, Number.POSITIVE_INFINITY);
  const { Following } = await import("../interface/following.js");
  const following = new Following(followHostSide(targets, namespace, name), { isLasting: false }, call);
  const watch = new HostWatch(targets, namespace, following, call);
  let isFirst = true;
  try {
    for (;;) {
      const changed = await following.next();
      if (changed === undefined) return;
      const changes =
        changed === "all" && name === undefined
          ? watch.allChanges()
          : watch.changes(changed === "all" ? [name ?? ""] : changed);
      for await (const change of changes) if (!isFirst) yield change;
      if (isFirst) ready?.();
      isFirst = false;
    }
  } catch (error) {
    if (!call.isEnd(error)) throw error;
  } finally {
    following.stop();
  }
}

/** Compares what the host gave with what is known of it, by what each name's own key holds. */
class HostWatch {
  readonly #targets: PortableTargets;
  readonly #namespace: string;
  readonly #following: Following;
  readonly #call: Call;
  readonly #known = new Map<string, string>();

  constructor(targets: PortableTargets, namespace: string, following: Following, call: Call) {
    this.#targets = targets;
    this.#namespace = namespace;
    this.#following = following;
    this.#call = call;
  }

  /** Looks at some names. */
  async *changes(names: Iterable<string>): AsyncGenerator<PortableChange, void, undefined> {
    for (const name of names) {
      const look = this.#look();
      const found = await this.#targets
        .first(look, (target) =>
          firstPlace(hostPlaces(target, this.#namespace, name, look), async (place) => {
            const stored = await place.read(place.key);
            return stored && { place, stored };
          }),
        )
        .catch(unlessNotAsked);
      if (found === undefined) yield* this.#gone(name);
      else if (this.#known.get(name) !== printOf(found.stored)) yield* this.#whole(name, found.place);
    }
  }

  /** Looks at the whole namespace. */
  async *allChanges(): AsyncGenerator<PortableChange, void, undefined> {
    const gone = new Set(this.#known.keys());
    try {
      const { signal } = this.#call;
      for await (const { name, stored, at } of listHostSide(this.#targets, this.#namespace, { signal })) {
        gone.delete(name);
        if (stored === undefined || this.#known.get(name) !== printOf(stored))
          yield* this.#whole(name, at(this.#look()));
      }
    } catch (error) {
      unlessNotAsked(error);
    }
    for (const name of gone) yield* this.#gone(name);
  }

  /** Reads a value that has changed, remembers what its own key holds, and tells it. */
  async *#whole(name: string, place: PortablePlace): AsyncGenerator<PortableChange, void, undefined> {
    let found: Awaited<ReturnType<PortablePlace["readStored"]>>;
    try {
      found = await place.readStored();
    } catch (error) {
      if (!isOneOf(error, TORN)) throw error;
      this.#following.again(name);
      return;
    }
    if (found === undefined) {
      yield* this.#gone(name);
      return;
    }
    const print = printOf(found.stored);
    if (this.#known.get(name) === print) return;
    this.#known.set(name, print);
    yield { name, ...asValue(found.whole) };
  }

  *#gone(name: string): Generator<PortableChange, void, undefined> {
    if (this.#known.delete(name)) yield { name, value: undefined };
  }

  /** A watch may go on for ever, one look may not. */
  #look(): Call {
    return new Call({ signal: this.#call.signal });
  }
}

/** Returns what stands for a value: a set's slot says nothing of what is in it. */
function printOf(stored: Uint8Array): string {
  const head = isMarked(stored) ? decodeHead(stored) : undefined;
  return head === undefined ? `=${Buffer.from(stored).toString("latin1")}` : `#${head.bytes} ${head.sum}`;
}

function unlessNotAsked(error: unknown): undefined {
  if (!isNotAsked(error)) throw error;
  return undefined;
}

/**
 * Returns what is followed to learn of changes of what the host gave.
 * @param name the only one that is meant; undefined: the whole namespace
 */
function followHostSide(
  targets: PortableTargets,
  namespace: string,
  name: string | undefined,
): readonly Followed[] {
  return targets.faces.map((face) => ({
    face,
    prefixes: async (call) => {
      const target = await targets.open(face, call);
      const found =
        name === undefined ? wholeNamespace(targets, target, namespace) : oneName(target, namespace, name);
      const store = await face.store({ signal: call.signal, timeoutMs: call.remainingMs });
      return found.filter(({ prefix }) => store.isFixed?.(prefix) !== true);
    },
  }));
}

function oneName({ layout }: PortableTarget, namespace: string, name: string): FollowedPrefix[] {
  return layout.hostKeys(namespace, name).map((key) => ({
    prefix: key,
    nameOf: (changed) => (changed === key ? name : undefined),
  }));
}

function wholeNamespace(
  targets: PortableTargets,
  { face, layout }: PortableTarget,
  namespace: string,
): readonly FollowedPrefix[] {
  const places = layout.places?.(namespace);
  if (places !== undefined && face.capabilities.list)
    return places.host.map(({ prefix, nameOf }) => ({
      prefix,
      nameOf: (key) => {
        const changed = nameOf(key);
        return changed !== undefined && isPortableName(changed) ? changed : undefined;
      },
    }));
  if (!targets.isReal(face)) return [];
  throw unsupported(face, "cannot list what is there; name the value to follow");
}
