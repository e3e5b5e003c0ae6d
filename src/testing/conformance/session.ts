import { Call, type CallOptions } from "../../base/flow/call.js";
import { PvInterface } from "../../bus/interface/interface.js";
import type { Verbs } from "../../contract/capabilities.js";
import type { Provider } from "../../contract/provider.js";
import type { ProviderStore } from "../../contract/store.js";

/** The verbs in the order in which the suite names them. */
export const VERBS: readonly (keyof Verbs)[] = ["read", "write", "delete", "list", "watch"];

/** One session with the subject: the store itself and the interface in front of it, as programs see it. */
export interface Session {
  readonly store: ProviderStore;
  readonly face: PvInterface;
}

export function sessionOf(store: ProviderStore, named?: Pick<Provider, "id" | "type">): Session {
  const { id, type } = named ?? { id: "subject", type: "Subject" };
  const { capabilities } = store;
  const detected = { unit: 0, name: "pvbus0", id, type, role: "guest", base: null, emulated: false } as const;
  const face = new PvInterface({
    detected: { ...detected, evidence: [], details: {} },
    primary: true,
    provider: { id, type, capabilities: () => capabilities, open: async () => store },
    capabilities,
  });
  return { store, face };
}

const HOOKS: Readonly<Record<keyof Verbs, (store: ProviderStore, key: string, call: Call) => unknown>> = {
  read: (store, key, call) => store.read?.(key, call),
  write: (store, key, call) => store.write?.(key, new TextEncoder().encode("hook"), call),
  delete: (store, key, call) => store.delete?.(key, call),
  list: (store, _, call) => drained(store.list?.("", call)),
  watch: (store, _, call) => drained(store.watch?.("", call, { ready: () => undefined })),
};

/** Runs a verb of the store itself, past the interface; lists and watches are run to their end. */
export async function hook(
  verb: keyof Verbs,
  store: ProviderStore,
  key: string,
  options: CallOptions,
): Promise<unknown> {
  return HOOKS[verb](store, key, new Call(options));
}

const FACES: Readonly<Record<keyof Verbs, (face: PvInterface, key: string) => Promise<unknown>>> = {
  read: (face, key) => face.read(key),
  write: (face, key) => face.write(key, "face"),
  delete: (face, key) => face.delete(key),
  list: (face) => drained(face.list()),
  watch: (face) => face.watch().next(),
};

/** Runs a verb through the interface; of a watch only the first change. */
export async function faceVerb(verb: keyof Verbs, face: PvInterface, key: string): Promise<unknown> {
  return FACES[verb](face, key);
}

export async function drained<T>(entries: AsyncIterable<T> | undefined): Promise<T[]> {
  const all: T[] = [];
  for await (const entry of entries ?? []) all.push(entry);
  return all;
}
