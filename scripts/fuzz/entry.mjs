// What the guided fuzzer loads: the target PVBUS_FUZZ_TARGET of the module PVBUS_FUZZ_MODULE.
import { attempt } from "../../dist/test/fuzz/target.js";

const { PVBUS_FUZZ_MODULE: module, PVBUS_FUZZ_TARGET: wanted } = process.env;
const lists = Object.values(await import(`../../dist/test/fuzz/targets/${module}.js`));
const target = lists.flat().find(({ name }) => name === wanted);
if (target === undefined) throw new Error(`${module} has no target ${wanted}`);

/** Feeds the target once. */
export function fuzz(data) {
  return attempt(target, data);
}
