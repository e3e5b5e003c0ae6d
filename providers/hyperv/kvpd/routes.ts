import { isIP } from "node:net";
import { shortIpv6 } from "./ip-lists.js";

/** Flags of a route that is up and leads over a gateway (Linux include/uapi/linux/route.h). */
const UP_GATEWAY = 0x3;

function isUpGateway(flags = ""): boolean {
  return (Number.parseInt(flags, 16) & UP_GATEWAY) === UP_GATEWAY;
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
