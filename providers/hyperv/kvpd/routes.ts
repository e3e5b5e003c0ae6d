import { isIP } from "node:net";

/** Flags of a route that is up and leads over a gateway (Linux include/uapi/linux/route.h). */
const UP_GATEWAY = 0x3;

function isUpGateway(flags: number): boolean {
  return (flags & UP_GATEWAY) === UP_GATEWAY;
}

/** Returns the IPv4 default gateways of an interface from the text of /proc/net/route. */
export function ipv4Gateways(text: string, name: string): string[] {
  const gateways: string[] = [];
  for (const line of text.split("\n").slice(1)) {
    const [device, destination, gateway = "", flags = "", , , , mask] = line.trim().split(/\s+/);
    if (device !== name || destination !== "00000000" || mask !== "00000000") continue;
    if (!isUpGateway(Number.parseInt(flags, 16)) || !/^[0-9A-F]{8}$/i.test(gateway)) continue;
    // Written in the machine's byte order, which is little-endian wherever Hyper-V is.
    gateways.push([...Buffer.from(gateway, "hex").reverse()].join("."));
  }
  return gateways;
}

/** Returns the IPv6 default gateways of an interface, shortened, from the text of /proc/net/ipv6_route. */
export function ipv6Gateways(text: string, name: string): string[] {
  const gateways: string[] = [];
  for (const line of text.split("\n")) {
    const [destination, length, , , gateway = "", , , , flags = "", device] = line.trim().split(/\s+/);
    if (device !== name || length !== "00" || !/^0{32}$/.test(destination ?? "")) continue;
    if (!isUpGateway(Number.parseInt(flags, 16)) || !/^[0-9a-f]{32}$/i.test(gateway)) continue;
    gateways.push(shortIpv6((gateway.match(/.{4}/g) as string[]).join(":")));
  }
  return gateways;
}

/** Returns the default gateways of an interface from what FreeBSD's `netstat -rn` prints. */
export function netstatGateways(text: string, name: string): string[] {
  const gateways: string[] = [];
  for (const line of text.split("\n")) {
    const [destination, gateway = "", flags = "", device] = line.trim().split(/\s+/);
    // A zone is this machine's own name for the link.
    const address = gateway.split("%", 1)[0] as string;
    if (destination === "default" && device === name && flags.includes("G") && isIP(address) !== 0)
      gateways.push(address);
  }
  return gateways;
}

/** The parser of URLs writes addresses in their shortest form, as `ip route` does. */
function shortIpv6(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}
