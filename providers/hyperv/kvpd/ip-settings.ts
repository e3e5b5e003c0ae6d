import { isIPv4, isIPv6 } from "node:net";
import type { InterfaceAddress } from "../../../src/native/posix/interface-addresses.js";
import type { KvpIpInfo } from "../protocol/messages.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";

/** An address as the host gave it. */
export interface IpEntry {
  readonly family: 4 | 6;
  readonly address: string;
}

/** An address to be set. */
export interface IpAssignment extends IpEntry {
  /** The mask as given: dotted, `64` or `/64`. */
  readonly mask: string;
  /** Its bits. */
  readonly prefix: number;
}

/** Settings to apply to one interface, checked, in the order given. */
export interface IpSettings {
  /** Whether IPv4 comes from DHCP. */
  readonly dhcp: boolean;
  readonly addresses: readonly IpAssignment[];
  readonly gateways: readonly IpEntry[];
  /** Name servers. */
  readonly dns: readonly IpEntry[];
}

function invalid(what: string): never {
  throw new KvpStatusError(KvpStatus.invalidArgument, what);
}

/** Splits a list of the host's: separated by `;`, a last one may follow, blanks in front of an entry do not count. */
function entries(list: string): string[] {
  const parts = list.split(";").map((entry) => entry.replace(/^[ \t]+/, ""));
  if (parts.at(-1) === "") parts.pop();
  return parts;
}

function address(text: string): IpEntry {
  if (isIPv4(text)) return { family: 4, address: text };
  // A zone means nothing to another machine, and its text would end up in configuration files.
  if (isIPv6(text) && !text.includes("%")) return { family: 6, address: text };
  return invalid(`${JSON.stringify(text.slice(0, 64))} is no address`);
}

/**
 * Checks the settings of a SET_IP_INFO completely, before anything is written.
 * @throws KvpStatusError `HV_INVALIDARG` for what is no address, no mask, or an address without one
 */
export function parseIpSettings(info: KvpIpInfo): IpSettings {
  const masks = entries(info.subnets);
  const addresses = entries(info.ipAddresses).map((text, at): IpAssignment => {
    const entry = address(text);
    const mask = masks[at] ?? invalid(`${text} has no mask`);
    return { ...entry, mask, prefix: prefixOf(mask, entry.family) };
  });
  if (masks.length > addresses.length) invalid("more masks than addresses");
  return {
    dhcp: info.dhcpEnabled !== 0,
    addresses,
    gateways: entries(info.gateways).map(address),
    dns: entries(info.dnsServers).map(address),
  };
}

/** Returns the bits of a mask: dotted for IPv4, a number with or without a slash for both. */
function prefixOf(mask: string, family: 4 | 6): number {
  const number = /^\/?(\d{1,3})$/.exec(mask)?.[1];
  if (number !== undefined && Number(number) <= (family === 4 ? 32 : 128)) return Number(number);
  if (family === 4 && isIPv4(mask)) {
    const bits = mask
      .split(".")
      .map((part) => Number(part).toString(2).padStart(8, "0"))
      .join("");
    if (/^1*0*$/.test(bits)) return bits.indexOf("0") < 0 ? 32 : bits.indexOf("0");
  }
  return invalid(`${JSON.stringify(mask.slice(0, 64))} is no mask of IPv${family}`);
}

/** Writes an IPv4 mask as dotted text. */
export function dottedMask(prefix: number): string {
  return [0, 8, 16, 24].map((before) => 256 - 2 ** (8 - Math.min(Math.max(prefix - before, 0), 8))).join(".");
}

/** Writes an IPv6 address in its shortest form, as `ip route` does: the parser of URLs does so. @throws RangeError for no address */
export function shortIpv6(address: string): string {
  if (!isIPv6(address)) throw new RangeError("no address of IPv6");
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}

/** Writes an IPv6 address as eight groups of four digits. @throws RangeError for no address */
export function expandIpv6(address: string): string {
  const [left = "", right] = shortIpv6(address).split("::");
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const [before, after] = [groups(left), groups(right ?? "")];
  const zeros = right === undefined ? [] : Array<string>(8 - before.length - after.length).fill("0");
  return [...before, ...zeros, ...after].map((group) => group.padStart(4, "0")).join(":");
}

/** An address with a label, `eth0:1`, is one of eth0; one of eth10 is not one of eth1. */
export function belongsTo({ name, loopback }: InterfaceAddress, wanted: string): boolean {
  return !loopback && (name === wanted || name.startsWith(`${wanted}:`));
}

/** Characters of a list that reach the host: the wire's fields end with a NUL (hyperv.h). */
export const LONGEST_LIST = 1023;
/** The same of the gateways. */
export const LONGEST_GATEWAYS = 511;

/** Returns the reply's fields for addresses, IPv4 first; as many masks as addresses. */
export function addressLists(
  addresses: readonly InterfaceAddress[],
  terminator: "" | ";",
): Pick<KvpIpInfo, "addressFamily" | "ipAddresses" | "subnets"> {
  const list = [...addresses].sort((a, b) => a.family - b.family);
  const texts = list.map(({ address }) => address);
  const ipAddresses = joinList(texts, LONGEST_LIST, terminator);
  const masks = list
    .slice(0, ipAddresses.split(";").filter((address) => address !== "").length)
    .map(({ family, prefix }) => (family === 4 ? dottedMask(prefix) : `/${prefix}`));
  return {
    addressFamily: list.reduce((families, { family }) => families | (family === 4 ? 1 : 2), 0),
    ipAddresses,
    subnets: joinList(masks, LONGEST_LIST, terminator),
  };
}

/**
 * Joins as many entries as a field of the reply delivers: the driver cuts a longer list anywhere, in the middle of an
 * address (Linux drivers/hv/hv_kvp.c). @param longest characters that reach the host @param terminator follows the last entry
 */
export function joinList(list: readonly string[], longest: number, terminator: "" | ";"): string {
  let text = "";
  for (const entry of list) {
    const next = terminator === "" ? `${text}${text === "" ? "" : ";"}${entry}` : `${text}${entry};`;
    if (next.length > longest) break;
    text = next;
  }
  return text;
}

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
    for (const [name, list] of Object.entries({ gateway: gateways, dns })) {
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
