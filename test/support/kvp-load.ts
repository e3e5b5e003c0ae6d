import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeRecord, RECORD_SIZE } from "../../providers/hyperv/protocol/record.js";
import { KvpDeviceSimulator, KvpDriverAnswer } from "../../providers/hyperv/testing/kvp-device/simulator.js";
import { random, repeat } from "./campaign.js";
import { startAgent, type Who } from "./kvp-agents.js";
import { pairsOf } from "./pools.js";

const KEYS = 40;
/** Value lengths: many lie within a page, some cross its border. */
const LENGTHS = [1, 30, 300, 1000, 1500, 2040];

/** What killing a daemon again and again did. */
export interface KillResult {
  readonly kills: number;
  /** Kills that hit a request at hand. */
  readonly inFlight: number;
  /** Kills after which the pool lacked something that had been acknowledged, or held half a record. */
  readonly damaged: number;
  /** How, for the first ones. */
  readonly how: readonly string[];
}

function loadValue(key: number, round: number): string {
  const length = LENGTHS[(key + round) % LENGTHS.length] as number;
  return `${key}.${round}.`.padEnd(length, String.fromCharCode(97 + (round % 26)));
}

/** How long daemons are killed. */
export interface KillOptions {
  /** Time for it. */
  readonly seconds: number;
  /** Kills on a machine too busy to do so many in time. */
  readonly atLeast: number;
  /** Records that fill the pool before and must stay. */
  readonly records: number;
  /** Ends with the first loss. */
  readonly untilDamaged?: boolean;
}

/**
 * Kills a daemon under the host's load at random moments and looks at the pool each time, as a reader does: the last of
 * duplicates counts.
 */
export async function killUnderLoad(
  who: Who,
  { seconds, atLeast, records, untilDamaged = false }: KillOptions,
): Promise<KillResult> {
  const chance = random();
  await using simulator = await KvpDeviceSimulator.start();
  const path = join(simulator.directory, ".kvp_pool_0");
  const filling = Array.from({ length: records }, (_, at) =>
    encodeRecord({ key: Buffer.from(`filling ${at}`), value: Buffer.from("f".repeat(1 + (at % 1000))) }),
  );
  const how: string[] = [];
  let [inFlight, damaged, round] = [0, 0, 0];
  let known = new Map<string, string | undefined>();
  writeFileSync(path, Buffer.concat(filling));
  const step = async (kill: number): Promise<boolean> => {
    const agent = await startAgent(simulator, who);
    const timer = setTimeout(() => agent.child.kill("SIGKILL"), 5 + chance() * 60);
    let pending: [string, string | undefined] | undefined;
    try {
      for (;;) {
        const at = chance.below(KEYS);
        const key = `key ${at}`;
        const value = known.get(key) !== undefined && chance() < 0.2 ? undefined : loadValue(at, ++round);
        pending = [key, value];
        const status = await (value === undefined ? simulator.delete(0, key) : simulator.set(0, key, value));
        if (status !== 0) throw new Error(`${who} refused ${key}: 0x${status.toString(16)}`);
        known.set(key, value);
        pending = undefined;
      }
    } catch (error) {
      if (!(error instanceof KvpDriverAnswer)) throw error;
      if (error.why === "not registered") pending = undefined;
    }
    clearTimeout(timer);
    await agent.ended;
    if (pending !== undefined) inFlight++;

    const bytes = readFileSync(path);
    const found = new Map(pairsOf(bytes).filter(([key]) => key !== ""));
    const fault = faultOf(bytes.length, found, known, pending, records);
    if (fault !== undefined) {
      damaged++;
      if (how.length < 5) how.push(`kill ${kill}: ${fault}`);
      // Begin anew: one loss must not be counted again.
      writeFileSync(path, Buffer.concat(filling));
      known = new Map();
    } else if (pending !== undefined) known.set(pending[0], found.get(pending[0]));
    return untilDamaged && damaged > 0;
  };
  const kills = await repeat(seconds, step, atLeast);
  return { kills, inFlight, damaged, how };
}

function faultOf(
  size: number,
  found: ReadonlyMap<string, string>,
  known: ReadonlyMap<string, string | undefined>,
  pending: [string, string | undefined] | undefined,
  records: number,
): string | undefined {
  // A torn tail counts for nothing and so is no damage by itself.
  const filling = [...found.keys()].filter((key) => key.startsWith("filling")).length;
  if (filling !== records)
    return `${records - filling} of ${records} untouched records gone, ${size} bytes (${size / RECORD_SIZE} records)`;
  for (const [key, value] of known) {
    const now = found.get(key);
    if (key === pending?.[0] ? now === value || now === pending[1] : now === value) continue;
    return `${key} is ${JSON.stringify(now?.slice(0, 20))} (${now?.length}) instead of ${JSON.stringify(value?.slice(0, 20))} (${value?.length})`;
  }
  return undefined;
}
