/**
 * A process that does with pool Guest of a sysroot, through the public API, what it is told on standard input, a line of JSON
 * each, and says on standard output what came of it, a line each.
 *
 * usage: pool-process.js SYSROOT [OPTIONS]
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { HypervStore } from "../../providers/hyperv/store.js";
import { Call, openPvbus } from "../../src/index.js";
import type { MixedResult } from "./mixed.js";
import type { ApiAction } from "./model.js";

const [sysroot = "", options = "{}"] = process.argv.slice(2);
const bus = await openPvbus({
  sysroot,
  interfaces: [{ type: "Hyper-V", options: { wideLimits: true, ...JSON.parse(options) } }],
});
const hv = bus.primary;
if (hv === undefined) throw new Error("no interface");
const store = await hv.store<HypervStore>();

/** What it may be asked beside single changes. */
type Request = ApiAction | { kind: "list" } | { kind: "burst"; keys: string[]; moves: boolean; ms: number };

/**
 * Changes own keys that are there for so long: by new values in place, or by taking one away and adding it again, which moves
 * everything behind it and leaves the length.
 */
async function burst(keys: readonly string[], moves: boolean, ms: number): Promise<MixedResult> {
  const own = new Map<string, string>();
  const faults: string[] = [];
  let actions = 0;
  for (const end = performance.now() + ms; performance.now() < end; actions++) {
    if (moves && actions === keys.length) break;
    // The last one first: the fewer records it moves, the sooner it is done.
    const key = keys.at(-1 - (actions % keys.length)) as string;
    if (moves && !(await hv?.delete(`Guest/${key}`))) faults.push(`${key} was gone`);
    own.set(key, `${key}=${actions}`);
    await hv?.write(`Guest/${key}`, `${key}=${actions}`);
    if (Math.random() < 0.2) await sleep(1);
  }
  return { actions, faults, own: Object.fromEntries(own), slowest: ["", 0] };
}

async function list(): Promise<[string, string][]> {
  const pairs: [string, string][] = [];
  for await (const { key, value } of hv?.list("Guest") ?? [])
    pairs.push([key.slice("Guest/".length), value ?? ""]);
  return pairs;
}

async function act(action: Request): Promise<unknown> {
  switch (action.kind) {
    case "list":
      return list();
    case "burst":
      return burst(action.keys, action.moves, action.ms);
    case "write":
      await hv?.write(`Guest/${action.key}`, action.value);
      return undefined;
    case "insert":
      return store.insert(`Guest/${action.key}`, Buffer.from(action.value), new Call());
    case "delete":
      return hv?.delete(`Guest/${action.key}`);
    case "scrub":
      await store.scrub("Guest", new Call());
      return undefined;
  }
}

const say = (what: object): void => void writeSync(1, `${JSON.stringify(what)}\n`);
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    say({ answer: await act(JSON.parse(line)) });
  } catch (error) {
    say({ failure: String(error) });
  }
}
await bus.close();
