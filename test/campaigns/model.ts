import {
  fileOf,
  hostView,
  type Pair,
  RECORD_BYTES,
  recordsOf,
  slotsOf,
  type View,
  viewsOf,
} from "./readers.js";

/** What our API is asked to do: a later duplicate is the one that counts. */
export type ApiAction =
  | { readonly kind: "write"; readonly key: string; readonly value: string }
  | { readonly kind: "insert"; readonly key: string; readonly value: string }
  | { readonly kind: "delete"; readonly key: string }
  | { readonly kind: "scrub" };

/** What a daemon is asked to do by the host, or its start: the first duplicate is the one that counts. */
export type HostAction =
  | { readonly kind: "set"; readonly key: string; readonly value: string }
  | { readonly kind: "unset"; readonly key: string }
  | { readonly kind: "start" };

/** What a program is asked to do with a pool. */
export type Action = ApiAction | HostAction;

/** The records that a pool ought to hold, in order. */
export type Records = readonly Pair[];

const without = (records: Records, gone: (pair: Pair, at: number) => boolean): Records =>
  records.filter((pair, at) => !gone(pair, at));

/** Returns what an action may rightly make of the records: one way, except for a key that stands there twice already. */
export function outcomesOf(records: Records, action: Action): Records[] {
  if (action.kind === "scrub" || action.kind === "start") return [records];
  const { key } = action;
  const places = records.flatMap((pair, at) => (pair.key === key ? [at] : []));
  const [first, last] = [places[0], places.at(-1)];
  if (first === undefined || last === undefined)
    return [action.kind === "delete" || action.kind === "unset" ? records : [...records, pairOf(action)]];
  const kept = (keep: number, value: string): Records =>
    without(
      records.map((pair, at) => (at === keep ? { key, value } : pair)),
      (pair, at) => pair.key === key && at !== keep,
    );
  const copies = (pair: Pair, at: number): boolean =>
    pair.key === key && at !== first && pair.value === records[first]?.value;
  switch (action.kind) {
    case "insert":
      return [records];
    case "write":
      return [...new Set([last, first])].map((keep) => kept(keep, action.value));
    case "delete":
      return [without(records, (pair) => pair.key === key)];
    case "set": {
      const changed = (pair: Pair, at: number): Pair => (at === first ? pairOf(action) : pair);
      return first === last
        ? [kept(first, action.value)]
        : [records.map(changed), without(records, copies).map(changed), kept(first, action.value)];
    }
    case "unset": {
      const all = without(records, (pair) => pair.key === key);
      if (first === last) return [all];
      return [
        without(records, (_, at) => at === first),
        without(records, (pair, at) => at === first || copies(pair, at)),
        all,
      ];
    }
  }
}

/** What a key with several records may pass through while a program writes or deletes it: earlier ones go first. */
export function halfwaysOf(records: Records, action: Action): Records[] {
  if (action.kind !== "write" && action.kind !== "delete") return [];
  const places = records.flatMap((pair, at) => (pair.key === action.key ? [at] : []));
  const last = places.at(-1);
  const started = records.map((pair, at) => (action.kind === "write" && at === last ? pairOf(action) : pair));
  return places
    .slice(0, -1)
    .map((_, gone) =>
      without(started, (pair, at) => places.slice(0, gone).includes(at) && pair.key === action.key),
    );
}

const pairOf = ({ key, value }: Pair): Pair => ({ key, value });

/** Returns what all of some states may become. */
export function allOutcomes(states: readonly Records[], action: Action): Records[] {
  return states.flatMap((records) => [...halfwaysOf(records, action), ...outcomesOf(records, action)]);
}

/** What may be seen of a key. */
interface Allowed {
  /** Values that it may have anywhere in the file. */
  readonly values: Set<string>;
  /** Values that the last of its records may have. */
  readonly lasts: Set<string>;
  /** It may be missing. */
  absent: boolean;
}

/** What may be seen while one of several states is in the making. */
export class Allowance {
  readonly #keys = new Map<string, Allowed>();

  /** @param states the states that are or may be: before and after what is in flight */
  constructor(states: readonly Records[]) {
    for (const records of states) {
      for (const { key, value } of records) {
        const allowed = this.#keys.get(key) ?? { values: new Set(), lasts: new Set(), absent: false };
        allowed.values.add(value);
        this.#keys.set(key, allowed);
      }
    }
    for (const records of states) {
      const lasts = new Map(records.map(({ key, value }) => [key, value]));
      for (const [key, allowed] of this.#keys) {
        const last = lasts.get(key);
        if (last === undefined) allowed.absent = true;
        else allowed.lasts.add(last);
      }
    }
  }

  /** Returns what is wrong with a file's records as they stand: garbled, or come back. */
  faultOfRecords(file: Buffer): string | undefined {
    for (const { key, value } of recordsOf(file)) {
      const allowed = this.#keys.get(key);
      if (allowed === undefined) return `garbled or resurrected: ${shown(key)} = ${shown(value)}`;
      if (!allowed.values.has(value))
        return `garbled: ${shown(key)} = ${shown(value)}, not ${[...allowed.values].map(shown).join(" or ")}`;
    }
    return undefined;
  }

  /** Returns what is wrong with what a reader sees. */
  faultOfView({ reader, pairs, refusal }: View): string | undefined {
    if (refusal !== undefined) return `${reader} refuses: ${refusal}`;
    for (const [key, { values, lasts, absent }] of this.#keys) {
      const value = pairs.get(key);
      if (value === undefined) {
        if (!absent) return `lost for ${reader}: ${shown(key)}`;
        continue;
      }
      // Which of a key's records the vendor's daemon meets first is not ours to say.
      if (!(reader === "vendor's daemon" ? values : lasts).has(value))
        return `wrong for ${reader}: ${shown(key)} = ${shown(value)}, not ${[...lasts].map(shown).join(" or ")}`;
    }
    for (const [key, value] of pairs)
      if (!this.#keys.has(key))
        return `garbled or resurrected for ${reader}: ${shown(key)} = ${shown(value)}`;
    return undefined;
  }
}

/**
 * Returns the first fault of a file that nobody has repaired yet, as the given readers see it.
 * @param tornBefore another program has left a torn tail, which stays until our first change
 */
export function rawFault(
  file: Buffer,
  states: readonly Records[],
  views: readonly View[],
  tornBefore = false,
): string | undefined {
  const allowance = new Allowance(states);
  const fault = allowance.faultOfRecords(file);
  if (fault !== undefined) return fault;
  for (const view of views) {
    if (tornBefore && view.reader === "azure-init") continue;
    const seen = allowance.faultOfView(view);
    if (seen !== undefined) return seen;
  }
  if (!tornBefore && file.length % RECORD_BYTES !== 0)
    return `torn: ${file.length} bytes are no whole records`;
  return undefined;
}

/**
 * Returns the first fault of a file that the vendor's daemon has changed as the next one after a kill or a power cut. What it
 * changed is the first match; copies that it does not know of may stay, so only what it did not touch is judged strictly.
 * @param states what might be before
 */
export function foreignFault(
  file: Buffer,
  states: readonly Records[],
  action: HostAction,
  repaired: boolean,
): string | undefined {
  const allowance = new Allowance([...states, ...allOutcomes(states, action)]);
  const views = viewsOf(file, "vendor's");
  const fault =
    allowance.faultOfRecords(file) ?? views.map((view) => allowance.faultOfView(view)).find(Boolean);
  if (fault !== undefined) return fault;
  if (action.kind === "set" && !views.some(({ pairs }) => pairs.get(action.key) === action.value))
    return `lost: what the vendor's daemon set ${shown(action.key)} to`;
  return repaired && file.length % RECORD_BYTES !== 0 ? "a torn tail stayed" : undefined;
}

/**
 * Compares a file that somebody has had under the exclusive lock with what it may be: each pair once, in order, no slot
 * that is not in use, no torn tail. Copies of a record that were there before may stay or go; of a key that another program
 * left there several times, and that was being changed, some may have gone while the last one still decides.
 * @returns the state that it is, or what is wrong
 */
export function settle(
  file: Buffer,
  states: readonly Records[],
): { readonly records: Records; readonly fault?: undefined } | { readonly fault: string } {
  const slots = slotsOf(file);
  if (file.length % RECORD_BYTES !== 0)
    return { fault: `a torn tail stayed: ${file.length} bytes are no whole records` };
  const same = (records: Records): boolean =>
    records.length === slots.length &&
    records.every(({ key, value }, at) => slots[at]?.key === key && slots[at]?.value === value);
  for (const state of states)
    if (same(state) || same(onceEach(state, "first")) || same(onceEach(state, "last")))
      return { records: slots };
  if (states.some((state) => isPartWay(slots, state, states))) return { records: slots };
  if (slots.some(({ key }) => key === "")) return { fault: "a slot that is not in use stayed" };
  return { fault: differenceOf(slots, states) };
}

/** Reports whether records are a state but for keys that stand there several times in one of the states. */
function isPartWay(records: Records, state: Records, states: readonly Records[]): boolean {
  const several = new Set<string>();
  for (const each of states) {
    const once = new Set<string>();
    for (const { key } of each)
      if (!once.has(key)) once.add(key);
      else several.add(key);
  }
  if (several.size === 0) return false;
  const others = (list: Records): Records => list.filter(({ key }) => !several.has(key));
  const [found, expected] = [others(records), others(state)];
  if (found.length !== expected.length) return false;
  if (found.some(({ key, value }, at) => expected[at]?.key !== key || expected[at]?.value !== value))
    return false;
  const allowance = new Allowance(states);
  if (allowance.faultOfRecords(fileOf(records)) ?? allowance.faultOfView(hostView(fileOf(records))))
    return false;
  const times = (list: Records, name: string): number => list.filter(({ key }) => key === name).length;
  return [...several].every(
    (key) => times(records, key) <= Math.max(...states.map((each) => times(each, key))),
  );
}

/** Returns the records with exact copies left out. */
function onceEach(records: Records, keep: "first" | "last"): Records {
  const list = keep === "first" ? records : records.toReversed();
  const seen = new Set<string>();
  const once = list.filter(({ key, value }) => {
    const name = `${key}\0${value}`;
    return !seen.has(name) && seen.add(name);
  });
  return keep === "first" ? once : once.toReversed();
}

/** Says in words how records differ from the nearest of the states. */
function differenceOf(records: Records, states: readonly Records[]): string {
  const faults = states.map((state) => {
    const [expected, found] = [counted(state), counted(records)];
    for (const [name, times] of expected) {
      const now = found.get(name) ?? 0;
      const [key = "", value = ""] = name.split("\0");
      if (now < times) {
        const other = records.find((pair) => pair.key === key);
        return other === undefined
          ? `lost: ${shown(key)}`
          : `wrong: ${shown(key)} = ${shown(other.value)}, not ${shown(value)}`;
      }
      if (now > times) return `doubled: ${shown(key)} stands there ${now} times`;
    }
    for (const name of found.keys())
      if (!expected.has(name))
        return `garbled, doubled or resurrected: ${name.split("\0").map(shown).join(" = ")}`;
    return "out of order";
  });
  return [...new Set(faults)].join("; or ");
}

function counted(records: Records): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { key, value } of records) {
    const name = `${key}\0${value}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** Returns a text short enough for a message. */
export function shown(text: string): string {
  return text.length <= 24 ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, 20))}…(${text.length})`;
}

/** Faults by kind, with the first ones' words. */
export class Faults {
  readonly #counts = new Map<string, number>();
  readonly #first: string[] = [];

  /** Whether there is none. */
  get none(): boolean {
    return this.#counts.size === 0;
  }

  /** How many there are. */
  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The first ones, in words. */
  get first(): readonly string[] {
    return this.#first;
  }

  /** Takes a fault in. */
  add(kind: string, fault: string, where: string): void {
    const name = `${kind}: ${/^[^:;]*/.exec(fault)?.[0]}`;
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    if (count <= 2) this.#first.push(`${kind}, ${where}: ${fault}`);
  }

  /** Says how many of each kind. */
  toString(): string {
    return [...this.#counts].map(([name, count]) => `${count} × ${name}`).join(", ") || "none";
  }
}
