import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { VmwareProof } from "../../src/native/cpu/vmware-proof.js";
import { namedSource } from "./channel-name.js";
import { VmwareDataSetStore } from "./data-set-store.js";
import { VmwareHostctlStore } from "./kernel-store.js";
import { dataSetCapabilities, guestinfoCapabilities, KERNEL_VALUE_BYTES } from "./limits.js";
import { GUESTRPC_RPCI_VSOCK_LISTEN_PORT, VMX_CID, VsockSource } from "./link.js";
import { checkVmwareOptions, type VmwareOptions } from "./options.js";
import { lookForVmware } from "./presence.js";
import { MAX_VALUE_BYTES } from "./rpci.js";
import { RpciSession, type SessionParts } from "./session.js";
import { VmwareStore } from "./store.js";
import { StreamTransport } from "./stream-transport.js";
import type { RpcTransport } from "./transport.js";

/** Serves VMware's guestinfo from inside the guest: over vsock, the backdoor, VMware's library, OpenBSD's kernel. */
export class VmwareProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "vmware";
  /** Type string of pvbus(4). */
  readonly type = "VMware";
  readonly #host: Host;

  /** @param host the machine to work on */
  constructor(host: Host) {
    this.#host = host;
  }

  /** What guestinfo, or the DataSet that the options name, can do. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    const { dataset } = checkVmwareOptions(target.options);
    return dataset === undefined ? guestinfoCapabilities(this.#maxValueBytes(target)) : dataSetCapabilities();
  }

  /**
   * Opens guestinfo, or the DataSet that the options name. Ways are opened on first use.
   * @throws PvbusError `ERR_NO_INTERFACE` where this is not VMware's hardware and no channel is named, `ERR_UNAVAILABLE` where
   *   that cannot be proved; `ERR_NOT_SUPPORTED` for a channel that is none
   */
  async open(target: StoreTarget, call: Call): Promise<VmwareStore | VmwareDataSetStore> {
    const options = checkVmwareOptions(target.options);
    call.check("the opening of the store");
    const session = new RpciSession(await this.#ways(target, options, call));
    if (options.dataset !== undefined) return new VmwareDataSetStore(session, options.dataset, options);
    return new VmwareStore(session, options, this.#maxValueBytes(target));
  }

  /** Checks the hardware, vsock with its privileged ports, the backdoor and native calls. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseVmware } = await import("./diagnose.js");
    return diagnoseVmware(this.#host, target);
  }

  /** guestinfo as OpenBSD's kernel serves it. @throws PvbusError `ERR_NOT_SUPPORTED` for a DataSet */
  hostctlStore(store: ProviderStore): HostctlStore {
    if (store instanceof VmwareStore) return new VmwareHostctlStore(store);
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      "OpenBSD's kernel has no call for DataSets; leave the option dataset out",
    );
  }

  #maxValueBytes({ channel }: StoreTarget): number {
    const inKernel =
      channel === undefined && this.#host.sysroot === undefined && this.#host.platform === "openbsd";
    return inKernel ? KERNEL_VALUE_BYTES : MAX_VALUE_BYTES;
  }

  async #ways({ channel }: StoreTarget, options: VmwareOptions, call: Call): Promise<SessionParts> {
    const { logger } = this.#host;
    const { transport = "auto", privilege = "prefer" } = options;
    const requirePrivilege = privilege === "require";
    if (channel !== undefined) {
      const first = new StreamTransport(namedSource(channel, this.#host, privilege));
      return { first, requirePrivilege, logger };
    }
    if (this.#host.platform === "openbsd" && this.#host.sysroot === undefined) {
      const { KernelTransport } = await import("./kernel-transport.js");
      const kernel = new KernelTransport();
      await kernel.prepare();
      return { first: kernel, requirePrivilege, logger };
    }
    const proof = await lookForVmware(this.#host);
    if (!VmwareProof.is(proof)) {
      throw pvbusError(
        proof.isLikely === true ? "ERR_UNAVAILABLE" : "ERR_NO_INTERFACE",
        `this machine shows no VMware interface: ${proof.refused}; see \`pvbus detect\`, or name a transport with ` +
          "--channel vsock:CID:PORT or unix:PATH",
      );
    }
    call.check("the opening of the store");
    return {
      first:
        transport === "vsock" || (transport === "auto" && (await hasVsock())) ? vsock(privilege) : undefined,
      second: transport === "vsock" ? undefined : () => openMachine(proof, transport),
      requirePrivilege,
      logger,
    };
  }
}

function vsock(privilege: NonNullable<VmwareOptions["privilege"]>): RpcTransport {
  return new StreamTransport(new VsockSource(VMX_CID, GUESTRPC_RPCI_VSOCK_LISTEN_PORT, privilege));
}

async function hasVsock(): Promise<boolean> {
  return (await import("../../src/native/posix/vsock.js")).hasVmciTransport();
}

/** The backdoor, and where that cannot be had the vendor's library. */
async function openMachine(
  proof: VmwareProof,
  transport: "auto" | "backdoor" | "libvmtools",
): Promise<RpcTransport> {
  if (transport === "libvmtools") return openLibrary();
  try {
    const { openBackdoor } = await import("../../src/native/cpu/backdoor.js");
    const { BackdoorTransport } = await import("./backdoor-transport.js");
    return new BackdoorTransport(openBackdoor(proof));
  } catch (error) {
    if (transport === "backdoor" || !PvbusError.is(error)) throw error;
    // What the backdoor lacks is the reason that counts where there is no library either.
    return openLibrary().catch(() => Promise.reject(error));
  }
}

async function openLibrary(): Promise<RpcTransport> {
  const { openVmtools } = await import("../../src/native/vmware/vmtools.js");
  const { VmtoolsTransport } = await import("./vmtools-transport.js");
  return new VmtoolsTransport(openVmtools());
}
