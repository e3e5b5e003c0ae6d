import { isUtf8 } from "node:buffer";
import { Call, type CallOptions } from "../../base/flow/call.js";
import type { PortableDirection, PortableEntry, PortableListOptions } from "../../contract/portable.js";
import type { PortablePrefix } from "../../contract/store.js";
import { textOf } from "../interface/arguments.js";
import { isMarked, isPortableName } from "./layout.js";
import { PortablePlace } from "./place.js";
import { isNotAsked, isOneOf, type PortableTarget, type PortableTargets, unsupported } from "./targets.js";

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

/** Lists a namespace as {@link PortableView.list} does. */
export async function* listNamespace(
  targets: PortableTargets,
  namespace: string,
  { only, ...options }: PortableListOptions,
): AsyncGenerator<PortableEntry, void, undefined> {
  let failure: unknown;
  for (const side of only === "host" ? [listHostSide] : [listHostSide, listGuestSide]) {
    try {
      for await (const listed of side(targets, namespace, options)) {
        const whole = await joined(listed, new Call(options)).catch((error: unknown) => {
          if (!isOneOf(error, ["ERR_CONFLICT", "ERR_CORRUPT"])) throw error;
          failure ??= error;
          return undefined;
        });
        const { name, direction } = listed;
        if (whole !== undefined) yield { name, direction, ...asValue(whole) };
      }
    } catch (error) {
      if (!isNotAsked(error)) throw error;
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
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
        if (!isNotAsked(error)) throw error;
        notAsked ??= error;
      }
    }
  }
  if (notAsked !== undefined) throw notAsked;
}

/** Lists what the guest published where the host puts nothing: names that share their place were listed already. */
async function* listGuestSide(
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
      if (!isNotAsked(error) && !isOneOf(error, ["ERR_NOT_SUPPORTED"])) throw error;
      continue;
    }
    const { layout } = target;
    const places = layout.places?.(namespace);
    if (places?.guest === undefined || places.host.some(({ prefix }) => prefix === places.guest?.prefix))
      continue;
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

async function joined({ stored, at }: ListedPlace, call: Call): Promise<Uint8Array | undefined> {
  return stored === undefined || isMarked(stored) ? at(call).readWhole() : stored;
}

/** Returns a value as callers see it: as text, and as bytes too where they are no text. */
export function asValue(bytes: Uint8Array): { readonly value: string; readonly bytes?: Uint8Array } {
  const value = textOf(bytes);
  return isUtf8(bytes) ? { value } : { value, bytes };
}
