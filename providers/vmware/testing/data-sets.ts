/** What the guest may do with a DataSet. */
export type DataSetAccess = "NONE" | "READ_ONLY" | "READ_WRITE";

interface Arguments {
  readonly dataset?: string;
  readonly keys?: readonly string[];
  readonly entries?: readonly { readonly key: string; readonly value: string }[];
  readonly append?: boolean;
  readonly context?: string;
}

interface DataSet {
  readonly access: DataSetAccess;
  readonly pairs: Map<string, string>;
}

const MAX_KEY = 4096;
const MAX_VALUE = 1024 * 1024;

function isArguments(value: unknown): value is Arguments {
  if (typeof value !== "object" || value === null) return false;
  const { dataset, keys, entries, append, context } = value as Record<keyof Arguments, unknown>;
  const isText = (each: unknown): boolean => typeof each === "string";
  const isEntry = (each: unknown): boolean => {
    const { key, value: text } = Object(each) as Record<"key" | "value", unknown>;
    return isText(key) && isText(text);
  };
  return (
    [dataset, context].every((each) => each === undefined || isText(each)) &&
    (keys === undefined || (Array.isArray(keys) && keys.every(isText))) &&
    (entries === undefined || (Array.isArray(entries) && entries.every(isEntry))) &&
    (append === undefined || typeof append === "boolean")
  );
}

/** The DataSets of a virtual machine with the commands of the guest (Broadcom, "DataSets for Guest Management"). */
export class SimulatedDataSets {
  /** Keys or entries of one reply; the context tells of more. */
  pageSize = 100;
  readonly #sets = new Map<string, DataSet>();

  /** Makes a DataSet and returns its pairs. */
  create(name: string, access: DataSetAccess): Map<string, string> {
    const pairs = new Map<string, string>();
    this.#sets.set(name, { access, pairs });
    return pairs;
  }

  /** Carries out a command; the arguments are JSON. */
  answer(command: string, text: string): string {
    return `1 ${JSON.stringify(this.#carryOut(command, text))}`;
  }

  #carryOut(command: string, text: string): Record<string, unknown> {
    let args: unknown;
    try {
      args = text.trim() === "" ? {} : JSON.parse(text);
    } catch {
      return failure("invalid-argument", "the arguments are no JSON");
    }
    if (!isArguments(args)) return failure("invalid-argument", "an argument is of the wrong kind");
    if (command === "datasets-list") {
      const names = [...this.#sets].filter(([, { access }]) => access !== "NONE");
      return { result: true, datasets: names.map(([name]) => ({ name, description: "" })) };
    }
    const set = this.#sets.get(args.dataset ?? "");
    if (set === undefined || set.access === "NONE") return failure("not-found", "no such dataset");
    switch (command) {
      case "datasets-query":
        return { result: true, name: args.dataset, "guest-access": set.access, used: set.pairs.size };
      case "datasets-list-keys":
        return this.#page([...set.pairs.keys()], args.context, (keys) => ({ keys }));
      case "datasets-get-entry":
        return this.#entries(set, args);
      default:
        if (set.access !== "READ_WRITE") return failure("access-denied", "the dataset is read-only");
        return command === "datasets-set-entry" ? write(set, args) : remove(set, args);
    }
  }

  #entries({ pairs }: DataSet, { keys = [], context }: Arguments): Record<string, unknown> {
    if (keys.some((key) => !pairs.has(key))) return failure("not-found", "no such key");
    return this.#page(keys, context, (some) => ({ entries: some.map((key) => ({ [key]: pairs.get(key) })) }));
  }

  #page(
    all: readonly string[],
    context: string | undefined,
    reply: (some: readonly string[]) => Record<string, unknown>,
  ): Record<string, unknown> {
    const from = Number(context ?? 0);
    const to = from + this.pageSize;
    const more = to < all.length ? { context: String(to) } : {};
    return { result: true, ...reply(all.slice(from, to)), ...more };
  }
}

function write({ pairs }: DataSet, { entries = [], append = false }: Arguments): Record<string, unknown> {
  for (const { key, value } of entries) {
    const whole = append ? (pairs.get(key) ?? "") + value : value;
    if (Buffer.byteLength(key) > MAX_KEY || Buffer.byteLength(whole) > MAX_VALUE)
      return failure("invalid-argument", "the entry is too large");
    pairs.set(key, whole);
  }
  return { result: true };
}

function remove({ pairs }: DataSet, { keys = [] }: Arguments): Record<string, unknown> {
  if (keys.some((key) => !pairs.has(key))) return failure("not-found", "no such key");
  for (const key of keys) pairs.delete(key);
  return { result: true };
}

function failure(id: string, message: string): Record<string, unknown> {
  return { result: false, "error-id": id, "error-message": message };
}
