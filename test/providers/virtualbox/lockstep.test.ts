import { expect } from "chai";
import { VirtualBoxSimulator } from "../../../providers/testing.js";
import {
  PROPERTY_FLAGS,
  type PropertyFlag,
  type VirtualBoxStore,
} from "../../../providers/virtualbox/index.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, PvbusError } from "../../../src/index.js";
import { count, patience, random, report } from "../../support/campaign.js";

/*
 * Random operations of guest and host in lockstep with a model: what the service was recorded to do, as plain as can be, and nothing
 * of the driver, the codec or the simulator. Besides, watches follow through crashes of the host's side, restores and clocks that
 * are set back; each must hold the model's state whenever everybody has come to rest.
 */

const OPERATIONS = count(3_000, 100_000);
/** So many operations go by between two looks at the watches. */
const SETTLE = 250;
const LIMIT = 256;
const PATIENCE_MS = 20_000;
const byName = ([one]: readonly [string, string], [other]: readonly [string, string]): number =>
  one < other ? -1 : 1;

interface Entry {
  value: string;
  flags: ReadonlySet<PropertyFlag>;
}

type Side = "guest" | "host";

/** What the service keeps, and what it refuses. */
class Model {
  readonly entries = new Map<string, Entry>();
  readOnly = false;

  set(side: Side, name: string, value: string, flags: readonly PropertyFlag[]): string {
    if (/[*?|]/.test(name) || name === "") return "ERR_KEY_INVALID";
    if (Buffer.byteLength(name) > 63) return "ERR_KEY_TOO_LONG";
    if (Buffer.byteLength(value) > 1023) return "ERR_VALUE_TOO_LONG";
    const old = this.entries.get(name);
    if (this.#isKept(side, old)) return "ERR_READ_ONLY";
    const reserved = /^\/VirtualBox\/(HostInfo|VMInfo)\//.test(name);
    if (side === "guest" && (reserved || this.readOnly)) return "ERR_READ_ONLY";
    if (old === undefined && this.entries.size >= LIMIT) return "ERR_NO_SPACE";
    const all = new Set(flags);
    if (all.has("TRANSRESET")) all.add("TRANSIENT");
    if (reserved) all.add("RDONLYGUEST");
    if (all.has("READONLY") || (all.has("RDONLYGUEST") && all.has("RDONLYHOST"))) {
      all.delete("RDONLYGUEST");
      all.delete("RDONLYHOST");
      all.add("READONLY");
    }
    this.entries.set(name, { value, flags: all });
    return "done";
  }

  delete(side: Side, name: string): string {
    if (/[*?|]/.test(name) || name === "") return "ERR_KEY_INVALID";
    if (Buffer.byteLength(name) > 63) return "ERR_KEY_TOO_LONG";
    const old = this.entries.get(name);
    if (old === undefined) return "absent";
    if (this.#isKept(side, old) || (side === "guest" && this.readOnly)) return "ERR_READ_ONLY";
    this.entries.delete(name);
    return "done";
  }

  drop(flag: PropertyFlag): void {
    for (const [name, { flags }] of this.entries) if (flags.has(flag)) this.entries.delete(name);
  }

  below(prefix: string): Record<string, string> {
    const found = [...this.entries].filter(([name]) => name.startsWith(prefix));
    return Object.fromEntries(found.map(([name, { value }]) => [name, value] as const).sort(byName));
  }

  #isKept(side: Side, entry: Entry | undefined): boolean {
    const own = side === "guest" ? "RDONLYGUEST" : "RDONLYHOST";
    return entry !== undefined && (entry.flags.has("READONLY") || entry.flags.has(own));
  }
}

const call = (): Call => new Call({ timeoutMs: 20_000 });
const STATUS: Readonly<Record<number, string>> = {
  0: "done",
  [-10]: "ERR_READ_ONLY",
  [-42]: "ERR_NO_SPACE",
};

/** A watch's idea of what is below a prefix. */
class Mirror {
  readonly prefix: string;
  readonly state = new Map<string, string>();
  readonly ready: Promise<void>;
  readonly end = new AbortController();
  readonly over: Promise<unknown>;
  changes = 0;
  #look = (): void => undefined;

  constructor(store: VirtualBoxStore, prefix: string, there: Readonly<Record<string, string>>) {
    this.prefix = prefix;
    for (const [name, value] of Object.entries(there)) this.state.set(name, value);
    let ready = (): void => undefined;
    this.ready = new Promise((resolve) => {
      ready = resolve;
    });
    this.over = this.#follow(store, ready).catch((error: unknown) => error);
  }

  async #follow(store: VirtualBoxStore, ready: () => void): Promise<void> {
    const signal = Call.endless(this.end.signal);
    for await (const { key, value } of store.watch(this.prefix, signal, { ready })) {
      this.changes++;
      if (value === undefined) this.state.delete(key);
      else this.state.set(key, Buffer.from(value).toString());
      this.#look();
    }
  }

  /** Waits until it holds exactly that, which every change may bring about. */
  async reaches(expected: Readonly<Record<string, string>>): Promise<void> {
    const wanted = JSON.stringify(expected);
    const now = (): Record<string, string> => Object.fromEntries([...this.state].sort(byName));
    const reached = new Promise<void>((resolve) => {
      this.#look = () => {
        if (JSON.stringify(now()) === wanted) resolve();
      };
      this.#look();
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    const ended = this.over.then((error) => {
      throw new Error(`the watch of ${this.prefix} ended`, { cause: error });
    });
    await Promise.race([reached, late, ended]);
    clearTimeout(timer);
    expect(now(), this.prefix).to.deep.equal(expected);
  }
}

describe("guest properties in lockstep with a model", function () {
  this.timeout(patience(30));

  it("are the same after every operation, and in every watch at rest", async () => {
    const numbers = random();
    const { below, pick } = numbers;
    let time = 1_795_770_116_000_000_000n;
    const clock = (): bigint => {
      time += BigInt(below(3)) * 500n;
      return time;
    };
    const setBack = (): void => {
      time -= 3_600_000_000_000n;
    };
    const simulator = new VirtualBoxSimulator({ clock });
    const { service } = simulator;
    const store = await simulator.provider(nodeHost({ platform: "linux" })).open({}, call());
    const model = new Model();
    for await (const { key } of store.list("", call())) {
      const { value, flags } = service.get(key) ?? { value: "", flags: "" };
      model.entries.set(key, { value, flags: new Set(flags.split(", ").filter(Boolean) as PropertyFlag[]) });
    }
    const done: Record<string, number> = {};
    const did = (what: string): void => {
      done[what] = (done[what] ?? 0) + 1;
    };

    const names = [
      ...Array.from({ length: 30 }, (_, n) => `/w/${n}`),
      ...Array.from({ length: 270 }, (_, n) => `/fill/${n}`),
      "/w/é☃",
      "no slash",
      "/VirtualBox/HostInfo/x",
      "/VirtualBox/GuestInfo/y",
      `/w/${"n".repeat(60)}`,
      `/w/${"n".repeat(61)}`,
      "/w/*",
    ];
    const name = (): string => (below(3) === 0 ? pick(names) : pick(names.slice(0, 32)));
    const value = (): string =>
      pick(["", "v", `${below(10)}`, "grüß€\n\t", "v".repeat(below(1_100)), "😀".repeat(below(250))]);
    const flags = (): PropertyFlag[] =>
      below(3) === 0 ? PROPERTY_FLAGS.filter((flag) => below(6) === 0 && flag !== "READONLY") : [];
    const outcome = async (run: () => Promise<unknown>, absent = "absent"): Promise<string> => {
      try {
        return (await run()) === false ? absent : "done";
      } catch (error) {
        if (!PvbusError.is(error)) throw error;
        return error.code;
      }
    };

    const STEPS: readonly (readonly [string, number, () => Promise<void> | void])[] = [
      [
        "writes",
        30,
        async () => {
          const [key, text] = [name(), value()];
          const kept = [...(model.entries.get(key)?.flags ?? [])];
          const expected = model.set("guest", key, text, kept);
          expect(await outcome(() => store.write(key, Buffer.from(text), call())), key).to.equal(expected);
        },
      ],
      [
        "settings with flags",
        15,
        async () => {
          const [key, text, own] = [name(), value(), flags()];
          const expected = model.set("guest", key, text, own);
          expect(await outcome(() => store.setProperty(key, text, own, call())), key).to.equal(expected);
        },
      ],
      [
        "deletions",
        20,
        async () => {
          const key = name();
          expect(await outcome(() => store.delete(key, call())), key).to.equal(model.delete("guest", key));
        },
      ],
      [
        "reads",
        25,
        async () => {
          const key = name();
          if (key.length > 63 || key.includes("*")) return;
          const [found, kept] = [await store.property(key, call()), model.entries.get(key)];
          expect(found && Buffer.from(found.value).toString(), key).to.equal(kept?.value);
          expect(found && new Set(found.flags), key).to.deep.equal(kept?.flags);
        },
      ],
      [
        "listings",
        3,
        async () => {
          const prefix = pick(["", "/w/", "/w/1", "/fill/2", "/none/"]);
          const found: Record<string, string> = {};
          for await (const each of store.list(prefix, call()))
            found[each.key] = Buffer.from(each.value ?? []).toString();
          expect(found).to.deep.equal(model.below(prefix));
        },
      ],
      [
        "settings by the host",
        25,
        () => {
          const [key, text, own] = [pick(names.slice(0, 303)), value().slice(0, 200), flags()];
          const expected = model.set("host", key, text, own);
          expect(STATUS[simulator.set(key, text, own.join(","))], key).to.equal(expected);
        },
      ],
      [
        "deletions by the host",
        12,
        () => {
          const key = pick(names.slice(0, 303));
          const expected = model.delete("host", key);
          expect(STATUS[simulator.delete(key)], key).to.equal(expected === "absent" ? "done" : expected);
        },
      ],
      // Properties that nobody can change any more fill the store: now and then the machine is another one.
      [
        "clearings",
        1,
        () => {
          const gone = [...model.entries.keys()].filter((key) => !key.startsWith("/VirtualBox/"));
          service.load(Object.fromEntries(gone.map((key) => [key, undefined])));
          for (const key of gone) model.entries.delete(key);
          service.restore();
          counted("ResumeCounter");
        },
      ],
      [
        "restores",
        1,
        () => {
          const key = `/w/${below(30)}`;
          service.load({ [key]: "restored" });
          model.entries.set(key, { value: "restored", flags: new Set() });
          if (model.entries.size > LIMIT) {
            service.load({ [key]: undefined });
            model.entries.delete(key);
          }
          service.restore();
          counted("ResumeCounter");
        },
      ],
      [
        "resets",
        1,
        () => {
          model.drop("TRANSRESET");
          service.reset();
          counted("ResetCounter");
        },
      ],
      [
        "crashes",
        2,
        () => {
          simulator.crash();
          const [key, text] = [`/w/${below(30)}`, `${below(10)}`];
          expect(STATUS[simulator.set(key, text)]).to.equal(model.set("host", key, text, []));
          simulator.start();
          service.faults.forgetClients = 0;
        },
      ],
      [
        "forgotten clients",
        1,
        async () => {
          // One loss for each call: after a second one in a row the caller is told.
          await store.read("/w/0", call());
          service.faults.forgetClients = 1;
        },
      ],
      ["clocks set back", 1, setBack],
      [
        "changes of the right to write",
        1,
        () => {
          model.readOnly = !model.readOnly && below(3) === 0;
          service.faults.readOnly = model.readOnly;
        },
      ],
    ];
    const counted = (counter: string): void => {
      const key = `/VirtualBox/VMInfo/${counter}`;
      const old = model.entries.get(key);
      model.entries.set(key, { value: `${Number(old?.value) + 1}`, flags: old?.flags ?? new Set() });
    };
    const weights = STEPS.flatMap((step) => Array.from({ length: step[1] }, () => step));

    const mirrors: Mirror[] = [];
    const mirror = async (prefix: string): Promise<void> => {
      const added = new Mirror(store, prefix, model.below(prefix));
      mirrors.push(added);
      await added.ready;
    };
    for (const prefix of ["/w/", "/w/1", "/fill/", "/"]) await mirror(prefix);
    let changes = 0;
    try {
      for (let n = 1; n <= OPERATIONS; n++) {
        const [what, , step] = pick(weights);
        await step();
        did(what);
        if (n % SETTLE !== 0 && n !== OPERATIONS) continue;
        for (const each of mirrors) await each.reaches(model.below(each.prefix));
        // Watches come and go too.
        const leaver = mirrors.splice(below(mirrors.length), 1)[0] as Mirror;
        changes += leaver.changes;
        leaver.end.abort();
        await leaver.over;
        await mirror(leaver.prefix);
      }
    } finally {
      for (const { end } of mirrors) end.abort();
    }
    for (const { over, changes: seen } of mirrors) {
      await over;
      changes += seen;
    }
    await store.close();
    expect(simulator.driver.openFiles).to.equal(0);
    report("guest properties in lockstep", { operations: OPERATIONS, ...done, "changes seen": changes });
  });
});
