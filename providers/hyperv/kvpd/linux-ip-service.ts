import type { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/posix/interface-addresses.js";
import { EMPTY_IP_INFO, type KvpIpInfo } from "../protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";
import { ifcfgText, keyfileText } from "./ip-files.js";
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
import { namesIn, textOf } from "./own-files.js";
import { ipv4Gateways, ipv6Gateways } from "./routes.js";
import { HostScripts, outputLines, runScript } from "./scripts.js";

/** Where the distribution puts its scripts (Debian hyperv-daemons). */
const SCRIPTS = "/usr/libexec/hypervkvpd";
/** Where the settings' files go (Linux tools/hv/hv_kvp_daemon.c). */
const FILES = "/var/lib/hyperv";
const NETWORK = "/sys/class/net";
/** More than the kernel's tables of routes and any script have. */
const LONGEST_TEXT = 64 * 1024 ** 2;
/** What hv_get_dns_info does where nobody has put another one in its place. */
const STOCK_DNS_SCRIPT =
  /^cat \/etc\/resolv\.conf( 2>\/dev\/null)? \| awk '\/\^nameserver\/ \{ ?print \$2 ?\}'$/;

/** IP settings of a Linux guest: kernel files and the distribution's scripts. */
export class LinuxIpService implements IpService {
  readonly #host: Host;
  readonly #addresses: () => readonly InterfaceAddress[];
  readonly #directory: string;
  readonly #scripts: HostScripts;

  /** @param host below whose root all files are */
  constructor(host: Host, sources: IpSources = {}) {
    this.#host = host;
    this.#addresses = sources.addresses ?? (() => interfaceAddresses());
    this.#directory = sources.directory ?? FILES;
    this.#scripts = new HostScripts({ host, run: sources.run ?? runScript });
  }

  async getIpInfo({ adapterId }: KvpIpInfo, call: Call): Promise<KvpIpInfo> {
    const named = namesIn(this.#host, NETWORK).filter((name) => this.#mac(name) === adapterId);
    if (named.length === 0)
      throw new KvpStatusError(
        KvpStatus.fail,
        `no interface has the MAC address ${JSON.stringify(adapterId)}`,
      );
    const all = this.#addresses();
    // Of a virtual function and its synthetic twin, which share their MAC, one has the addresses.
    const own = named.map((name) => ({ name, list: all.filter((each) => belongsTo(each, name)) }));
    const chosen = own.find(({ list }) => list.length > 0);
    if (chosen === undefined) return { ...EMPTY_IP_INFO, adapterId };
    const { name, list } = chosen;
    const [dns, dhcp] = await Promise.all([
      this.#nameServers(call),
      this.#scripts.answer(`${SCRIPTS}/hv_get_dhcp_info`, [name], call),
    ]);
    return {
      adapterId,
      dhcpEnabled: dhcp.startsWith("Enabled") ? 1 : 0,
      ...addressLists(list, ""),
      gateways: joinList(this.#gateways(name), LONGEST_GATEWAYS, ";"),
      dnsServers: joinList(dns, LONGEST_LIST, ";"),
    };
  }

  async setIpInfo(info: KvpIpInfo, call: Call): Promise<void> {
    const id = info.adapterId.toLowerCase();
    const name = namesIn(this.#host, NETWORK).find(
      (each) => this.#text(`${NETWORK}/${each}/device/device_id`)?.trim().toLowerCase() === id,
    );
    if (name === undefined)
      throw new KvpStatusError(
        KvpStatus.guidNotFound,
        `no interface is the device ${JSON.stringify(info.adapterId)}`,
      );
    const settings = parseIpSettings(info);
    const target = { name, mac: this.#mac(name) ?? "" };
    const files = [
      [`ifcfg-${name}`, ifcfgText(target, settings)],
      [`${name}.nmconnection`, keyfileText(target, settings)],
    ] as const;
    const script = `${SCRIPTS}/hv_set_ifconfig`;
    await this.#scripts.apply({ script, name, directory: this.#directory, files }, call);
  }

  #mac(name: string): string | undefined {
    return this.#text(`${NETWORK}/${name}/address`)?.trim().toUpperCase();
  }

  #gateways(name: string): string[] {
    return [
      ...ipv4Gateways(this.#text("/proc/net/route") ?? "", name),
      ...ipv6Gateways(this.#text("/proc/net/ipv6_route") ?? "", name),
    ];
  }

  async #nameServers(call: Call): Promise<string[]> {
    const script = `${SCRIPTS}/hv_get_dns_info`;
    const source = this.#text(script);
    if (source === undefined) return [];
    const code = source.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
    if (code.length === 1 && STOCK_DNS_SCRIPT.test(code[0] as string))
      return nameserverLines(this.#text("/etc/resolv.conf") ?? "");
    return outputLines(await this.#scripts.answer(script, [], call));
  }

  #text(path: string): string | undefined {
    return textOf(this.#host, path, LONGEST_TEXT);
  }
}

function nameserverLines(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("nameserver"))
    .map((line) => line.trim().split(/\s+/)[1] ?? "")
    .filter((server) => server !== "");
}
