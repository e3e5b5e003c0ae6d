import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import type { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/posix/interface-addresses.js";
import { EMPTY_IP_INFO, type KvpIpInfo } from "../protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";
import {
  addressLists,
  belongsTo,
  freebsdText,
  ifcfgText,
  joinList,
  keyfileText,
  LONGEST_GATEWAYS,
  LONGEST_LIST,
  parseIpSettings,
  shortIpv6,
} from "./ip-settings.js";
import { namesIn, textOf } from "./own-files.js";
import { HostScripts, outputLines, type RunScript, runScript } from "./scripts.js";

/** IP settings of the guest's adapters. */
export interface IpService {
  /** Resolves with the settings of the adapter with the request's MAC address. @throws KvpStatusError */
  getIpInfo(request: KvpIpInfo, call: Call): Promise<KvpIpInfo>;
  /** Applies settings to the adapter with the request's GUID. @throws KvpStatusError */
  setIpInfo(request: KvpIpInfo, call: Call): Promise<void>;
}

/** What settings are read from, and where they go; default: the system's own. */
export interface IpSources {
  /** Addresses of the interfaces. */
  readonly addresses?: (() => readonly InterfaceAddress[]) | undefined;
  /** FreeBSD: MAC addresses by interface, lower case with colons. */
  readonly macs?: (() => ReadonlyMap<string, string>) | undefined;
  readonly run?: RunScript | undefined;
  /** Where the files of settings go on the machine. */
  readonly directory?: string | undefined;
}

/** Where the distribution puts its scripts (Debian hyperv-daemons). */
const LINUX_SCRIPTS = "/usr/libexec/hypervkvpd";
/** Where the settings' files go (Linux tools/hv/hv_kvp_daemon.c). */
const LINUX_FILES = "/var/lib/hyperv";
const NETWORK = "/sys/class/net";
/** More than the kernel's tables of routes and any script have. */
const LONGEST_TEXT = 64 * 1024 ** 2;
/** What hv_get_dns_info does where nobody has put another one in its place. */
const STOCK_DNS_SCRIPT =
  /^cat \/etc\/resolv\.conf( 2>\/dev\/null)? \| awk '\/\^nameserver\/ \{ ?print \$2 ?\}'$/;
const NAME_SERVER = /^nameserver\S*[ \t]+(\S+)/gm;
const FREEBSD_SCRIPTS = "/usr/libexec/hyperv";
/** The vendor's daemon leaves out the slash before the name and so puts it beside the directory. */
const FREEBSD_FILES = "/var/db/hyperv";

/** IP settings of a Linux guest: kernel files and the distribution's scripts. */
export class LinuxIpService implements IpService {
  readonly #host: Host;
  readonly #addresses: () => readonly InterfaceAddress[];
  readonly #scripts: HostScripts;

  /** @param host below whose root all files are */
  constructor(host: Host, sources: IpSources = {}) {
    this.#host = host;
    this.#addresses = sources.addresses ?? (() => interfaceAddresses());
    const { directory = LINUX_FILES, run = runScript } = sources;
    this.#scripts = new HostScripts({ host, run, folder: LINUX_SCRIPTS, directory });
  }

  async getIpInfo({ adapterId }: KvpIpInfo, call: Call): Promise<KvpIpInfo> {
    const named = namesIn(this.#host, NETWORK).filter((name) => this.#mac(name) === adapterId);
    if (named.length === 0) throw noInterface(KvpStatus.fail, "has the MAC address", adapterId);
    const all = this.#addresses();
    // Of a virtual function and its synthetic twin, which share their MAC, one has the addresses.
    const own = named.map((name) => ({ name, list: all.filter((each) => belongsTo(each, name)) }));
    const { name, list = [] } = own.find(({ list }) => list.length > 0) ?? {};
    if (name === undefined) return { ...EMPTY_IP_INFO, adapterId };
    const [dns, dhcp] = await Promise.all([
      this.#nameServers(call),
      this.#scripts.answer("hv_get_dhcp_info", [name], call),
    ]);
    const four = ipv4Gateways(this.#text("/proc/net/route") ?? "", name);
    const six = ipv6Gateways(this.#text("/proc/net/ipv6_route") ?? "", name);
    return {
      adapterId,
      dhcpEnabled: dhcp.startsWith("Enabled") ? 1 : 0,
      ...addressLists(list, ""),
      gateways: joinList([...four, ...six], LONGEST_GATEWAYS, ";"),
      dnsServers: joinList(dns, LONGEST_LIST, ";"),
    };
  }

  async setIpInfo(info: KvpIpInfo, call: Call): Promise<void> {
    const id = info.adapterId.toLowerCase();
    const name = namesIn(this.#host, NETWORK).find(
      (each) => this.#text(`${NETWORK}/${each}/device/device_id`)?.trim().toLowerCase() === id,
    );
    if (name === undefined) throw noInterface(KvpStatus.guidNotFound, "is the device", info.adapterId);
    const settings = parseIpSettings(info);
    const target = { name, mac: this.#mac(name) ?? "" };
    const files = [
      [`ifcfg-${name}`, ifcfgText(target, settings)],
      [`${name}.nmconnection`, keyfileText(target, settings)],
    ] as const;
    await this.#scripts.apply(name, files, call);
  }

  #mac(name: string): string | undefined {
    return this.#text(`${NETWORK}/${name}/address`)?.trim().toUpperCase();
  }

  async #nameServers(call: Call): Promise<string[]> {
    const source = this.#text(`${LINUX_SCRIPTS}/hv_get_dns_info`);
    if (source === undefined) return [];
    const code = source.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
    if (code.length === 1 && STOCK_DNS_SCRIPT.test(code[0] as string))
      return [...(this.#text("/etc/resolv.conf") ?? "").matchAll(NAME_SERVER)].map(
        ([, server = ""]) => server,
      );
    return outputLines(await this.#scripts.answer("hv_get_dns_info", [], call));
  }

  #text(path: string): string | undefined {
    return textOf(this.#host, path, LONGEST_TEXT);
  }
}

/** IP settings of a FreeBSD guest: the base system's scripts and netstat(1). Not verified by a run on FreeBSD. */
export class FreebsdIpService implements IpService {
  readonly #addresses: () => readonly InterfaceAddress[];
  readonly #macs: () => ReadonlyMap<string, string>;
  readonly #scripts: HostScripts;

  /** @param host below whose root the scripts and the settings are */
  constructor(host: Host, sources: IpSources = {}) {
    this.#addresses = sources.addresses ?? (() => interfaceAddresses());
    this.#macs = sources.macs ?? systemMacs;
    const { directory = FREEBSD_FILES, run = runScript } = sources;
    this.#scripts = new HostScripts({ host, run, folder: FREEBSD_SCRIPTS, directory, shell: "/bin/sh" });
  }

  async getIpInfo({ adapterId }: KvpIpInfo, call: Call): Promise<KvpIpInfo> {
    const name = [...this.#macs()].find(([, mac]) => mac.toUpperCase() === adapterId)?.[0];
    if (name === undefined) throw noInterface(KvpStatus.fail, "has the MAC address", adapterId);
    const own = this.#addresses().filter((each) => belongsTo(each, name));
    const [dns, dhcp, routes] = await Promise.all([
      this.#scripts.answer("hv_get_dns_info", [], call),
      this.#scripts.answer("hv_get_dhcp_info", [name], call),
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
    if (mac === undefined) throw noInterface(KvpStatus.guidNotFound, "is", name);
    const files = [["hv_set_ip_data", freebsdText({ name, mac }, parseIpSettings(info))]] as const;
    await this.#scripts.apply(name, files, call);
  }
}

function systemMacs(): ReadonlyMap<string, string> {
  const all = Object.entries(networkInterfaces());
  return new Map(all.flatMap(([name, list]) => (list?.[0] === undefined ? [] : [[name, list[0].mac]])));
}

function noInterface(status: number, what: string, id: string): KvpStatusError {
  return new KvpStatusError(status, `no interface ${what} ${JSON.stringify(id)}`);
}

/** Whether a route is up and leads over a gateway (Linux include/uapi/linux/route.h). */
function isUpGateway(flags = ""): boolean {
  return (Number.parseInt(flags, 16) & 0x3) === 0x3;
}

function rowsOf(text: string): string[][] {
  return text.split("\n").map((line) => line.trim().split(/\s+/));
}

/** Returns the IPv4 default gateways of an interface from the text of /proc/net/route. */
export function ipv4Gateways(text: string, name: string): string[] {
  return rowsOf(text).flatMap(([device, destination, gateway = "", flags, , , , mask]) => {
    if (device !== name || destination !== "00000000" || mask !== "00000000") return [];
    if (!isUpGateway(flags) || !/^[0-9A-F]{8}$/i.test(gateway)) return [];
    // Written in the machine's byte order, which is little-endian wherever Hyper-V is.
    return [[...Buffer.from(gateway, "hex").reverse()].join(".")];
  });
}

/** Returns the IPv6 default gateways of an interface, shortened, from the text of /proc/net/ipv6_route. */
export function ipv6Gateways(text: string, name: string): string[] {
  return rowsOf(text).flatMap(([destination = "", length, , , gateway = "", , , , flags, device]) => {
    if (device !== name || length !== "00" || !/^0{32}$/.test(destination)) return [];
    if (!isUpGateway(flags) || !/^[0-9a-f]{32}$/i.test(gateway)) return [];
    return [shortIpv6((gateway.match(/.{4}/g) as string[]).join(":"))];
  });
}

/** Returns the default gateways of an interface from what FreeBSD's `netstat -rn` prints. */
export function netstatGateways(text: string, name: string): string[] {
  return rowsOf(text).flatMap(([destination, gateway = "", flags = "", device]) => {
    // A zone is this machine's own name for the link.
    const address = gateway.split("%", 1)[0] as string;
    const isWanted = destination === "default" && device === name && flags.includes("G");
    return isWanted && isIP(address) !== 0 ? [address] : [];
  });
}
