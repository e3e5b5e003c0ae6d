import { expandIpv6, type IpEntry, type IpSettings } from "./ip-lists.js";

/** The interface that settings are for. */
export interface IpTarget {
  readonly name: string;
  /** Upper case with colons. */
  readonly mac: string;
}

/** `NAME`, `NAME_1`, `NAME_2`: how the first format counts IPv6 entries. */
function counted(name: string, at: number): string {
  return at === 0 ? name : `${name}_${at}`;
}

/**
 * Returns the settings in the format of ifcfg files, which is what hv_set_ifconfig takes as its first argument (Linux
 * tools/hv/hv_kvp_daemon.c).
 */
export function ifcfgText(target: IpTarget, { dhcp, addresses, gateways, dns }: IpSettings): string {
  const inOrder = <T extends IpEntry>(
    list: readonly T[],
    line: (entry: T, at: number) => string,
  ): string[] => {
    const seen = { 4: 0, 6: 0 };
    return list.map((entry) => line(entry, seen[entry.family]++));
  };
  const masks = (family: 4 | 6): string[] =>
    addresses.filter((entry) => entry.family === family).map(({ mask }) => mask);
  const lines = [
    `HWADDR=${target.mac}`,
    `DEVICE=${target.name}`,
    `BOOTPROTO=${dhcp ? "dhcp" : "none"}`,
    ...inOrder(addresses, ({ family, address }, at) =>
      family === 4 ? `IPADDR${at}=${address}` : `${counted("IPV6ADDR", at)}=${expandIpv6(address)}`,
    ),
    ...masks(4).map((mask, at) => `NETMASK${at}=${mask}`),
    ...masks(6).map((mask, at) => `${counted("IPV6NETMASK", at)}=${mask}`),
    ...inOrder(gateways, ({ family, address }, at) =>
      family === 4
        ? `GATEWAY${at === 0 ? "" : at}=${address}`
        : `${counted("IPV6_DEFAULTGW", at)}=${expandIpv6(address)}`,
    ),
    ...dns.map(({ family, address }, at) => `DNS${at + 1}=${family === 4 ? address : expandIpv6(address)}`),
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * Returns the settings in NetworkManager's keyfile format, the second argument of hv_set_ifconfig. An IPv6 prefix
 * counts with and without its slash; the vendor's daemon makes `/64` the prefix 0.
 */
export function keyfileText(target: IpTarget, { dhcp, addresses, gateways, dns }: IpSettings): string {
  const section = (family: 4 | 6): string => {
    const own = addresses.filter((entry) => entry.family === family);
    const lines = own.map(({ address, prefix }, at) => `address${at + 1}=${address}/${prefix}`);
    lines.push(`method=${method(family, own.length > 0, dhcp)}`);
    for (const [name, list] of [
      ["gateway", gateways],
      ["dns", dns],
    ] as const) {
      const some = list.filter((entry) => entry.family === family).map(({ address }) => address);
      if (some.length > 0) lines.push(`${name}=${some.join(",")}`);
    }
    return `[ipv${family}]\n${lines.join("\n")}\n`;
  };
  return [
    "",
    `[connection]\ninterface-name=${target.name}\n`,
    `[ethernet]\nmac-address=${target.mac}\n`,
    section(4),
    section(6),
  ].join("\n");
}

/**
 * Returns the settings as FreeBSD's hv_set_ifconfig takes them (FreeBSD contrib/hyperv/tools/hv_kvp_daemon.c). The lists are
 * joined from checked entries: the script reads them with a shell.
 */
export function freebsdText(target: IpTarget, { dhcp, addresses, gateways, dns }: IpSettings): string {
  const list = (entries: readonly string[]): string => entries.map((entry) => `${entry};`).join("");
  const addressesOf = (entries: readonly IpEntry[]): string => list(entries.map(({ address }) => address));
  return `${[
    `HWADDR=${target.mac}`,
    `IF_NAME=${target.name}`,
    `IP_ADDR=${addressesOf(addresses)}`,
    `SUBNET=${list(addresses.map(({ mask }) => mask))}`,
    `GATEWAY=${addressesOf(gateways)}`,
    `DNS=${addressesOf(dns)}`,
    `DHCP=${dhcp ? 1 : 0}`,
  ].join("\n")}\n`;
}

function method(family: 4 | 6, has: boolean, dhcp: boolean): string {
  if (family === 6) return has ? "manual" : "auto";
  if (dhcp) return "auto";
  return has ? "manual" : "disabled";
}
