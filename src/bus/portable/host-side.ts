import { PvbusError, type PvbusErrorCode } from "../../base/errors.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import type { PortableDirection } from "../../contract/portable.js";
import type { PortablePrefix } from "../../contract/store.js";
import type { Followed, FollowedPrefix } from "../interface/following.js";
import { isPortableName } from "./layout.js";
import { PortablePlace } from "./place.js";
import { isOneOf, type PortableTarget, type PortableTargets, unsupported } from "./targets.js";

/** A place that cannot hold such a key holds no such value. */
const NOT_THERE: readonly PvbusErrorCode[] = ["ERR_KEY_INVALID", "ERR_KEY_TOO_LONG"];
/** A place that cannot be asked; the next one may still answer. */
const NOT_ASKED: readonly PvbusErrorCode[] = ["ERR_UNAVAILABLE", "ERR_PERMISSION"];

const encoder = new TextEncoder();

/** A listed value: what its name's own key holds, and where the rest lies. */
export interface ListedPlace {
  /** Its portable name. */
  readonly name: string;
  /** Who has put it there. */
  readonly direction: PortableDirection;
  /** What the name's own key holds: the value itself, or a head record. Undefined where the store lists names only. */
  readonly stored: Uint8Array | undefined;
  /** Reads the rest within a call. */
  at(call: Call): PortablePlace;
}

/** Returns the places where the host may have put a value, the strongest first. */
export function hostPlaces(
  { face, layout }: PortableTarget,
  namespace: string,
  name: string,
  call: Call,
): PortablePlace[] {
  return [...layout.hostKeys(namespace, name).keys()].map(
    (at) => new PortablePlace(face, call, name, (each) => layout.hostKeys(namespace, each)[at] ?? ""),
  );
}

/** Returns the place of what the guest publishes. */
export function guestPlace(
  { face, layout }: PortableTarget,
  namespace: string,
  name: string,
  call: Call,
): PortablePlace {
  return new PortablePlace(face, call, name, (each) => layout.guestKey(namespace, each) ?? "");
}

/**
 * Asks one place after the other and returns the first answer that is not undefined.
 * @throws PvbusError when there is none and a place could not be asked, and what ends the asking
 */
export async function firstPlace<T>(
  places: readonly PortablePlace[],
  ask: (place: PortablePlace) => Promise<T | undefined>,
): Promise<T | undefined> {
  let notAsked: unknown;
  for (const place of places) {
    try {
      const found = await ask(place);
      if (found !== undefined) return found;
    } catch (error) {
      if (isOneOf(error, NOT_ASKED)) notAsked ??= error;
      else if (!isOneOf(error, NOT_THERE)) throw error;
    }
  }
  if (notAsked !== undefined) throw notAsked;
  return undefined;
}

/**
 * Lists what the host gave, each name once, from the strongest place that has it. Places that cannot be asked are an error when
 * the others are through.
 * @throws PvbusError `ERR_NOT_SUPPORTED` where a store cannot list
 */
export async function* listHostSide(
  targets: PortableTargets,
  namespace: string,
  options: CallOptions,
): AsyncGenerator<ListedPlace, void, undefined> {
  const seen = new Set<string>();
  let notAsked: unknown;
  for (const target of await targets.openAll(new Call(options))) {
    const { face, layout } = target;
    const places = layout.places?.(namespace);
    if (places === undefined || !face.capabilities.list) {
      if (!targets.isReal(face)) continue;
      throw unsupported(face, "cannot list what is there; name the values");
    }
    for (const [at, prefix] of places.host.entries()) {
      const direction = prefix.prefix === places.guest?.prefix ? "both" : "host";
      const keyOf = (each: string): string => layout.hostKeys(namespace, each)[at] ?? "";
      try {
        yield* listPrefix(target, prefix, { direction, keyOf, seen }, options);
      } catch (error) {
        if (!isOneOf(error, NOT_ASKED)) throw error;
        notAsked ??= error;
      }
    }
  }
  if (notAsked !== undefined) throw notAsked;
}

/** Lists what the guest published where the host puts nothing: names that share their place were listed already. */
export async function* listGuestSide(
  targets: PortableTargets,
  namespace: string,
  options: CallOptions,
): AsyncGenerator<ListedPlace, void, undefined> {
  const seen = new Set<string>();
  for (const face of targets.publishers(namespace)) {
    let target: PortableTarget;
    try {
      target = await targets.openForGuest(face, namespace, new Call(options));
    } catch (error) {
      // What the host gave was listed: where nothing can be published, nothing was.
      if (!isOneOf(error, [...NOT_ASKED, "ERR_NOT_SUPPORTED"])) throw error;
      continue;
    }
    const { layout } = target;
    const places = layout.places?.(namespace);
    if (places?.guest === undefined || places.host.some(({ prefix }) => prefix === places.guest?.prefix)) continue;
    const keyOf = (each: string): string => layout.guestKey(namespace, each) ?? "";
    yield* listPrefix(target, places.guest, { direction: "guest", keyOf, seen }, options);
  }
}

/** What a listing of one prefix needs. */
interface ListedPrefix {
  readonly direction: PortableDirection;
  readonly keyOf: (name: string) => string;
  /** Names that were listed. */
  readonly seen: Set<string>;
}

async function* listPrefix(
  { face }: PortableTarget,
  { prefix, nameOf }: PortablePrefix,
  { direction, keyOf, seen }: ListedPrefix,
  options: CallOptions,
): AsyncGenerator<ListedPlace, void, undefined> {
  for await (const { key, value, bytes } of face.list(prefix, options)) {
    const name = nameOf(key);
    // Chunks, and what other programs have put there.
    if (name === undefined || !isPortableName(name) || seen.has(name)) continue;
    const stored = bytes ?? (value === undefined ? undefined : encoder.encode(value));
    if (stored?.length === 0 && !face.capabilities.delete) continue;
    seen.add(name);
    yield { name, direction, stored, at: (call) => new PortablePlace(face, call, name, keyOf) };
  }
}

/**
 * Returns what is followed to learn of changes of what the host gave.
 * @param name the only one that is meant; undefined: the whole namespace
 */
export function followHostSide(
  targets: PortableTargets,
  namespace: string,
  name: string | undefined,
): readonly Followed[] {
  return targets.faces.map((face) => ({
    face,
    prefixes: async (call) => {
      const target = await targets.open(face, call);
      const found = name === undefined ? wholeNamespace(targets, target, namespace) : oneName(target, namespace, name);
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

/** Reports whether an error only says that a place cannot be asked. */
export function isNotAsked(error: unknown): error is PvbusError {
  return isOneOf(error, NOT_ASKED);
}
