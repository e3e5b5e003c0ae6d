import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { LxdStore } from "./store.js";

/** Longest wait for the daemon. */
const ANSWER_MS = 5_000;

/** Checks the guest API, from its socket to a listing. Never throws for a machine's state. */
export async function diagnoseLxd(open: (call: Call) => Promise<LxdStore>): Promise<readonly Diagnosis[]> {
  const what = "the guest API answers";
  const call = new Call({ timeoutMs: ANSWER_MS });
  let store: LxdStore | undefined;
  try {
    store = await open(call);
    const { type, location } = store.instance;
    const kind = type === "container" ? "a container" : "a virtual machine";
    const checks: Diagnosis[] = [
      { what, works: true, why: `this is ${kind}, on ${location || "an unnamed host"}` },
    ];
    const keys = await store.keys(call);
    checks.push({ what: "keys can be listed", works: true, why: `${keys.length} are visible` });
    return checks;
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    const fix = error.code === "ERR_PERMISSION" ? "sudo pvbus ls -t LXD" : undefined;
    return [
      { what: store === undefined ? what : "keys can be listed", works: false, why: error.message, fix },
    ];
  } finally {
    await store?.close();
  }
}
