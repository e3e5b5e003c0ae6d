import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { RawEntry } from "../../src/contract/store.js";
import { HOSTILE_TEXTS } from "../../src/testing/conformance/hostile.js";
import { work } from "./event-loop.js";
import { busy, type Fault, HEEDLESS, heedless } from "./faulty-provider.js";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array | undefined): string =>
  new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
const VERBS = ["read", "write", "delete", "list", "watch"] as const;

async function* where(
  entries: AsyncIterable<RawEntry>,
  change: (entry: RawEntry, at: number) => readonly RawEntry[],
): AsyncGenerator<RawEntry, void, undefined> {
  let at = 0;
  for await (const entry of entries) yield* change(entry, at++);
}

/** What the interface refuses never reaches a store, hence no fault of a store can show there. */
const storable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");
const storableKey = (text: string): boolean => storable(text) && text !== "";

/** A seeded fault with the clause that must notice it. */
export interface SeededFault {
  readonly name: string;
  /** End of the title of the test that must fail. */
  readonly clause: string;
  readonly fault: Fault;
  /** What the faulty provider declares otherwise than the sound one. */
  readonly declared?: Partial<Capabilities>;
}

const row = (
  name: string,
  clause: string,
  fault: Fault,
  declared: Partial<Capabilities> = {},
): SeededFault => ({
  name,
  clause,
  fault,
  declared,
});

const heedlessRows = VERBS.flatMap((verb) =>
  (["ERR_ABORTED", "ERR_TIMEOUT"] as const).map((code) => {
    const ends = verb === "watch" ? "ends without an error" : "rejects";
    const moment = code === "ERR_ABORTED" ? "on a signal that has fired" : "when no time is left";
    const fault: Fault = (sound) => ({
      [verb]: (...args: never[]) => {
        const all = [...args] as unknown[];
        const at = verb === "write" ? 2 : 1;
        all[at] = heedless(code, all[at] as never);
        return (sound[verb] as (...given: unknown[]) => unknown)(...all);
      },
    });
    return row(
      `${verb} ignores ${code}`,
      `every verb: ${verb} › ${ends} ${moment}, and changes nothing`,
      fault,
    );
  }),
);

const reopening = VERBS.map((verb) =>
  row(
    `${verb} works on a closed store`,
    `every verb: ${verb} › rejects with ERR_DISCONNECTED on a closed store`,
    () => ({
      close: async () => undefined,
    }),
  ),
);

const hostileKey = (name: string, text: string): SeededFault =>
  row(`a key with ${name} breaks the store`, `survives ${name} as a key in every verb`, (sound) => ({
    write: (key, value, call) => {
      if (key === `guest/${text}`) throw new Error("cannot parse");
      return sound.write(key, value, call);
    },
  }));

const hostileValue = (name: string, text: string): SeededFault =>
  row(`a value with ${name} is altered`, `survives ${name} as a value`, (sound) => ({
    write: (key, value, call) => sound.write(key, decode(value) === text ? encode("mended") : value, call),
  }));

/** Longer than any timer may wait for its turn. */
const TOO_LONG_MS = 80;

/** A verb that does all of its work at once, and one that heeds no signal while it waits. */
const starving = (
  [
    ["reads", "read"],
    ["reads that find nothing", "read"],
    ["writes", "write"],
    ["insertions", "write"],
    ["deletions that find nothing", "delete"],
    ["listings", "list"],
    ["refused writes", "write"],
  ] as const
).flatMap(([loop, verb]) => {
  const before =
    (act: () => void | Promise<void>): Fault =>
    (sound) => ({
      [verb]:
        verb === "list"
          ? async function* (...args: Parameters<typeof sound.list>) {
              await act();
              yield* sound.list(...args);
            }
          : async (...args: never[]) => {
              await act();
              return (sound[verb] as (...given: unknown[]) => unknown)(...args);
            },
    });
  const rows = [
    row(
      `${loop} keep the event loop`,
      `fairness › lets timers fire beside an endless loop of ${loop}`,
      before(() => work(TOO_LONG_MS)),
    ),
  ];
  if (loop !== "refused writes")
    rows.push(
      row(
        `${loop} wait in spite of their signal`,
        `fairness › ends an endless loop of ${loop} at its signal`,
        before(() => new Promise((resolve) => setTimeout(resolve, TOO_LONG_MS))),
      ),
    );
  return rows;
});

/** One fault for each clause of the suite that a store can break by itself. */
export const FAULTS: readonly SeededFault[] = [
  row(
    "capabilities change on opening",
    "declares the same capabilities before and while it is open",
    (sound) => ({
      capabilities: { ...sound.capabilities, limits: { maxValueBytes: 7 } },
    }),
  ),
  row("a declared verb is missing", "has exactly the verbs that it declares", () => ({
    facts: undefined,
    watch: undefined,
  })),
  row(
    "a pool has a verb that the store denies",
    "declares a verb exactly where one of its pools has it",
    () => ({ watch: undefined }),
    { watch: false },
  ),
  row(
    "closing one session closes all",
    "keeps a session open when another one is closed",
    (sound, shared) => ({
      read: async (key, call) => (shared.count > 1 ? Promise.reject(busy()) : sound.read(key, call)),
      close: async () => void shared.count++,
    }),
  ),
  row("a second close fails", "closes twice without an error", (sound) => {
    let closed = 0;
    return { close: () => (closed++ > 0 ? Promise.reject(new Error("closed")) : sound.close()) };
  }),
  row("facts are numbers", "gives facts as text", () => ({ facts: async () => ({ vmName: 7 }) as never })),
  row("a missing key is an empty value", "read › gives undefined for a key that is not there", (sound) => ({
    read: async (key, call) => (await sound.read(key, call)) ?? new Uint8Array(),
  })),
  row("given values lose their end", "gives the values that are there already", (sound) => ({
    read: async (key, call) => {
      const value = await sound.read(key, call);
      return key.startsWith("host/") ? value?.subarray(1) : value;
    },
  })),
  row("a value can be read once", "gives the same value every time", (sound, { map }) => ({
    read: async (key, call) => {
      const value = await sound.read(key, call);
      if (decode(value) !== "again") return value;
      if (map.has(key)) return undefined;
      map.set(key, encode(""));
      return value;
    },
  })),
  row("text is stored as Latin-1", "readBytes › gives text as UTF-8", (sound) => ({
    read: async (key, call) => {
      const value = await sound.read(key, call);
      return value && new Uint8Array(Buffer.from(decode(value), "latin1"));
    },
  })),
  row("arrays are the store's own", "gives arrays that belong to the caller", (sound, { map }) => ({
    write: async (key, value, call) => {
      await sound.write(key, value, call);
      map.set(key, value.slice());
    },
    read: async (key, call) => ((await sound.read(key, call)) === undefined ? undefined : map.get(key)),
  })),
  row(
    "bytes go through text",
    "keeps any bytes",
    (sound) => ({
      write: (key, value, call) => sound.write(key, encode(decode(value)), call),
    }),
    { binary: true },
  ),
  row("writes stay in their session", "is visible to another session when it resolves", (sound) => {
    const own = new Map<string, Uint8Array>();
    return {
      write: async (key, value, call) => {
        await sound.write(`${key}-hidden`, value, call);
        own.set(key, value);
      },
      read: async (key, call) => own.get(key) ?? sound.read(key, call),
    };
  }),
  row("a shorter value keeps the old tail", "replaces the old value, longer or shorter", (sound) => ({
    write: async (key, value, call) => {
      const old = (await sound.read(key, call)) ?? new Uint8Array();
      await sound.write(key, Buffer.concat([value, old.subarray(value.length)]), call);
    },
  })),
  row("keys are compared by their beginning", "write › leaves other keys alone", (sound) => ({
    write: async (key, value, call) => {
      await sound.write(key, value, call);
      for await (const entry of sound.list("guest/", call)) {
        if (entry.key !== key && entry.key.startsWith(key)) await sound.write(entry.key, value, call);
      }
    },
  })),
  row(
    "an empty value removes the key",
    "stores an empty value, or refuses it as ERR_VALUE_INVALID",
    (sound) => ({
      write: async (key, value, call) =>
        value.length === 0 ? void (await sound.delete(key, call)) : sound.write(key, value, call),
    }),
  ),
  row("the caller's array is kept", "keeps the bytes that it was given", (sound, { map }) => ({
    write: async (key, value, call) => {
      await sound.write(key, value, call);
      map.set(key, value);
    },
    read: async (key, call) => (await sound.read(key, call)) && map.get(key)?.slice(),
  })),
  row("the longest value loses its last byte", "stores the longest value unaltered", (sound) => ({
    write: (key, value, call) =>
      sound.write(key, value.length === 1024 ? value.subarray(0, 1023) : value, call),
  })),
  row("the longest key is refused", "stores a value under the longest key", (sound) => ({
    write: async (key, value, call) => {
      if (key.length >= 256) throw pvbusError("ERR_KEY_TOO_LONG", "one byte is for the NUL");
      return sound.write(key, value, call);
    },
  })),
  row("spaces are trimmed", "keeps spaces, letters of all scripts and emoji", (sound) => ({
    write: (key, value, call) => sound.write(key, encode(decode(value).trim()), call),
  })),
  row("delete always says true", "tells whether the key was there", (sound) => ({
    delete: async (key, call) => (await sound.delete(key, call)) || true,
  })),
  row("delete brings back the value of before", "leaves nothing under the key", (sound, { map }) => ({
    write: async (key, value, call) => {
      map.set(key, (await sound.read(key, call)) ?? encode(""));
      await sound.write(key, value, call);
    },
    delete: async (key, call) => {
      const there = await sound.delete(key, call);
      const older = map.get(key);
      if (there && older && decode(older) === "first") await sound.write(key, older, call);
      return there;
    },
  })),
  row("delete cuts off what follows", "delete › keeps the other keys", (sound) => ({
    delete: async (key, call) => {
      let after = false;
      for await (const entry of sound.list("guest/", call)) {
        if (after) await sound.delete(entry.key, call);
        after ||= entry.key === key;
      }
      return sound.delete(key, call);
    },
  })),
  row("a deleted key is gone for ever", "lets the key be written again", (sound, { map }) => ({
    delete: (key, call) => {
      map.set(key, encode("x"));
      return sound.delete(key, call);
    },
    write: async (key, value, call) => (map.has(key) ? undefined : sound.write(key, value, call)),
  })),
  row("a missing key is taken as empty", "take › gives nothing where no key is", (sound) => ({
    take: async (key, call) => (await sound.take(key, call)) ?? { value: new Uint8Array(), erased: "host" },
  })),
  row("an erased value is still there", "gives the value and says truly what became of it", () => ({
    erase: async () => "host",
  })),
  row("the host's pairs count as erased", "claims nothing of what the guest cannot erase", (sound) => ({
    take: async (key, call) => {
      const taken = await sound.take(key, call);
      return taken && { ...taken, erased: "host" };
    },
  })),
  row("another value is erased", "leaves another value than the expected one alone", (sound) => ({
    erase: (key, call) => sound.erase(key, call),
  })),
  row("two takers have the value", "gives the value to one of several takers", (sound) => ({
    take: async (key, call) => {
      const value = await sound.read(key, call);
      return value && { value, erased: await sound.erase(key, call) };
    },
  })),
  row("an insert writes in any case", "writes where there is no key, and leaves what is there", (sound) => ({
    insert: async (key, value, call) => {
      const isNew = await sound.insert(key, value, call);
      if (!isNew) await sound.write(key, value, call);
      return isNew;
    },
  })),
  row("an insert looks first and writes then", "lets one of several inserts succeed", (sound) => ({
    insert: async (key, value, call) => {
      if ((await sound.read(key, call)) !== undefined) return false;
      await new Promise(setImmediate);
      await sound.write(key, value, call);
      return true;
    },
  })),
  row("list gives the first key twice", "gives every key exactly once", (sound) => ({
    list: (prefix, call) => where(sound.list(prefix, call), (entry) => [entry, entry]),
  })),
  row("list gives keys without their pool", "gives keys that can be passed back", (sound) => ({
    list: (prefix, call) =>
      where(sound.list(prefix, call), (entry) => [
        { ...entry, key: entry.key.slice(entry.key.indexOf("/") + 1) },
      ]),
  })),
  row("list ignores the prefix", "list › keeps to the prefix", (sound) => ({
    list: (_, call) => sound.list("", call),
  })),
  row("list gives removed keys", "leaves out what was removed", (sound, { map }) => ({
    delete: (key, call) => {
      map.set(key, encode("was here"));
      return sound.delete(key, call);
    },
    async *list(prefix, call) {
      yield* sound.list(prefix, call);
      for (const [key, value] of map) if (key.startsWith(prefix)) yield { key, value };
    },
  })),
  row("list gives everything for an unknown prefix", "lists nothing where nothing is", (sound) => ({
    list: (prefix, call) => sound.list(prefix.startsWith("guest/n") ? "" : prefix, call),
  })),
  row(
    "a listing that ends early keeps its lock",
    "list › lets go when the loop ends early",
    (sound, shared) => ({
      async *list(prefix, call) {
        shared.count++;
        yield* sound.list(prefix, call);
        shared.count--;
      },
      write: async (key, value, call) => {
        if (shared.count > 0) throw busy();
        return sound.write(key, value, call);
      },
    }),
  ),
  row(
    "list starts again when something changes",
    "gives steady keys once while others come",
    (sound, shared) => ({
      write: (key, value, call) => {
        shared.count++;
        return sound.write(key, value, call);
      },
      async *list(prefix, call) {
        const before = shared.count;
        for await (const entry of sound.list(prefix, call)) {
          yield entry;
          if (shared.count !== before) break;
        }
        if (shared.count !== before) yield* sound.list(prefix, call);
      },
    }),
  ),
  row("watch sees nothing", "sees what another session writes after ready", (sound) => ({
    watch: (prefix, call, hooks) => where(sound.watch(prefix, call, hooks), () => []),
  })),
  row("watch keeps removals to itself", "sees a removal as undefined", (sound) => ({
    watch: (prefix, call, hooks) =>
      where(sound.watch(prefix, call, hooks), (entry) => (entry.value === undefined ? [] : [entry])),
  })),
  row("watch calls ready twice", "calls ready exactly once", (sound) => ({
    watch: (prefix, call, { ready }) => {
      ready();
      return sound.watch(prefix, call, { ready });
    },
  })),
  row("watch ignores the prefix", "watch › keeps to the prefix", (sound) => ({
    watch: (_, call, hooks) => sound.watch("", call, hooks),
  })),
  row("watch throws when aborted", "ends without an error when the signal fires", (sound) => ({
    async *watch(prefix, call, hooks) {
      yield* sound.watch(prefix, call, hooks);
      call.check();
    },
  })),
  row("watch never ends", "ends without an error after timeoutMs", (sound) => ({
    watch: (prefix, _, hooks) => sound.watch(prefix, HEEDLESS(), hooks),
  })),
  row("a closed watch goes on", "watch › ends with ERR_DISCONNECTED when the store is closed", (sound) => ({
    async *watch(prefix, call, hooks) {
      try {
        yield* sound.watch(prefix, call, hooks);
      } catch {
        await call.sleep(10_000);
      }
    },
  })),
  row(
    "a watch that ends early keeps its lock",
    "watch › lets go when the loop ends early",
    (sound, shared) => ({
      async *watch(prefix, call, hooks) {
        yield* where(sound.watch(prefix, call, hooks), (entry) => [entry]);
      },
      write: async (key, value, call) => {
        if (decode(value) === "after" && shared.count > 0) throw busy();
        if (decode(value) === "x") shared.count++;
        return sound.write(key, value, call);
      },
    }),
  ),
  row(
    "the first value of the host's stays",
    "has its values read as it sets, changes and removes them",
    (sound, { map }) => ({
      read: async (key, call) => {
        const value = map.get(key) ?? (await sound.read(key, call));
        if (value !== undefined) map.set(key, value);
        return value;
      },
    }),
  ),
  row(
    "what the host removed stays listed",
    "has its keys listed until it removes them",
    (sound, { map }) => ({
      async *list(prefix, call) {
        for await (const { key, value } of sound.list(prefix, call))
          if (value !== undefined) map.set(key, value);
        for (const [key, value] of map) yield { key, value };
      },
    }),
  ),
  row("watch yields nothing of the host's", "has a watch see what it sets, changes and removes", (sound) => ({
    watch: (prefix, call, hooks) =>
      where(sound.watch(prefix, call, hooks), (entry) => (entry.key.startsWith("host/") ? [] : [entry])),
  })),
  row("watch tells all of the host's keys", "has a watch keep to its prefix", (sound) => ({
    watch: (_, call, hooks) => sound.watch("host/", call, hooks),
  })),
  row(
    "a watch of the host's keys never ends",
    "has a watch end at its signal though it goes on",
    (sound) => ({
      async *watch(prefix, call, hooks) {
        try {
          yield* sound.watch(prefix, call, hooks);
        } finally {
          await new Promise(() => undefined);
        }
      },
    }),
  ),
  row(
    "reads fail once a watch of the host's keys has ended early",
    "has a watch let go when the loop ends early",
    (sound, shared) => ({
      async *watch(prefix, call, hooks) {
        shared.count++;
        yield* sound.watch(prefix, call, hooks);
        shared.count--;
      },
      read: async (key, call) => (shared.count > 0 ? Promise.reject(busy()) : sound.read(key, call)),
    }),
  ),
  ...heedlessRows,
  ...reopening,
  row("a long value is cut", "refuses a value over the limit and keeps the old one", (sound) => ({
    write: (key, value, call) => sound.write(key, value.subarray(0, 1024), call),
  })),
  row(
    "a long value is refused too late",
    "refuses a value over the limit and keeps the old one",
    (sound) => ({
      write: async (key, value, call) => {
        await sound.write(key, value.subarray(0, 1024), call);
        await sound.write(key, value, call);
      },
    }),
  ),
  row("a long key is cut", "refuses a key over the limit and writes nothing", (sound) => ({
    write: (key, value, call) => sound.write(key.slice(0, 256), value, call),
  })),
  row(
    "a long key finds a shorter one",
    "finds nothing under a key over the limit, or refuses it",
    (sound) => ({
      read: (key, call) => sound.read(key.slice(0, 256), call),
    }),
  ),
  row("read-only keys are written", "rejects write with ERR_READ_ONLY", (sound) => ({
    write: async (key, value, call) => (key.startsWith("host/") ? undefined : sound.write(key, value, call)),
  })),
  row("read-only keys are refused without a code", "rejects delete with ERR_READ_ONLY", (sound) => ({
    delete: async (key, call) => {
      if (key.startsWith("host/")) throw new Error("EROFS");
      return sound.delete(key, call);
    },
  })),
  row("refusals have no text", "rejects write with ERR_READ_ONLY", (sound) => ({
    write: (key, value, call) =>
      sound.write(key, value, call).catch((error: unknown) => {
        throw PvbusError.is(error) ? pvbusError(error.code, " ") : error;
      }),
  })),
  row("refusals name another interface", "rejects write with ERR_READ_ONLY", (sound) => ({
    write: (key, value, call) =>
      sound.write(key, value, call).catch((error: unknown) => {
        throw PvbusError.is(error) ? pvbusError(error.code, error.message, { interface: "eth0" }) : error;
      }),
  })),
  row(
    "the abort loses its reason",
    "every verb: read › rejects on a signal that has fired, and changes nothing",
    (sound) => ({
      read: async (key, call) => {
        if (call.signal?.aborted) throw pvbusError("ERR_ABORTED", "aborted");
        return sound.read(key, call);
      },
    }),
  ),
  ...HOSTILE_TEXTS.filter(([, text]) => storableKey(text)).map(([name, text]) => hostileKey(name, text)),
  ...HOSTILE_TEXTS.filter(([, text]) => storable(text)).map(([name, text]) => hostileValue(name, text)),
  row("keys live in an ordinary object", "survives __proto__ as a key in every verb", (sound) => ({
    read: async (key, call) =>
      key.endsWith("__proto__") ? encode("[object Object]") : sound.read(key, call),
  })),
  row(
    "a climbing path changes its neighbour",
    "survives a climbing path as a key in every verb",
    (sound) => ({
      write: async (key, value, call) => {
        if (key.includes("../"))
          for await (const { key: each } of sound.list("guest/", call)) await sound.delete(each, call);
        return sound.write(key, value, call);
      },
    }),
  ),
  row(
    "an empty prefix path empties the store",
    "survives a slash at the end as a key in every verb",
    (sound) => ({
      delete: async (key, call) => {
        if (key.endsWith("/"))
          for await (const { key: each } of sound.list("guest/", call)) await sound.delete(each, call);
        return sound.delete(key, call);
      },
    }),
  ),
  row("parallel writes lose one", "keeps all of many parallel writes to distinct keys", (sound, shared) => ({
    write: async (key, value, call) => {
      const running = shared.count++;
      await new Promise(setImmediate);
      shared.count--;
      if (running < 5) await sound.write(key, value, call);
    },
  })),
  row(
    "parallel writes mix their bytes",
    "leaves one whole value of parallel writes to one key",
    (sound, shared) => ({
      write: async (key, value, call) => {
        const running = shared.count++;
        await new Promise(setImmediate);
        shared.count--;
        await sound.write(key, running > 0 ? Buffer.concat([value, encode("?")]) : value, call);
      },
    }),
  ),
  row("readers see half a write", "gives whole values to readers during writes", (sound) => ({
    write: async (key, value, call) => {
      await sound.write(key, value.subarray(0, value.length / 2), call);
      await new Promise(setImmediate);
      await sound.write(key, value, call);
    },
  })),
  ...starving,
  row("a watch keeps the event loop", "lets timers fire beside a watch of endless changes", (sound) => ({
    watch: (prefix, call, hooks) =>
      where(sound.watch(prefix, call, hooks), (entry) => {
        work(TOO_LONG_MS);
        return [entry];
      }),
  })),
  row("a watch ends long after its signal", "ends a watch of endless changes at its signal", (sound) => ({
    async *watch(prefix, call, hooks) {
      try {
        yield* sound.watch(prefix, call, hooks);
      } finally {
        await new Promise((resolve) => setTimeout(resolve, TOO_LONG_MS));
      }
    },
  })),
  row(
    "each call listens to the signal for itself",
    "lets many calls share a signal, without a warning of Node's",
    (sound) => ({
      read: async (key, call) => {
        call.signal?.addEventListener("abort", () => undefined);
        return sound.read(key, call);
      },
    }),
  ),
  row("chunks collide", "publishes short and split values", (sound) => ({
    portable: sound.portable && {
      ...sound.portable,
      guestKey: (space, name) => `guest/${space}/${name.slice(0, 8)}`,
    },
  })),
  row("places are those of another namespace", "lists what was published under its name, whole", (sound) => ({
    portable: sound.portable && {
      ...sound.portable,
      places: () => sound.portable?.places?.("org.example.other") ?? { host: [], guest: undefined },
    },
  })),
  row("host keys lie in no pool", "looks for the host's values under keys that it can read", (sound) => ({
    portable: sound.portable && { ...sound.portable, hostKeys: () => [] },
  })),
];
