import { PvbusError, pvbusError } from "../../src/base/errors.js";
import { dmiField, firmwareText, NO_FOREIGN_SOURCES } from "../../src/base/firmware/dmi.js";
import { fileText } from "../../src/base/firmware/fact.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import type { NotVmware, VmwareProof } from "../../src/native/vmware/proof.js";
import { usesOpenbsdDevice } from "./capabilities.js";
import { checkVmwareOptions } from "./options.js";
import type { SessionParts } from "./session.js";
import type { RpcTransport } from "./transport/rpc-transport.js";
import { hasVsock, hostVsock, namedSource } from "./transport/sources.js";
import { StreamTransport } from "./transport/stream.js";

/** Chooses the transports of a session. @throws PvbusError `ERR_NO_INTERFACE`, `ERR_UNAVAILABLE`, `ERR_NOT_SUPPORTED` */
export type OpenTransports = (host: Host, target: StoreTarget, call: Call) => Promise<SessionParts>;

/** Token of the function that chooses the transports: vsock, the backdoor, the vendor's library, OpenBSD's device. */
export const VMWARE_TRANSPORTS: Token<OpenTransports> = Symbol.for("pvbus.vmware.Transports");

/**
 * Chooses the transports of a session: the channel that the target names, OpenBSD's device, else what VMware's hardware has as
 * the settings want it. They are opened on first use.
 * @throws PvbusError `ERR_NO_INTERFACE` where this is not VMware's hardware, `ERR_UNAVAILABLE` where that cannot be proved;
 *   `ERR_NOT_SUPPORTED` for a channel that is none
 */
export async function openTransports(host: Host, target: StoreTarget, call: Call): Promise<SessionParts> {
  const { transport, privilege } = checkVmwareOptions(target.options);
  const always = { requirePrivilege: privilege === "require", logger: host.logger };
  if (target.channel !== undefined)
    return { ...always, first: new StreamTransport(namedSource(target.channel, host, privilege)) };
  if (usesOpenbsdDevice(host, target)) {
    const { OpenbsdDeviceTransport } = await import("./transport/openbsd-device.js");
    const first = new OpenbsdDeviceTransport();
    await first.prepare();
    return { ...always, first };
  }
  const proof = await lookForVmware(host);
  if ("refused" in proof) {
    throw pvbusError(
      proof.isLikely === true ? "ERR_UNAVAILABLE" : "ERR_NO_INTERFACE",
      `this machine shows no VMware interface: ${proof.refused}; see \`pvbus detect\`, or name a transport with ` +
        "--channel vsock:CID:PORT or unix:PATH",
    );
  }
  call.check("the opening of the store");
  const usesVsock = transport === "vsock" || (transport === "auto" && (await hasVsock()));
  return {
    ...always,
    first: usesVsock ? new StreamTransport(hostVsock(privilege)) : undefined,
    second: transport === "vsock" ? undefined : () => openMachine(proof, transport),
  };
}

/** The backdoor, and where that cannot be had the vendor's library. */
async function openMachine(
  proof: VmwareProof,
  transport: "auto" | "backdoor" | "libvmtools",
): Promise<RpcTransport> {
  if (transport === "libvmtools") return openLibrary();
  try {
    return await (await import("./transport/backdoor.js")).openBackdoorTransport(proof);
  } catch (error) {
    if (transport === "backdoor" || !PvbusError.is(error)) throw error;
    // What the backdoor lacks is the reason that counts where there is no library either.
    return openLibrary().catch(() => Promise.reject(error));
  }
}

const openLibrary = async () => (await import("./transport/vmtools.js")).openVmtoolsTransport();

/**
 * Looks whether this very process runs on VMware's hardware. A captured tree or a machine that a test makes up never does:
 * its port is this machine's.
 */
export async function lookForVmware(host: Host): Promise<VmwareProof | NotVmware> {
  if (host.sysroot !== undefined) return { refused: "a captured tree has no hypervisor" };
  if (host.platform !== process.platform || host.arch !== process.arch)
    return { refused: "the host stands for another machine than the one that this runs on" };
  const { openCpuid } = await import("../../src/native/cpu/cpuid.js");
  const { proveVmware } = await import("../../src/native/vmware/proof.js");
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
