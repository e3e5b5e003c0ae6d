import { networkInterfaces } from "node:os";
import type { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/posix/interface-addresses.js";
import type { KvpIpInfo } from "../protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";
import { freebsdText } from "./ip-files.js";
import {
  addressLists,
  belongsTo,
  type IpService,
  type IpSources,
  joinList,
  LONGEST_GATEWAYS,
  LONGEST_LIST,
  parseIpSettings,
} from "./ip-lists.js";
import { netstatGateways } from "./routes.js";
import { HostScripts, outputLines, runScript } from "./scripts.js";

/** What the settings are read from, and where they go. */
export interface FreebsdIpSources extends IpSources {
  /** MAC addresses by interface, lower case with colons. */
  readonly macs?: (() => ReadonlyMap<string, string>) | undefined;
}

const SCRIPTS = "/usr/libexec/hyperv";
/** The vendor's daemon leaves out the slash before the name and so puts it beside the directory. */
const DIRECTORY = "/var/db/hyperv";

function systemMacs(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(networkInterfaces()).flatMap(([name, list]) =>
      list?.[0] === undefined ? [] : [[name, list[0].mac]],
    ),
  );
}

/** IP settings of a FreeBSD guest: the base system's scripts and netstat(1). Not verified by a run on FreeBSD. */
export class FreebsdIpService implements IpService {
  readonly #addresses: () => readonly InterfaceAddress[];
  readonly #macs: () => ReadonlyMap<string, string>;
  readonly #directory: string;
  readonly #scripts: HostScripts;

  /** @param host below whose root the scripts and the settings are */
  constructor(host: Host, sources: FreebsdIpSources = {}) {
    this.#addresses = sources.addresses ?? (() => interfaceAddresses());
    this.#macs = sources.macs ?? systemMacs;
    this.#directory = sources.directory ?? DIRECTORY;
    this.#scripts = new HostScripts({ host, run: sources.run ?? runScript, shell: "/bin/sh" });
  }

  async getIpInfo({ adapterId }: KvpIpInfo, call: Call): Promise<KvpIpInfo> {
    const name = [...this.#macs()].find(([, mac]) => mac.toUpperCase() === adapterId)?.[0];
    if (name === undefined)
      throw new KvpStatusError(
        KvpStatus.fail,
        `no interface has the MAC address ${JSON.stringify(adapterId)}`,
      );
    const own = this.#addresses().filter((each) => belongsTo(each, name));
    const [dns, dhcp, routes] = await Promise.all([
      this.#scripts.answer(`${SCRIPTS}/hv_get_dns_info`, [], call),
      this.#scripts.answer(`${SCRIPTS}/hv_get_dhcp_info`, [name], call),
      this.#scripts.system("/usr/bin/netstat", ["-rn"], call),
    ]);
    return {
      adapterId,
      dhcpEnabled: dhcp.startsWith("Enabled") ? 1 : 0,
      ...addressLists(own, ";"),
      gateways: joinList(netstatGateways(routes, name), LONGEST_GATEWAYS, ";"),
      dnsServers: joinList(outputLines(dns), LONGEST_LIST, ";"),
    };
  }

  /** The kernel has put the interface's name in place of the adapter's GUID where there is one. */
  async setIpInfo(info: KvpIpInfo, call: Call): Promise<void> {
    const name = info.adapterId;
    const mac = this.#macs().get(name)?.toUpperCase();
    if (mac === undefined)
      throw new KvpStatusError(KvpStatus.guidNotFound, `no interface is ${JSON.stringify(name)}`);
    const files = [["hv_set_ip_data", freebsdText({ name, mac }, parseIpSettings(info))]] as const;
    const script = `${SCRIPTS}/hv_set_ifconfig`;
    await this.#scripts.apply({ script, name, directory: this.#directory, files }, call);
  }
}
