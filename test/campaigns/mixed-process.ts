/**
 * A process that works through the public API on pool Guest of a sysroot beside others, and looks at what it knows: its own keys
 * (prefix), keys that nobody changes (`stable`), and keys that all change (`shared`). Prints one line of JSON in the end.
 *
 * usage: mixed-process.js SYSROOT PREFIX SECONDS SEED PAUSE_MS
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { HypervStore } from "../../providers/hyperv/store.js";
import { Call, openPvbus } from "../../src/index.js";
import { random as randomOf } from "../support/campaign.js";
import type { MixedResult } from "./mixed.js";
import { SHARED_KEYS, STABLE_KEYS, sharedValue, stableValue } from "./mixed.js";
import { newValue } from "./pairs.js";

const OWN_KEYS = 14;
const [sysroot = "", prefix = "", seconds = "1", seed = "0", pause = "0"] = process.argv.slice(2);
const random = randomOf(Number(seed));
const bus = await openPvbus({
  sysroot,
  interfaces: [{ type: "Hyper-V", options: { wideLimits: true } }],
});
const hv = bus.primary;
if (hv === undefined) throw new Error("no interface");
const store = await hv.store<HypervStore>();

const own = new Map<string, string>();
/** The highest number of each writer that was seen under each shared key. */
const seen = new Map<string, number>();
const faults: string[] = [];
let actions = 0;
let slowest: [string, number] = ["", 0];

const expect = (fine: boolean, fault: () => string): void => {
  if (!fine && faults.length < 20) faults.push(`${prefix} ${actions}: ${fault()}`);
};

function checkShared(key: string, value: string | undefined): void {
  const [, writer = "", number = ""] = /^(\w+) (\d+) /.exec(value ?? "") ?? [];
  if (value === undefined) return;
  expect(sharedValue(writer, Number(number)) === value, () => `${key} is garbled: ${value.slice(0, 30)}`);
  const name = `${key} ${writer}`;
  expect(Number(number) >= (seen.get(name) ?? 0), () => `${key} went back to ${writer} ${number}`);
  seen.set(name, Math.max(seen.get(name) ?? 0, Number(number)));
}

async function list(): Promise<void> {
  const pairs = new Map<string, string | undefined>();
  for await (const { key, value } of hv?.list("Guest") ?? []) {
    const name = key.slice("Guest/".length);
    expect(!pairs.has(name), () => `${name} was listed twice`);
    pairs.set(name, value);
  }
  for (let at = 0; at < STABLE_KEYS; at++)
    expect(
      pairs.get(`stable${at}`) === stableValue(at),
      () => `a listing has stable${at} as ${pairs.get(`stable${at}`)?.slice(0, 20)}`,
    );
  for (const [key, value] of own) expect(pairs.get(key) === value, () => `a listing has not ${key}`);
  for (const [key, value] of pairs) {
    if (key.startsWith("shared")) checkShared(key, value);
    if (key.startsWith(prefix)) expect(own.has(key), () => `${key} came back`);
  }
}

let number = 0;
async function one(): Promise<string> {
  const dice = random();
  const key = `${prefix}${random.below(OWN_KEYS)}`;
  const value = newValue(random, key, ++number);
  if (dice < 0.3) {
    own.delete(key);
    await hv?.write(`Guest/${key}`, value);
    own.set(key, value);
    return "write";
  }
  if (dice < 0.4) {
    const isNew = await store.insert(`Guest/${key}`, Buffer.from(value), new Call());
    expect(isNew === !own.has(key), () => `insert of ${key} said ${isNew}`);
    if (isNew) own.set(key, value);
    return "insert";
  }
  if (dice < 0.55) {
    const was = await hv?.delete(`Guest/${key}`);
    expect(was === own.has(key), () => `delete of ${key} said ${was}`);
    own.delete(key);
    return "delete";
  }
  if (dice < 0.75) {
    const read = await hv?.read(`Guest/${key}`);
    expect(read === own.get(key), () => `${key} is ${read?.slice(0, 20)}, not ${own.get(key)?.slice(0, 20)}`);
    return "read";
  }
  const shared = `shared${random.below(SHARED_KEYS)}`;
  if (dice < 0.85) {
    await hv?.write(`Guest/${shared}`, sharedValue(prefix, number));
    return "write";
  }
  if (dice < 0.93) {
    checkShared(shared, await hv?.read(`Guest/${shared}`));
    return "read";
  }
  await list();
  return "list";
}

const end = performance.now() + Number(seconds) * 1000;
while (performance.now() < end) {
  const began = performance.now();
  const verb = await one();
  const took = performance.now() - began;
  if (took > slowest[1]) slowest = [verb, took];
  actions++;
  const rest = random() * Number(pause);
  if (rest > 0) await sleep(rest);
}
const result: MixedResult = { actions, faults, own: Object.fromEntries(own), slowest };
console.log(JSON.stringify(result));
await bus.close();
