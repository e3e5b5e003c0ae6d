import { expect } from "chai";
import { encodeRecord, RECORD_SIZE, wholeRecords } from "../../../providers/hyperv/protocol/record.js";
import { appendRecord, scrubTails, updateRecord } from "../../../providers/hyperv/transport/files/edit.js";
import { removeRecords } from "../../../providers/hyperv/transport/files/removal.js";
import { needsRepair, repairPool } from "../../../providers/hyperv/transport/files/repair.js";
import { count } from "../../support/campaign.js";
import { cutStates, indexOf, killedStates, pairs, RecordingPool } from "../../support/pool-images.js";

type Pair = readonly [string, string];
type Kind = "last" | "first";

interface Operation {
  readonly kind: "write" | "remove" | "scrub";
  readonly key: string;
  readonly value: string;
}

function offsetsOf(pool: RecordingPool, key: string): readonly number[] {
  return indexOf(pool.image).find(key, true).offsets;
}

/** Does what Pool (the last record of a key counts) or ServedPool (the first one does) do under the locks. */
function apply(pool: RecordingPool, op: Operation, kind: Kind, durable: boolean): void {
  repair(pool, kind, durable);
  const offsets = offsetsOf(pool, op.key);
  const key = Buffer.from(op.key, "utf8");
  const value = Buffer.from(op.value, "utf8");
  const target = kind === "last" ? offsets.at(-1) : offsets[0];
  if (op.kind === "scrub") pool.run(scrubTails(pool));
  else if (op.kind === "write") {
    if (target === undefined) pool.run(appendRecord(pool, key, value));
    else {
      pool.run(updateRecord(pool, target, key, value));
      if (kind === "last" && offsets.length > 1) pool.run(removeRecords(pool, offsets.slice(0, -1), durable));
    }
  } else if (target !== undefined)
    pool.run(removeRecords(pool, kind === "last" ? offsets : [target], durable));
  pool.steps.push({ barrier: true });
}

function repair(pool: RecordingPool, kind: Kind, durable: boolean): void {
  const findings = { unused: indexOf(pool.image).unused, closeStrays: kind === "last" };
  if (!needsRepair(pool.size, findings)) return;
  pool.run(repairPool(pool, findings, durable));
  pool.steps.push({ barrier: true });
}

/** What the pairs are to be afterwards. */
function expected(before: readonly Pair[], op: Operation, kind: Kind): Pair[] {
  const matches = before.flatMap(([key], at) => (key === op.key ? [at] : []));
  const target = kind === "last" ? matches.at(-1) : matches[0];
  if (op.kind === "write") {
    if (target === undefined) return [...before, [op.key, op.value]];
    const changed = before.map((pair, at): Pair => (at === target ? [op.key, op.value] : pair));
    return kind === "first" ? changed : changed.filter(([key], at) => key !== op.key || at === target);
  }
  if (op.kind === "remove")
    return before.filter((_, at) => !(kind === "last" ? matches : [target]).includes(at));
  return [...before];
}

function lastOf(list: readonly Pair[]): Map<string, string> {
  return new Map(list);
}

function firstOf(list: readonly Pair[]): Map<string, string> {
  return new Map([...list].reverse());
}

/** Checks an image as it is found, by every kind of reader: others untouched, the key in flight old or new. */
function judge(state: Buffer, before: readonly Pair[], after: readonly Pair[], op: Operation): void {
  expect(state.length % RECORD_SIZE, "torn tail").to.equal(0);
  const seen = pairs(state);
  // Of duplicates that are being removed, any of those left may be the first for a while.
  const stored = before.filter(([key]) => key === op.key).map(([, value]): string | undefined => value);
  if (stored.length !== 1 || op.kind === "remove") stored.push(lastOf(after).get(op.key));
  // The copy at the end while the first of several gets a long value.
  if (stored.length > 1 && op.kind === "write") stored.push(op.value);
  for (const view of [lastOf, firstOf]) {
    const [was, is, now] = [view(before), view(after), view(seen)];
    for (const key of new Set([...was.keys(), ...now.keys()])) {
      const legal = key === op.key && op.kind !== "scrub" ? [...stored, is.get(key)] : [was.get(key)];
      if (!legal.includes(now.get(key)))
        expect.fail(
          `${key} is ${brief([[key, now.get(key) ?? "gone"]])} ${view.name} in ${op.kind} ${op.key}: ${brief(before)} -> ${brief(seen)} -> ${brief(after)}`,
        );
    }
  }
  const legal = new Set([...before, ...after].map(([key, value]) => `${key}=${value}`));
  for (const [key, value] of seen) {
    if (!legal.has(`${key}=${value}`)) expect.fail(`garbled: ${key}=${value.slice(0, 20)}`);
  }
}

const KEYS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/** One drawn case: a pool as any writers may have left it, and what is done to it. */
interface Case {
  readonly start: Buffer;
  readonly op: Operation;
  readonly kind: Kind;
  readonly random: () => number;
}

function draw(seed: number): Case {
  const random = generator(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const value = (): string =>
    below(2) === 0 ? "s".repeat(below(20)) : "xyz".charAt(below(3)).repeat(below(2048));
  const spread = [3, 12, 200][below(3)] as number;
  const key = (): string => KEYS[below(spread)] ?? `n${below(1000)}`;
  const start = Buffer.concat(
    Array.from({ length: below(32) }, () => {
      const text = value();
      const bytes = encodeRecord({ key: Buffer.from(key()), value: Buffer.from(text) });
      // Garbage behind the NULs, as the vendor's daemon leaves it.
      for (const [from, to] of [
        [8, 200],
        [512 + text.length + 1, 2560],
      ] as const)
        if (below(2) === 0) bytes.fill(0x47, from, to);
      return bytes;
    }),
  );
  const kind = (["write", "write", "remove", "remove", "scrub"] as const)[below(5)] as Operation["kind"];
  const own = pairs(start)[below(32)]?.[0] ?? key();
  return { start, op: { kind, key: own, value: value() }, kind: below(2) === 0 ? "last" : "first", random };
}

/** Runs a check over many cases; a failure names its seed. */
function forCases(times: number, check: (drawn: Case) => void): void {
  const first = Number(process.env["PVBUS_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  for (let i = 0; i < times; i++) {
    try {
      check(draw(first + i));
    } catch (error) {
      (error as Error).message = `PVBUS_SEED=${first + i}: ${(error as Error).message}`;
      throw error;
    }
  }
}

describe("Hyper-V pool edits", function () {
  this.timeout(120_000);

  it("leave every reader the old or the new pair at every instant of a kill, and are settled exactly", () => {
    forCases(count(10, 60), ({ start, op, kind }) => {
      const before = pairs(start);
      const edited = new RecordingPool(start);
      apply(edited, op, kind, false);
      const after = expected(before, op, kind);
      expect(pairs(edited.image)).to.deep.equal(after);
      expect(edited.size).to.equal(after.length * RECORD_SIZE);
      for (const state of killedStates(start, edited.steps)) {
        judge(state, before, after, op);
        const healed = new RecordingPool(state);
        repair(healed, kind, false);
        settled(healed, before, after, op);
        // While the daemon updates the first of several, the copy at the end outshines the last one for a moment.
        if (kind === "first" && before.filter(([key]) => key === op.key).length > 1) continue;
        const view = kind === "last" || op.kind === "write" ? lastOf : firstOf;
        expect(view(pairs(healed.image)).get(op.key), "as seen before").to.equal(
          view(pairs(state)).get(op.key),
        );
      }
    });
  });

  it("are settled exactly when the repair is killed as well, again and again", () => {
    forCases(count(10, 60), ({ start, op, kind, random }) => {
      const before = pairs(start);
      const after = expected(before, op, kind);
      const edited = new RecordingPool(start);
      apply(edited, op, kind, random() < 0.5);
      let state = pick([...killedStates(start, edited.steps)], random);
      for (let depth = 0; depth < 3; depth++) {
        const healing = new RecordingPool(state);
        repair(healing, kind, random() < 0.5);
        const states = [...killedStates(state, healing.steps)];
        for (const each of states) judge(each, before, after, op);
        state = pick(states, random);
      }
      const healed = new RecordingPool(state);
      repair(healed, kind, false);
      settled(healed, before, after, op);
    });
  });

  it("lose nothing when the power is cut, the repair's included", () => {
    forCases(5, ({ start, op, kind, random }) => {
      const before = pairs(start);
      const after = expected(before, op, kind);
      const edited = new RecordingPool(start);
      apply(edited, op, kind, true);
      for (const state of cutStates(start, edited.steps, random, 3)) {
        judge(state, before, after, op);
        const healed = new RecordingPool(state);
        repair(healed, kind, true);
        settled(healed, before, after, op);
        if (random() > 0.05) continue;
        for (const again of cutStates(state, healed.steps, random, 1)) {
          judge(again, before, after, op);
          const twice = new RecordingPool(again);
          repair(twice, kind, true);
          settled(twice, before, after, op);
        }
      }
    });
  });

  it("move several hundred records through any kill and any power cut", () => {
    for (const durable of [false, true]) {
      const start = Buffer.concat(
        Array.from({ length: 560 }, (_, i) =>
          encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.from("v".repeat((i * 37) % 1500)) }),
        ),
      );
      const before = pairs(start);
      const op = { kind: "remove", key: "k3", value: "" } as const;
      const after = expected(before, op, "first");
      const edited = new RecordingPool(start);
      apply(edited, op, "first", durable);
      expect(pairs(edited.image)).to.deep.equal(after);
      const random = generator(7);
      // The images are large: a few of them, spread over the whole change.
      const states = durable ? cutStates(start, edited.steps, random, 1) : killedStates(start, edited.steps);
      for (const state of states) {
        if (random() > (durable ? 0.05 : 0.005)) continue;
        judge(state, before, after, op);
        const healed = new RecordingPool(state);
        repair(healed, "first", durable);
        settled(healed, before, after, op);
      }
    }
  });

  it("keep what another program appended behind an unfinished change", () => {
    const start = Buffer.concat(
      Array.from({ length: 20 }, (_, i) =>
        encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.from("v".repeat(i * 100)) }),
      ),
    );
    const alien = encodeRecord({ key: Buffer.from("alien"), value: Buffer.from("landed") });
    for (const op of [
      { kind: "remove", key: "k2", value: "" },
      { kind: "write", key: "k10", value: "w".repeat(1900) },
    ] as const) {
      for (const durable of [false, true]) {
        const edited = new RecordingPool(start);
        apply(edited, op, "first", durable);
        const [before, after] = [pairs(start), expected(pairs(start), op, "first")];
        for (const state of killedStates(start, edited.steps)) {
          const healed = new RecordingPool(Buffer.concat([state, alien]));
          repair(healed, "first", durable);
          const found = pairs(healed.image);
          expect(found.pop()).to.deep.equal(["alien", "landed"]);
          expect(found).to.be.deep.oneOf([before, after]);
        }
      }
    }
  });

  it("keep keys unique and the file whole after any operations on a pool without duplicates", () => {
    const edited = new RecordingPool(Buffer.alloc(0));
    const model = new Map<string, string>();
    forCases(300, ({ op }) => {
      apply(edited, op, "last", false);
      if (op.kind === "write") model.set(op.key, op.value);
      else if (op.kind === "remove") model.delete(op.key);
      expect(edited.size).to.equal(model.size * RECORD_SIZE);
      expect(pairs(edited.image)).to.deep.equal([...model]);
    });
  });

  it("write a record at each of the eight page positions without ever tearing its value", () => {
    for (let slot = 0; slot < 8; slot++) {
      for (const [old, next] of [
        ["o".repeat(2047), "n".repeat(2047)],
        ["o".repeat(2047), "n"],
        ["o", "n".repeat(2047)],
        ["o", "n"],
      ] as const) {
        const start = Buffer.concat(
          Array.from({ length: 8 }, (_, i) =>
            encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.from(i === slot ? old : "other") }),
          ),
        );
        const op = { kind: "write", key: `k${slot}`, value: next } as const;
        const edited = new RecordingPool(start);
        apply(edited, op, "last", false);
        for (const state of killedStates(start, edited.steps))
          judge(state, pairs(start), expected(pairs(start), op, "last"), op);
        expect(edited.size).to.equal(start.length);
      }
    }
  });

  it("change a short value by one write to one page", () => {
    const start = Buffer.concat(
      Array.from({ length: 8 }, (_, i) =>
        encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.from("old") }),
      ),
    );
    for (let slot = 0; slot < 8; slot++) {
      const edited = new RecordingPool(start);
      edited.run(updateRecord(edited, slot * RECORD_SIZE, Buffer.from(`k${slot}`), Buffer.from("new")));
      expect(edited.steps.length, `slot ${slot}`).to.equal(1);
    }
  });

  it("zero-fill the record that is written and scrub those that are moved", () => {
    const dirty = (key: string): Buffer => {
      const bytes = encodeRecord({ key: Buffer.from(key), value: Buffer.from("v") });
      bytes.fill(0xee, 100, 500);
      bytes.fill(0xee, 600);
      return bytes;
    };
    const edited = new RecordingPool(Buffer.concat([dirty("a"), dirty("b"), dirty("c")]));
    apply(edited, { kind: "remove", key: "a", value: "" }, "last", false);
    apply(edited, { kind: "write", key: "b", value: "w" }, "last", false);
    const clean = (key: string, value: string): Buffer =>
      encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });
    expect(edited.image.equals(Buffer.concat([clean("b", "w"), clean("c", "v")]))).to.equal(true);
  });

  it("give the file back as it was when there is no room, and still remove", () => {
    const start = Buffer.concat(
      Array.from({ length: 16 }, (_, i) =>
        encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.from("v".repeat(i * 100)) }),
      ),
    );
    for (const durable of [false, true]) {
      const full = new RecordingPool(start);
      const write = full.write.bind(full);
      full.write = (bytes, offset) => {
        if (offset + bytes.length > start.length)
          throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC", syscall: "write", errno: -28 });
        write(bytes, offset);
      };
      expect(() => apply(full, { kind: "write", key: "b", value: "2" }, "last", durable)).to.throw("ENOSPC");
      expect(full.image.equals(start)).to.equal(true);
      const tearing = { kind: "write", key: "k12", value: "n".repeat(2000) } as const;
      expect(() => apply(full, tearing, "last", durable)).to.throw("ENOSPC");
      expect(full.image.equals(start)).to.equal(true);
      const op = { kind: "remove", key: "k2", value: "" } as const;
      apply(full, op, "last", durable);
      expect(pairs(full.image)).to.deep.equal(expected(pairs(start), op, "last"));
      for (const state of killedStates(start, full.steps)) judge(state, pairs(start), pairs(full.image), op);
    }
  });

  it("cut a torn tail, whatever is done", () => {
    const torn = Buffer.concat([
      encodeRecord({ key: Buffer.from("a"), value: Buffer.from("1") }),
      Buffer.alloc(700, 0x54),
    ]);
    for (const op of [
      { kind: "write", key: "n", value: "n" },
      { kind: "write", key: "a", value: "2" },
      { kind: "remove", key: "a", value: "" },
    ] as const) {
      const edited = new RecordingPool(torn);
      apply(edited, op, "last", false);
      expect(edited.size % RECORD_SIZE).to.equal(0);
      expect(edited.image.includes(0x54)).to.equal(false);
    }
    expect(wholeRecords(3260)).to.equal(2560);
  });
});

/** After the repair the file holds the pairs of before or of after, in order, and nothing else; in between only what was going to be removed anyway. */
function settled(pool: RecordingPool, before: readonly Pair[], after: readonly Pair[], op: Operation): void {
  const found = pairs(pool.image);
  expect(pool.size, "unused slots").to.equal(found.length * RECORD_SIZE);
  const others = (list: readonly Pair[]): Pair[] => list.filter(([key]) => key !== op.key);
  if (op.kind === "scrub") expect(same(found, before), "scrubbed").to.equal(true);
  else expect(same(others(found), others(before)), "the other pairs").to.equal(true);
  // Of several records of the key any may be gone already, but what is left is in order and of before or after.
  const own = found.filter(([key]) => key === op.key).map(([, value]) => value);
  const olds = before.filter(([key]) => key === op.key).map(([, value]) => value);
  expect(own.length).to.be.at.most(Math.max(olds.length, 1));
  if (olds.length <= 1)
    expect(same(found, before) || same(found, after), "the pair in flight").to.equal(true);
}

function brief(list: readonly Pair[]): string {
  return list.map(([key, value]) => `${key}:${value[0] ?? ""}${value.length}`).join(" ");
}

/** chai's deep comparison takes most of the time of these tests. */
function same(a: readonly Pair[], b: readonly Pair[]): boolean {
  return a.length === b.length && a.every(([key, value], at) => key === b[at]?.[0] && value === b[at]?.[1]);
}

function pick(states: readonly Buffer[], random: () => number): Buffer {
  return states[Math.floor(random() * states.length)] as Buffer;
}

/** A small seeded generator (mulberry32's step). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
