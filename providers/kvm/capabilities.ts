import type { Host } from "../../src/base/host/host.js";
import { putEntry } from "../../src/base/own.js";
import { type Capabilities, NO_CAPABILITIES, type Verbs } from "../../src/contract/capabilities.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import type { ShareableTransport } from "../../src/mdata/client/client.js";
import { type CompleteOptions, completeOptions } from "./options.js";
import { FwCfgSource, hasFwCfg } from "./static/fwcfg.js";
import { hasSmbios, SmbiosSource } from "./static/smbios.js";
import type { StaticSource } from "./static/source.js";
import { findTransport, namedTransport } from "./transport/channels.js";

/** What this machine has. */
export interface Sources {
  /** Transport of the metadata channel. */
  readonly transport: ShareableTransport | undefined;
  /** The others. */
  readonly statics: readonly StaticSource[];
}

/** Finds the sources of a machine; nothing is opened yet. @throws PvbusError `ERR_NOT_SUPPORTED`, `ERR_UNAVAILABLE` for a channel */
export type FindSources = (host: Host, target: StoreTarget) => Sources;

/** Token of the function that finds the sources: the metadata channel's transport, fw_cfg, SMBIOS. */
export const KVM_SOURCES: Token<FindSources> = Symbol.for("pvbus.kvm.Sources");

const ALL: Verbs = Object.freeze({ read: true, write: true, delete: true, list: true, watch: true });
const READ_ONLY: Verbs = Object.freeze({ ...ALL, write: false, delete: false, watch: false });

/** Finds the sources by their devices, whatever the processor says of the hypervisor. @throws as {@link FindSources} */
export function findSources(host: Host, { channel, options }: StoreTarget): Sources {
  const { staticNamespace, portName, maxItemBytes } = completeOptions(options);
  const statics: StaticSource[] = [];
  if (hasFwCfg(host))
    statics.push(new FwCfgSource(host, { namespace: staticNamespace, maxBytes: maxItemBytes }));
  if (hasSmbios(host)) statics.push(new SmbiosSource(host, staticNamespace));
  const transport = channel === undefined ? findTransport(host, portName) : namedTransport(host, channel);
  return { transport, statics };
}

export function capabilitiesOf({ transport, statics }: Sources): Capabilities {
  const pools: Record<string, Verbs> = {};
  if (transport !== undefined) pools["meta"] = ALL;
  for (const { name } of statics) putEntry(pools, name, READ_ONLY);
  if (Object.keys(pools).length === 0) return NO_CAPABILITIES;
  // Which bytes a host keeps it says when the channel is used, long after the store was opened.
  return transport === undefined ? { ...READ_ONLY, binary: true, pools } : { ...ALL, binary: "host", pools };
}

/** Reports whether a machine has any of the sources, SMBIOS aside, which every machine has. */
export function hasSources(host: Host): boolean {
  const { transport, statics } = findSources(host, {});
  return transport !== undefined || statics.some(({ name }) => name === "fwcfg");
}

/** What keeps a machine from being written, or read at all. */
export const NO_CHANNEL =
  "this machine has no metadata channel; see `pvbus doctor` for what the host has to add";

/** Returns what the host has to add, in the words of QEMU and libvirt, a line each. */
export function channelAdvice({ portName, staticNamespace }: CompleteOptions): string {
  const item = `opt/${staticNamespace}/KEY`;
  return [
    "have the host add a channel and serve it (pvbus host serve):",
    "  QEMU: -device virtio-serial -chardev socket,id=pvbus,path=SOCKET,server=on,wait=off",
    `        -device virtserialport,chardev=pvbus,name=${portName}`,
    "  libvirt: <channel type='unix'><source mode='bind' path='SOCKET'/>",
    `           <target type='virtio' name='${portName}'/></channel>`,
    "  Firecracker, Cloud Hypervisor: a vsock device, named with --channel vsock:2:PORT",
    "or values that do not change:",
    `  QEMU: -fw_cfg name=${item},string=VALUE`,
    `     or -smbios type=11,value=${staticNamespace}:KEY=VALUE`,
    `  libvirt: <sysinfo type='fwcfg'><entry name='${item}'>VALUE</entry></sysinfo>`,
  ].join("\n");
}
