import { dmiField, firmwareText, NO_FOREIGN_SOURCES } from "../../src/base/firmware/dmi.js";
import { fileText } from "../../src/base/firmware/fact.js";
import type { Host } from "../../src/base/host/host.js";
import { openCpuid } from "../../src/native/cpu/cpuid.js";
import { type NotVmware, proveVmware, type VmwareProof } from "../../src/native/vmware/proof.js";

/**
 * Looks whether this very process runs on VMware's hardware. A captured tree or a machine that a test makes up never does:
 * its port is this machine's.
 */
export async function lookForVmware(host: Host): Promise<VmwareProof | NotVmware> {
  if (host.sysroot !== undefined) return { refused: "a captured tree has no hypervisor" };
  if (host.platform !== process.platform || host.arch !== process.arch)
    return { refused: "the host stands for another machine than the one that this runs on" };
  return proveVmware({ arch: host.arch, cpuid: openCpuid(), systemVendor: await systemVendor(host) });
}

/** Empty where nothing can be read: then CPUID alone decides. */
async function systemVendor(host: Host): Promise<string> {
  const foreign =
    host.platform === "linux"
      ? NO_FOREIGN_SOURCES
      : (await import("../../src/native/foreign-sources.js")).foreignSources(host.platform);
  const dmi = (field: string) => dmiField(foreign, field, (path) => fileText(host, path));
  return firmwareText({ ...foreign, dmi }, "sys_vendor").text;
}
