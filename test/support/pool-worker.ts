/**
 * A process that works on pool Guest of a sysroot until it has done its rounds or is killed. Says on standard output
 * what it is about to do and what is done, one line each, written at once.
 *
 * usage: pool-worker.js SYSROOT PREFIX KEYS ROUNDS
 */
import { writeSync } from "node:fs";
import { openPvbus } from "../../src/index.js";
import { workerValue } from "./pool-worker-values.js";

const [sysroot = "", prefix = "", keys = "0", rounds = "0"] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);

const bus = await openPvbus({ sysroot, interfaces: [{ type: "Hyper-V" }] });
const hv = bus.primary;
if (hv === undefined) throw new Error("no interface");
say("ready");
for (let round = 0; round < Number(rounds); round++) {
  const key = `${prefix}${(round * 7) % Number(keys)}`;
  if (round % 11 === 10) {
    say(`? ${key} -`);
    await hv.delete(`Guest/${key}`);
    say(`= ${key} -`);
  } else {
    say(`? ${key} ${round}`);
    await hv.write(`Guest/${key}`, workerValue(key, round));
    say(`= ${key} ${round}`);
  }
}
say("done");
await bus.close();
