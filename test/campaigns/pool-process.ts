/**
 * A process that does with pool Guest of a sysroot, through the public API, what it is told on standard input, a line of JSON
 * each, and says on standard output what came of it, a line each.
 *
 * usage: pool-process.js SYSROOT [OPTIONS]
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import type { HypervStore } from "../../providers/hyperv/store.js";
import { Call, openPvbus } from "../../src/index.js";
import type { ApiAction } from "./model.js";

const [sysroot = "", options = "{}"] = process.argv.slice(2);
const bus = await openPvbus({
  sysroot,
  interfaces: [{ type: "Hyper-V", options: { wideLimits: true, ...JSON.parse(options) } }],
});
const hv = bus.primary;
if (hv === undefined) throw new Error("no interface");
const store = await hv.store<HypervStore>();

async function act(action: ApiAction): Promise<boolean | undefined> {
  switch (action.kind) {
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
