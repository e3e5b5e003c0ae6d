import { expect } from "chai";
import { KvpDeviceSimulator } from "../../providers/hyperv/testing/kvp-device/simulator.js";
import { budget, count, isLong, patience, type Random, random, report } from "../support/campaign.js";
import { whyNoAgent } from "../support/kvp-agents.js";
import { pending } from "../support/pending.js";
import { collect, PoolTree } from "../support/pools.js";
import { someAction, someRecords } from "./actors.js";
import {
  type Action,
  Allowance,
  allOutcomes,
  Faults,
  foreignFault,
  type HostAction,
  type Records,
  rawFault,
  settle,
} from "./model.js";
import { fileOf, type View, viewsOf } from "./readers.js";
import { SlowWrites } from "./slow-writes.js";
import { ApiWriter, HostWriter, Killed, type Writer } from "./writers.js";

/** Kills of each kind of writer in the full form, by hand; the others are cut by seconds. */
const WANTED = count(Infinity, Infinity);
const SECONDS = WANTED === Infinity ? budget(4, 150) : Infinity;
/** Longest pause between two pages, in microseconds. */
const PAUSE = 4000;
const LONGEST_LIFE_MS = 90;
const GUEST = 1;
const MANY = 120;
/** A pool does not live for ever: others begin otherwise. */
const LIVES_OF_A_POOL = 12;

type Kind = "API" | "daemon";

/** One pool that writers of ours are killed on, one after the other. */
class Campaign implements AsyncDisposable {
  readonly faults = new Faults();
  readonly kills: Record<Kind, number> = { API: 0, daemon: 0 };
  readonly #tree: PoolTree;
  readonly #random: Random;
  readonly #slow: SlowWrites;
  readonly #simulator: KvpDeviceSimulator | undefined;
  #states: readonly Records[] = [[]];
  #lives = 0;
  #spare: ApiWriter | undefined;
  inFlight = 0;
  inRepair = 0;
  repairs = 0;
  vendor = 0;
  actions = 0;

  constructor(random: Random, slow: SlowWrites, simulator: KvpDeviceSimulator | undefined, tree: PoolTree) {
    this.#random = random;
    this.#slow = slow;
    this.#simulator = simulator;
    this.#tree = tree;
    this.#begin();
  }

  /** A new pool. */
  #begin(records: Records = someRecords(this.#random, MANY)): void {
    this.#tree.put(GUEST, fileOf(records));
    this.#states = [records];
    this.#lives = 0;
  }

  /** One writer's life and what it leaves. */
  async round(kind: Kind, at: number): Promise<void> {
    if (++this.#lives > LIVES_OF_A_POOL) this.#begin();
    const random = this.#random;
    const writer = await this.#start(kind);
    let where = `round ${at}, ${kind}`;
    let timer: NodeJS.Timeout | undefined;
    const killSoon = (): void => {
      timer = setTimeout(() => writer.kill(), 1 + random() * LONGEST_LIFE_MS);
    };
    // Some die while they repair.
    const early = random() < 0.15;
    let flying: Action | undefined;
    let repaired = false;
    try {
      if (early) killSoon();
      await writer.ready();
      for (let first = true; ; first = false) {
        const action = this.#action(kind, first && kind === "daemon");
        const before = this.#states;
        const after = allOutcomes(before, action);
        flying = action;
        this.#states = [...before, ...after];
        const answer = await writer.act(action);
        this.actions++;
        flying = undefined;
        this.#states = after;
        if (!repaired) {
          repaired = true;
          this.repairs++;
          if (!this.#settled(`${where}, repaired by ${kind} ${said(action)}`)) return;
          if (!early) killSoon();
        }
        const fault = answerFault(answer, action, before);
        if (fault !== undefined) this.faults.add("acknowledged", fault, `${where} ${said(action)}`);
      }
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    } finally {
      clearTimeout(timer);
      writer.kill();
      await writer.ended;
    }
    this.kills[kind]++;
    if (flying !== undefined) {
      this.inFlight++;
      where += ` killed in ${said(flying)}`;
    }
    if (!repaired) this.inRepair++;
    if (!(await this.#judge(where))) return;
    if (this.#simulator !== undefined && random() < 0.1 && whyNoAgent("vendor") === undefined)
      await this.#vendorsTurn(where);
  }

  async #start(kind: Kind): Promise<Writer> {
    const env = this.#slow.environment({ pause: PAUSE });
    if (kind === "daemon") return HostWriter.start(this.#simulator as KvpDeviceSimulator, "ours", env);
    const writer = this.#spare ?? new ApiWriter(this.#tree.sysroot, env);
    // It opens nothing before it is asked to, so the next one may start meanwhile.
    this.#spare = new ApiWriter(this.#tree.sysroot, env);
    return writer;
  }

  /** Returns an action of the kind of writer. */
  #action(kind: Kind, start: boolean): Action {
    if (start) return { kind: "start" };
    const records = this.#states[0] as Records;
    for (;;) {
      const action = someAction(this.#random, records);
      const isHosts = action.kind === "set" || action.kind === "unset" || action.kind === "start";
      if (isHosts === (kind === "daemon") && action.kind !== "start") return action;
    }
  }

  /** Compares a file that has just been repaired with what it may be, and goes on with what it is. */
  #settled(where: string): boolean {
    const settled = settle(this.#tree.get(GUEST), this.#states);
    if (settled.fault === undefined) {
      this.#states = [settled.records];
      return true;
    }
    this.faults.add("after a repair", settled.fault, where);
    this.#begin();
    return false;
  }

  /** Judges a file as a kill leaves it. */
  async #judge(where: string): Promise<boolean> {
    const file = this.#tree.get(GUEST);
    const views = [...viewsOf(file, "clean"), await this.#ourView()];
    const fault = rawFault(file, this.#states, views);
    if (fault === undefined) return true;
    this.faults.add("before a repair", fault, where);
    this.#begin();
    return false;
  }

  async #ourView(): Promise<View> {
    const hv = await this.#tree.open();
    const pairs = new Map<string, string>();
    try {
      for (const { key, value } of await collect(hv.list("Guest"))) {
        const name = key.slice("Guest/".length);
        if (pairs.has(name)) return { reader: "ours", pairs, refusal: `lists ${name} twice` };
        pairs.set(name, value ?? "");
      }
      for (const name of [...pairs.keys()].slice(-3)) {
        if ((await hv.read(`Guest/${name}`)) !== pairs.get(name))
          return { reader: "ours", pairs, refusal: `reads another value of ${name} than it lists` };
      }
    } catch (error) {
      return { reader: "ours", pairs, refusal: String(error) };
    } finally {
      await hv.close();
    }
    return { reader: "ours", pairs };
  }

  /** The vendor's daemon comes first after a kill: nothing acknowledged is lost for it, nor by it. */
  async #vendorsTurn(where: string): Promise<void> {
    this.vendor++;
    const simulator = this.#simulator as KvpDeviceSimulator;
    const writer = await HostWriter.start(simulator, "vendor");
    let change: HostAction = { kind: "start" };
    try {
      await writer.ready();
      const pairs = new Map((await simulator.list(GUEST)).map(({ key, value }) => [key, value]));
      pairs.delete("");
      const fault = new Allowance(this.#states).faultOfView({ reader: "host", pairs });
      if (fault !== undefined) return this.faults.add("the vendor's daemon next", fault, where);
      change = this.#action("daemon", false) as HostAction;
      await writer.act(change);
      where += `, then the vendor's ${said(change)}`;
    } finally {
      writer.kill();
      await writer.ended;
    }
    const next = await this.#start("API");
    try {
      const changed = foreignFault(this.#tree.get(GUEST), this.#states, change, false);
      if (changed !== undefined) return this.faults.add("after the vendor's daemon", changed, where);
      await next.ready();
      await next.act({ kind: "scrub" });
      const left = foreignFault(this.#tree.get(GUEST), this.#states, change, true);
      if (left !== undefined) this.faults.add("repaired after the vendor's daemon", left, where);
    } finally {
      next.kill();
      await next.ended;
      // It does not know of copies: what is exact from here on would have to be guessed.
      this.#begin();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#spare?.kill();
    await this.#spare?.ended;
  }
}

function said(action: Action): string {
  return "key" in action ? `${action.kind} ${action.key.slice(0, 5)}` : action.kind;
}

function answerFault(
  answer: boolean | undefined,
  action: Action,
  before: readonly Records[],
): string | undefined {
  if (answer === undefined || !("key" in action)) return undefined;
  const there = new Set(before.map((records) => records.some(({ key }) => key === action.key)));
  if (there.size > 1) return undefined;
  return answer === (there.has(true) !== (action.kind === "insert")) ? undefined : `wrong answer: ${answer}`;
}

describe("kills", function () {
  this.timeout(patience(SECONDS));

  for (const kinds of [["API"], ["API", "daemon"]] as const) {
    it(`of ${kinds.join(" and ")}, between any two pages, lose nothing`, async function () {
      const needsDevice = kinds.some((kind) => kind === "daemon");
      const why = needsDevice ? whyNoAgent("ours") : undefined;
      if (why !== undefined) pending(this, why);
      await using tree = new PoolTree();
      const slow = SlowWrites.compile(tree.sysroot);
      if (typeof slow === "string") return pending(this, slow);
      const simulator = needsDevice
        ? await KvpDeviceSimulator.start({ directory: tree.directory })
        : undefined;
      const own = random();
      const campaign = new Campaign(own, slow, simulator, tree);
      const began = performance.now();
      const seconds = (SECONDS * kinds.length) / 3;
      try {
        for (let round = 0; ; round++) {
          const done = Math.min(...kinds.map((kind) => campaign.kills[kind]));
          // A busy machine may need longer to see any kill hit an action, and any page written slowly.
          const isSeen = campaign.inFlight > 0 && slow.counts.pages > campaign.actions;
          const over = performance.now() - began > seconds * 1000 && isSeen;
          if (done >= WANTED || over) break;
          await campaign.round(own.pick(kinds), round);
        }
      } finally {
        await campaign[Symbol.asyncDispose]();
        await simulator?.close();
      }
      const { kills, inFlight, inRepair, repairs, vendor, actions, faults } = campaign;
      const { pages } = slow.counts;
      report(`kills of ${kinds.join(" and ")}`, {
        "kills of API": kills.API,
        "of daemon": kills.daemon,
        "in flight": inFlight,
        "before it was repaired": inRepair,
        repairs,
        "by the vendor's": vendor,
        actions,
        "pages written slowly": pages,
        faults: `${faults}`,
      });
      expect(faults.first, `${faults}`).to.deep.equal([]);
      expect(pages, "pages that went through the slowing library").to.be.greaterThan(actions);
      expect(inFlight, "kills that hit an action").to.be.greaterThan(isLong ? 30 : 0);
    });
  }
});
