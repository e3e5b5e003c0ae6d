import type { Host } from "../../src/base/host/host.js";
import { openCpuid } from "../../src/native/cpu/cpuid.js";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { type NotVmware, proveVmware, type VmwareProof } from "../../src/native/vmware/proof.js";

const VENDOR_FILE = "/sys/class/dmi/id/sys_vendor";
const WINDOWS_BIOS = "HKLM\\HARDWARE\\DESCRIPTION\\System\\BIOS";
const MAX_VENDOR_BYTES = 256;

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

async function systemVendor(host: Host): Promise<string | undefined> {
  try {
    if (host.platform === "freebsd")
      return (await import("../../src/native/bsd/kenv.js")).readKenv(loadKoffi(), "smbios.system.maker");
    if (host.platform === "win32")
      return (await import("../../src/native/windows/registry.js")).readRegistry(
        loadKoffi(),
        WINDOWS_BIOS,
        "SystemManufacturer",
      );
    return host.platform === "linux"
      ? host.files.read(VENDOR_FILE, MAX_VENDOR_BYTES)?.toString("utf8").trim()
      : undefined;
  } catch {
    // No such file, or no native calls: then DMI says nothing, and CPUID alone decides.
    return undefined;
  }
}
