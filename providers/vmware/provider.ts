import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import type { VmwareProof } from "../../src/native/vmware/proof.js";
import {
  dataSetCapabilities,
  guestinfoCapabilities,
  maxValueBytesOf,
  usesOpenbsdDevice,
} from "./capabilities.js";
import { VmwareDataSetStore } from "./data-set-store.js";
import { VmwareHostctlStore } from "./hostctl.js";
import { checkVmwareOptions } from "./options.js";
import { RpciSession, type SessionParts } from "./session.js";
import { VmwareStore } from "./store.js";
import { namedSource } from "./transport/channel.js";
import type { RpcTransport } from "./transport/rpc-transport.js";
import { StreamTransport } from "./transport/stream.js";
import type { Privilege } from "./transport/vsock.js";

type CheckedVmwareOptions = ReturnType<typeof checkVmwareOptions>;

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
    return dataset === undefined
      ? guestinfoCapabilities(maxValueBytesOf(this.#host, target))
      : dataSetCapabilities();
  }

  /**
   * Opens guestinfo, or the DataSet that the options name. Transports are opened on first use.
   * @throws PvbusError `ERR_NO_INTERFACE` where this is not VMware's hardware and no channel is named, `ERR_UNAVAILABLE` where
   *   that cannot be proved; `ERR_NOT_SUPPORTED` for a channel that is none
   */
  async open(
    target: StoreTarget,
    call: Call,
    closing?: AbortSignal,
  ): Promise<VmwareStore | VmwareDataSetStore> {
    const options = checkVmwareOptions(target.options);
    call.check("the opening of the store");
    const session = new RpciSession(await this.#transports(target, options, call));
    if (options.dataset !== undefined)
      return new VmwareDataSetStore(session, options.dataset, { ...options, closing });
    const maxValueBytes = maxValueBytesOf(this.#host, target);
    return new VmwareStore(session, options, { maxValueBytes, closing });
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

  async #transports(target: StoreTarget, options: CheckedVmwareOptions, call: Call): Promise<SessionParts> {
    const { logger } = this.#host;
    const { transport, privilege } = options;
    const always = { requirePrivilege: privilege === "require", logger };
    if (target.channel !== undefined)
      return { ...always, first: new StreamTransport(namedSource(target.channel, this.#host, privilege)) };
    if (usesOpenbsdDevice(this.#host, target)) {
      const { OpenbsdDeviceTransport } = await import("./transport/openbsd-device.js");
      const first = new OpenbsdDeviceTransport();
      await first.prepare();
      return { ...always, first };
    }
    const { lookForVmware } = await import("./presence.js");
    const proof = await lookForVmware(this.#host);
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
