import type { ProviderStore } from "../../contract/store.js";
import type { ConformanceSubject, ConformanceTrait } from "./subject.js";

/** Name of a space for portable keys that nobody else uses. */
export const NAMESPACE = "org.example.conformance";

type Look = (store: ProviderStore, subject: ConformanceSubject) => boolean;

/** How each trait is found, and what is missing without it. */
export const TRAITS: Readonly<Record<ConformanceTrait, readonly [has: Look, missing: string]>> = {
  read: [({ capabilities }) => capabilities.read, "the store cannot read"],
  write: [({ capabilities }) => capabilities.write, "the store cannot write"],
  delete: [({ capabilities }) => capabilities.delete, "the store cannot delete"],
  list: [({ capabilities }) => capabilities.list, "the store cannot list"],
  watch: [({ capabilities }) => capabilities.watch, "the store cannot watch"],
  binary: [keepsBytes, "the store holds text alone"],
  text: [(store, subject) => !keepsBytes(store, subject), "the store holds any bytes"],
  valueLimit: [
    ({ capabilities: { limits } }) => (limits?.maxValueUnits ?? limits?.maxValueBytes) !== undefined,
    "the store declares no limit of values",
  ],
  keyLimit: [
    ({ capabilities: { limits } }) => (limits?.maxKeyUnits ?? limits?.maxKeyBytes) !== undefined,
    "the store declares no limit of keys",
  ],
  pools: [({ capabilities }) => capabilities.pools !== undefined, "the store declares no pools"],
  facts: [({ facts }) => facts !== undefined, "the store tells no facts"],
  guestKeys: [
    ({ portable }) => portable?.guestKey(NAMESPACE, "value") !== undefined,
    "the store has no place for what the guest publishes",
  ],
  places: [({ portable }) => portable?.places !== undefined, "the store has no places of portable keys"],
  hostChanges: [(_, { host }) => host !== undefined, "the subject has no host that changes keys"],
  erase: [({ erase }) => erase !== undefined, "the store erases by deleting"],
  take: [({ take }) => take !== undefined, "the store does not read and erase in one step"],
  insert: [({ insert }) => insert !== undefined, "the store does not insert in one step"],
  hostKeys: [({ portable }) => portable !== undefined, "the store has no place for portable keys"],
  provider: [(_, { provider }) => provider !== undefined, "the subject names no provider"],
  sessions: [(_, { exclusive }) => exclusive !== true, "the transport takes one session at a time"],
  prefix: [(_, { keys }) => keys.prefix !== undefined, "the subject has no keys.prefix"],
  given: [(_, { keys }) => keys.given !== undefined, "the subject has no keys.given"],
  readOnly: [(_, { keys }) => (keys.readOnly ?? []).length > 0, "the subject has no keys.readOnly"],
  writableKeys: [(_, { keys }) => keys.writable !== undefined, "the subject has no keys.writable"],
};

/** Reports whether values may be any bytes; where that is the host's to decide, the subject knows its host. */
function keepsBytes({ capabilities: { binary } }: ProviderStore, subject: ConformanceSubject): boolean {
  return binary === "host" ? subject.binary === true : binary === true;
}

export function traitsOf(store: ProviderStore, subject: ConformanceSubject): Set<ConformanceTrait> {
  const names = Object.keys(TRAITS) as ConformanceTrait[];
  return new Set(names.filter((name) => TRAITS[name][0](store, subject)));
}
