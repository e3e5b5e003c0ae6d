import { Call, type CallOptions } from "../../base/flow/call.js";
import { PvInterface } from "../../bus/interface/interface.js";
import type { Verbs } from "../../contract/capabilities.js";
import type { Provider } from "../../contract/provider.js";
import type { ProviderStore } from "../../contract/store.js";

/** The verbs in the order in which the suite names them. */
export const VERBS: readonly (keyof Verbs)[] = ["read", "write", "delete", "list", "watch"];

/** One session with the subject: the store itself and the interface in front of it, as programs see it. */
export interface Session {
  /** The provider's store. */
  readonly store: ProviderStore;
  /** The same behind the interface. */
  readonly face: PvInterface;
}

/** Puts an interface in front of a store. */
export function sessionOf(store: ProviderStore, provider?: Provider): Session {
  const stand: Provider = {
    id: provider?.id ?? "subject",
    type: provider?.type ?? "Subject",
    capabilities: () => store.capabilities,
    open: async () => store,
  };
  const detected = {
    unit: 0,
    name: "pvbus0",
    id: stand.id,
    type: stand.type,
    role: "guest",
    base: null,
    emulated: false,
    evidence: [],
    details: {},
  } as const;
  const face = new PvInterface({
    detected,
    primary: true,
    provider: stand,
    capabilities: store.capabilities,
  });
  return { store, face };
}

/** Runs a verb of the store itself, past the interface; lists and watches are run to their end. */
export async function hook(
  verb: keyof Verbs,
  store: ProviderStore,
  key: string,
  options: CallOptions,
): Promise<unknown> {
  const call = new Call(options);
  switch (verb) {
    case "read":
      return store.read?.(key, call);
    case "write":
      return store.write?.(key, new TextEncoder().encode("hook"), call);
    case "delete":
      return store.delete?.(key, call);
    case "list":
      return drained(store.list?.("", call));
    default:
      return drained(store.watch?.("", call, { ready: () => undefined }));
  }
}

/** Runs a verb through the interface; of a watch only the first change. */
export async function faceVerb(verb: keyof Verbs, face: PvInterface, key: string): Promise<unknown> {
  switch (verb) {
    case "read":
      return face.read(key);
    case "write":
      return face.write(key, "face");
    case "delete":
      return face.delete(key);
    case "list":
      return drained(face.list());
    default:
      return face.watch().next();
  }
}

/** Returns all that an iterable yields. */
export async function drained<T>(entries: AsyncIterable<T> | undefined): Promise<T[]> {
  const all: T[] = [];
  for await (const entry of entries ?? []) all.push(entry);
  return all;
}
