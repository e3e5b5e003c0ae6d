import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { budget, count, isLong, patience, type Random, random, report, seed } from "../support/campaign.js";
import { Actors, ourView, someAction, someRecords } from "./actors.js";
import {
  type Action,
  allOutcomes,
  Faults,
  foreignFault,
  type HostAction,
  halfwaysOf,
  outcomesOf,
  type Records,
  rawFault,
  settle,
} from "./model.js";
import { fileOf, RECORD_BYTES, viewsOf } from "./readers.js";
import { Disk, RecordingFs } from "./recording-fs.js";
import { vendorRewrite } from "./vendor-rewrite.js";

/** Cuts of the full form, by hand; the others are cut by seconds. */
const WANTED = count(Infinity, Infinity);
const SECONDS = WANTED === Infinity ? budget(4, 240) : Infinity;
/** What a machine too busy for its seconds does nevertheless. */
const LEAST_CUTS = 20;
const ACTIONS = 12;
const INSTANTS = 5;
/** Records of a large pool. */
const MANY = 300;

const MEMORY = "/dev/shm";

class Campaign {
  readonly faults = new Faults();
  readonly folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "pvbus-cuts-"));
  cuts = 0;
  kills = 0;
  repairs = 0;
  vendor = 0;
  histories = 0;
  actions = 0;
  readonly #began = performance.now();
  #files = 0;

  get over(): boolean {
    if (this.cuts >= WANTED) return true;
    return performance.now() - this.#began > SECONDS * 1000 && this.cuts > LEAST_CUTS;
  }

  /** One life of a pool, with side branches wherever the power may have gone. */
  async history(random: Random, name: string): Promise<void> {
    this.histories++;
    const durable = random() < 0.7;
    const path = this.#place();
    const missing = random() < 0.05;
    let records = missing ? [] : someRecords(random, MANY);
    const torn = !missing && random() < 0.1;
    if (!missing) writeFileSync(path, torn ? withTornTail(random, records) : fileOf(records));
    const disk = new Disk(missing ? undefined : readFileSync(path));
    const recorder = new RecordingFs(path);
    const actors = new Actors(path, durable, recorder.fs);
    try {
      for (let at = 0; at < ACTIONS && !this.over; at++) {
        const action = someAction(random, records);
        const where = `${name}, ${durable ? "durable" : "plain"}, ${records.length} records, action ${at} ${said(action)}`;
        const after = outcomesOf(records, action);
        const answer = await actors.act(action);
        this.actions++;
        const tornBefore = torn && at === 0;
        await this.#branch(
          random,
          disk,
          recorder.take(),
          [records, ...halfwaysOf(records, action), ...after],
          {
            durable,
            tornBefore,
            where,
          },
        );
        const there = records.some(({ key }) => "key" in action && key === action.key);
        if (answer !== undefined && (answer === (action.kind === "insert")) === there)
          return this.faults.add("acknowledged", `wrong answer: ${answer}`, where);
        const settled = settle(existsSync(path) ? readFileSync(path) : Buffer.alloc(0), after);
        if (settled.fault !== undefined) return this.faults.add("acknowledged", settled.fault, where);
        records = settled.records;
        if (durable) await this.#judge(random, disk, [records], { durable, where: `${where}, when done` });
      }
    } finally {
      await actors.close();
      rmSync(path, { force: true });
    }
  }

  /** Lets the power go at some instants of what was done. */
  async #branch(
    random: Random,
    disk: Disk,
    events: ReturnType<RecordingFs["take"]>,
    states: readonly Records[],
    about: About,
  ): Promise<void> {
    const instants = new Set(Array.from({ length: INSTANTS }, () => random.below(events.length + 1)));
    for (const [at, event] of events.entries()) {
      if (instants.has(at))
        await this.#judge(random, disk, states, {
          ...about,
          where: `${about.where}, step ${at} of ${events.length}`,
        });
      disk.apply(event);
    }
    if (instants.has(events.length))
      await this.#judge(random, disk, states, {
        ...about,
        where: `${about.where}, last step of ${events.length}`,
      });
  }

  /** Judges one thing that a cut leaves, as it is and when somebody has repaired it. */
  async #judge(random: Random, disk: Disk, states: readonly Records[], about: About): Promise<void> {
    const killed = !about.durable || random() < 0.15;
    const { file, how } = killed ? { file: disk.killed(), how: "killed" } : disk.cut(random);
    const path = this.#place();
    if (file !== undefined) writeFileSync(path, file);
    if (killed) this.kills++;
    else this.cuts++;
    const kind = killed ? "kill" : "cut";
    const where = `${about.where}, ${how}`;
    try {
      const image = file ?? Buffer.alloc(0);
      const keys = states.flatMap((records) => records.at(-1)?.key ?? []);
      const views = [...viewsOf(image, "clean"), await ourView(path, keys)];
      const fault = rawFault(image, states, views, about.tornBefore);
      if (fault !== undefined) return this.faults.add(`${kind}, before a repair`, fault, where);
      if (depthOf(about) === 0 && random() < 0.1)
        return await this.#vendorsTurn(random, path, image, states, { ...about, where });
      // A kill syncs nothing: what the dead process wrote may still be lost while the next one repairs.
      const left = killed ? disk.clone() : new Disk(file);
      await this.#repair(random, path, left, states, { ...about, where });
    } finally {
      rmSync(path, { force: true });
    }
  }

  /** The vendor's daemon comes first, then one of ours: neither loses what was acknowledged, not to the vendor's either. */
  async #vendorsTurn(
    random: Random,
    path: string,
    image: Buffer,
    states: readonly Records[],
    { durable, where, tornBefore }: About,
  ): Promise<void> {
    if (tornBefore) return;
    this.vendor++;
    const change = this.#hostAction(random, states);
    const changed = vendorRewrite(image, change);
    writeFileSync(path, changed);
    const name = `${where}, then the vendor's ${said(change)}`;
    const fault = foreignFault(changed, states, change, false);
    if (fault !== undefined) return this.faults.add("after the vendor's daemon", fault, name);
    const actors = new Actors(path, durable);
    try {
      await actors.act(random() < 0.5 ? { kind: "start" } : { kind: "scrub" });
    } finally {
      await actors.close();
    }
    const left = foreignFault(readFileSync(path), states, change, true);
    if (left !== undefined) this.faults.add("repaired after the vendor's daemon", left, name);
  }

  #hostAction(random: Random, states: readonly Records[]): HostAction {
    for (;;) {
      const action = someAction(random, states[random.below(states.length)] as Records);
      if (action.kind === "set" || action.kind === "unset") return action;
    }
  }

  async #repair(
    random: Random,
    path: string,
    disk: Disk,
    states: readonly Records[],
    about: About,
  ): Promise<void> {
    this.repairs++;
    const { depth = 0, durable } = about;
    const action = someAction(random, states[random.below(states.length)] as Records);
    const where = `${about.where}, repaired by ${said(action)}`;
    const again = depth < 2 && random() < 0.2;
    const recorder = new RecordingFs(path);
    const actors = new Actors(path, durable, again ? recorder.fs : undefined);
    try {
      await actors.act(action);
    } finally {
      await actors.close();
    }
    const after = allOutcomes(states, action);
    const next = { ...about, where, depth: depth + 1 };
    if (again) await this.#branch(random, disk, recorder.take(), [...states, ...after], next);
    const settled = settle(existsSync(path) ? readFileSync(path) : Buffer.alloc(0), after);
    if (settled.fault !== undefined) return this.faults.add("after a repair", settled.fault, where);
    if (again && durable)
      await this.#judge(random, disk, [settled.records], {
        ...next,
        where: `${where}, when done`,
        tornBefore: false,
      });
  }

  #place(): string {
    return join(this.folder, `.kvp_pool_1.${this.#files++}`);
  }
}

const depthOf = ({ depth = 0 }: About): number => depth;

interface About {
  readonly durable: boolean;
  readonly where: string;
  readonly tornBefore?: boolean;
  readonly depth?: number;
}

const said = (action: Action): string =>
  "key" in action ? `${action.kind} ${action.key.slice(0, 5)}` : action.kind;

/** What a killed appender leaves: the beginning of a record. */
function withTornTail(random: Random, records: Records): Buffer {
  const tail = fileOf([{ key: "torn", value: "tail".repeat(300) }]).subarray(
    0,
    1 + random.below(RECORD_BYTES - 1),
  );
  return Buffer.concat([fileOf(records), tail]);
}

describe("power cuts", function () {
  this.timeout(patience(SECONDS));

  it("leave every acknowledged pair to every reader, before a repair and after it", async () => {
    const campaign = new Campaign();
    const first = seed();
    try {
      while (!campaign.over) {
        const own = (first + campaign.histories) >>> 0;
        await campaign.history(random(own), `history of seed ${own}`);
      }
    } finally {
      rmSync(campaign.folder, { recursive: true, force: true });
    }
    const { cuts, kills, repairs, vendor, histories, actions, faults } = campaign;
    report("power cuts", {
      cuts,
      "kills between pages": kills,
      repairs,
      "by the vendor's": vendor,
      actions,
      histories,
      faults: `${faults}`,
    });
    expect(faults.first, `${faults}`).to.deep.equal([]);
    expect(cuts).to.be.greaterThan(isLong ? 1000 : LEAST_CUTS);
  });
});
