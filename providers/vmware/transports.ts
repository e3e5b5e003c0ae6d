import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { VmwareProof } from "../../src/native/vmware/proof.js";
import { usesOpenbsdDevice } from "./capabilities.js";
import { checkVmwareOptions } from "./options.js";
import type { SessionParts } from "./session.js";
import { namedSource } from "./transport/channel.js";
import type { RpcTransport } from "./transport/rpc-transport.js";
import { StreamTransport } from "./transport/stream.js";
import type { Privilege } from "./transport/vsock.js";

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
  const { lookForVmware } = await import("./presence.js");
  const proof = await lookForVmware(host);
  if ("refused" in proof) {
    throw pvbusError(
      proof.isLikely === true ? "ERR_UNAVAILABLE" : "ERR_NO_INTERFACE",
      `this machine shows no VMware interface: ${proof.refused}; see \`pvbus detect\`, or name a transport with ` +
        "--channel vsock:CID:PORT or unix:PATH",
    );
  }
  call.check("the opening of the store");
  return {
    ...always,
    first: transport === "vsock" || transport === "auto" ? await vsock(transport, privilege) : undefined,
    second: transport === "vsock" ? undefined : () => openMachine(proof, transport),
  };
}

/** Undefined where it is one of several transports, and not there. */
async function vsock(transport: "auto" | "vsock", privilege: Privilege): Promise<RpcTransport | undefined> {
  const { hasVsock, hostVsock } = await import("./transport/vsock.js");
  return transport === "vsock" || (await hasVsock()) ? new StreamTransport(hostVsock(privilege)) : undefined;
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

async function openLibrary(): Promise<RpcTransport> {
  return (await import("./transport/vmtools.js")).openVmtoolsTransport();
}
