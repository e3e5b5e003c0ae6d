/**
 * Looks for VMware's backdoor again and again, each time in a child as the first look does. Prints a line when it begins, one
 * for each signal that it handles, and how often it looked when a line comes in.
 */
import { writeSync } from "node:fs";
import type { Koffi } from "../../src/native/ffi/koffi.js";
import { openBackdoor } from "../../src/native/vmware/backdoor.js";
import { proveVmware, VmwareProof } from "../../src/native/vmware/proof.js";
import { cpuidOf } from "./vmware.js";
import { watchedKoffi } from "./watched-koffi.js";

const proof = proveVmware({ arch: "x64", cpuid: cpuidOf("VMwareVMware"), systemVendor: undefined });
if (!VmwareProof.is(proof)) throw new Error(proof.refused);
for (const signal of ["SIGUSR2", "SIGWINCH", "SIGHUP"] as const)
  process.on(signal, () => writeSync(1, `${signal}\n`));
/** Two, since the outcome of a look is kept for one; without files in memory, which take longer than the look. */
const koffis = [0, 1].map(() =>
  watchedKoffi((declaration, declare) =>
    declaration.startsWith("int memfd_create(") ? () => -1 : declare(declaration),
  ),
);
let looks = 0;
let ending = false;

function look(): void {
  try {
    openBackdoor(proof as VmwareProof, () => koffis[looks % 2] as Koffi);
  } catch {
    // No machine of VMware's answers here.
  }
  looks++;
  if (!ending) setImmediate(look);
}

process.stdin.once("data", () => {
  ending = true;
  // What was sent before is handed over within this turn and the next.
  setImmediate(() =>
    setImmediate(() => {
      writeSync(1, `${looks}\n`);
      process.exit(0);
    }),
  );
});
writeSync(1, "ready\n");
look();
