import { posix } from "node:path";
import type { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/posix/interface-addresses.js";
import { EMPTY_IP_INFO, type KvpIpInfo } from "../protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";
import { type IpTarget, ifcfgText, keyfileText } from "./ip-files.js";
import {
  addressLists,
  belongsTo,
  joinList,
  LONGEST_GATEWAYS,
  LONGEST_LIST,
  parseIpSettings,
} from "./ip-lists.js";
import { checkOwnDirectory, writeWhole } from "./own-files.js";
import { ipv4Gateways, ipv6Gateways } from "./routes.js";
import { HostScripts, outputLines, type RunScript, runScript } from "./scripts.js";
import type { IpService } from "./services.js";

/** What the settings are read from beside files, and where they go. */
export interface IpSources {
  /** Addresses of the interfaces; default: the system's. */
  readonly addresses?: (() => readonly InterfaceAddress[]) | undefined;
  /** Runs the distribution's scripts. */
  readonly run?: RunScript | undefined;
  /** Where the settings' files go on the machine; default: the usual pool directory. */
  readonly directory?: string | undefined;
}

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
    const named = this.#interfaces().filter((name) => this.#mac(name) === adapterId);
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
    const [dns, dhcp] = await Promise.all([this.#nameServers(call), this.#usesDhcp(chosen.name, call)]);
    return {
      adapterId,
      dhcpEnabled: dhcp ? 1 : 0,
      ...addressLists(chosen.list, ""),
      gateways: joinList(this.#gateways(chosen.name), LONGEST_GATEWAYS, ";"),
      dnsServers: joinList(dns, LONGEST_LIST, ";"),
    };
  }

  async setIpInfo(info: KvpIpInfo, call: Call): Promise<void> {
    const name = this.#interfaces().find(
      (each) =>
        this.#text(`${NETWORK}/${each}/device/device_id`)?.trim().toLowerCase() ===
        info.adapterId.toLowerCase(),
    );
    if (name === undefined)
      throw new KvpStatusError(
        KvpStatus.guidNotFound,
        `no interface is the device ${JSON.stringify(info.adapterId)}`,
      );
    const settings = parseIpSettings(info);
    const target: IpTarget = { name, mac: this.#mac(name) ?? "" };
    const files = [
      [posix.join(this.#directory, `ifcfg-${name}`), ifcfgText(target, settings)],
      [posix.join(this.#directory, `${name}.nmconnection`), keyfileText(target, settings)],
    ] as const;
    checkOwnDirectory(this.#host, this.#directory, "the directory of IP settings");
    for (const [path, text] of files) await writeWhole(this.#host.files, path, text);
    const script = `${SCRIPTS}/hv_set_ifconfig`;
    const { ok, why } = await this.#scripts.run(
      script,
      files.map(([path]) => this.#host.path(path)),
      call,
    );
    this.#scripts.clear();
    if (!ok) throw new KvpStatusError(KvpStatus.fail, `${script} ${name}: ${why}`);
  }

  #interfaces(): string[] {
    try {
      return this.#host.files.names(NETWORK);
    } catch {
      // Not ours to look into: then there is none that we could set.
      return [];
    }
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
    if (code.length === 1 && STOCK_DNS_SCRIPT.test(code[0] as string)) {
      return nameserverLines(this.#text("/etc/resolv.conf") ?? "");
    }
    return outputLines(await this.#scripts.answer(script, [], call));
  }

  async #usesDhcp(name: string, call: Call): Promise<boolean> {
    return (await this.#scripts.answer(`${SCRIPTS}/hv_get_dhcp_info`, [name], call)).startsWith("Enabled");
  }

  #text(path: string): string | undefined {
    try {
      return this.#host.files.read(path, LONGEST_TEXT)?.toString("utf8");
    } catch {
      // Gone in the meantime like an unplugged interface, or not ours to read.
      return undefined;
    }
  }
}

function nameserverLines(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("nameserver"))
    .map((line) => line.trim().split(/\s+/)[1] ?? "")
    .filter((server) => server !== "");
}
