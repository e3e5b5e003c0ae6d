import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { Call } from "../../../src/bus/call.js";
import type { Host } from "../../../src/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/interface-addresses.js";
import type { KvpIpInfo } from "../kvp-message.js";
import { writeWhole } from "./atomic-file.js";
import { freebsdText } from "./ip-files.js";
import {
  addressLists,
  belongsTo,
  joinList,
  LONGEST_GATEWAYS,
  LONGEST_LIST,
  parseIpSettings,
} from "./ip-lists.js";
import { netstatGateways } from "./routes.js";
import { outputLines, type RunScript, runScript, ScriptAnswers } from "./scripts.js";
import type { IpService } from "./services.js";
import { KvpStatus, KvpStatusError } from "./status.js";

/** What the settings are read from, and where they go. */
export interface FreebsdIpSources {
  /** Addresses of the interfaces; default: the system's. */
  readonly addresses?: (() => readonly InterfaceAddress[]) | undefined;
  /** MAC addresses by interface, lower case with colons. */
  readonly macs?: (() => ReadonlyMap<string, string>) | undefined;
  /** Runs programs. */
  readonly run?: RunScript | undefined;
  /** Where the settings' file goes, below the sysroot already; default: the usual place. */
  readonly directory?: string | undefined;
}

const SCRIPTS = "/usr/libexec/hyperv";
/** The vendor's daemon leaves out the slash before the name and so puts it beside the directory. */
const DIRECTORY = "/var/db/hyperv";

const SETTINGS_NAME = "hv_set_ip_data";

function systemMacs(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(networkInterfaces()).flatMap(([name, list]) =>
      list?.[0] === undefined ? [] : [[name, list[0].mac]],
    ),
  );
}

/** IP settings of a FreeBSD guest: the base system's scripts and netstat(1). Not verified by a run on FreeBSD. */
export class FreebsdIpService implements IpService {
  readonly #host: Host;
  readonly #addresses: () => readonly InterfaceAddress[];
  readonly #macs: () => ReadonlyMap<string, string>;
  readonly #run: RunScript;
  readonly #settings: string;
  readonly #answers: ScriptAnswers;

  /** @param host below whose root the scripts and the settings are */
  constructor(host: Host, sources: FreebsdIpSources = {}) {
    this.#host = host;
    this.#addresses = sources.addresses ?? (() => interfaceAddresses());
    this.#macs = sources.macs ?? systemMacs;
    this.#run = sources.run ?? runScript;
    this.#settings = join(sources.directory ?? host.path(DIRECTORY), SETTINGS_NAME);
    this.#answers = new ScriptAnswers(this.#run);
  }

  async getIpInfo({ adapterId }: KvpIpInfo, call: Call): Promise<KvpIpInfo> {
    const macs = this.#macs();
    const name = [...macs].find(([, mac]) => mac.toUpperCase() === adapterId)?.[0];
    if (name === undefined)
      throw new KvpStatusError(
        KvpStatus.fail,
        `no interface has the MAC address ${JSON.stringify(adapterId)}`,
      );
    const own = this.#addresses().filter((each) => belongsTo(each, name));
    const [dns, dhcp, routes] = await Promise.all([
      this.#script("hv_get_dns_info", [], call),
      this.#script("hv_get_dhcp_info", [name], call),
      this.#answers.get("/usr/bin/netstat", ["-rn"], call),
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
    const mac = this.#macs().get(info.adapterId);
    if (mac === undefined)
      throw new KvpStatusError(KvpStatus.guidNotFound, `no interface is ${JSON.stringify(info.adapterId)}`);
    const path = this.#settings;
    await writeWhole(
      path,
      freebsdText({ name: info.adapterId, mac: mac.toUpperCase() }, parseIpSettings(info)),
    );
    const script = `${SCRIPTS}/hv_set_ifconfig`;
    const { ok, why } = await this.#run("/bin/sh", [this.#host.path(script), path], call);
    this.#answers.clear();
    if (!ok) throw new KvpStatusError(KvpStatus.fail, `${script} ${info.adapterId}: ${why}`);
  }

  #script(name: string, args: readonly string[], call: Call): Promise<string> {
    return this.#answers.get("/bin/sh", [this.#host.path(`${SCRIPTS}/${name}`), ...args], call);
  }
}
