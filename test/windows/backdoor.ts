import { spawnSync } from "node:child_process";
import { expect } from "chai";
import { openBackdoor } from "../../src/native/vmware/backdoor.js";
import { proveVmware, VmwareProof } from "../../src/native/vmware/proof.js";
import { describeMachineCode } from "../support/machine-code.js";
import { rejects } from "../support/rejects.js";
import { cpuidOf } from "../support/vmware.js";

/*
 * Runs on Windows on anything but VMware, or in wine as backdoor.test.ts has it done.
 */

describe("VMware machine code on Windows", () => {
  describeMachineCode();

  it("is looked for under a handler of its own: a fault of the port ends nothing", async () => {
    const proof = proveVmware({ arch: "x64", cpuid: cpuidOf("VMwareVMware"), systemVendor: undefined });
    expect(VmwareProof.is(proof)).to.equal(true);
    for (let round = 0; round < 3; round++) {
      const error = await rejects((async () => openBackdoor(proof as VmwareProof))(), "ERR_UNAVAILABLE");
      expect(error.message).to.include("in: the instruction faults");
    }
  });

  it("leaves other faults to whom they belong: a child that uses the port without us dies alone", () => {
    const { status } = spawnSync(process.execPath, ["-e", "process.exit(7)"]);
    expect(status).to.equal(7);
  });
});
