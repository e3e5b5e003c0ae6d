import { pvbusError } from "../../base/errors.js";
import { ownEntry } from "../../base/own.js";

/** What SmartOS' host tells of a machine's network, each as the JSON text that it gives; undefined where it tells nothing. */
export interface SmartosNetwork {
  /** `sdc:nics`: an array of interfaces. */
  readonly nics: string;
  /** `sdc:resolvers`: an array of addresses. */
  readonly resolvers?: string | undefined;
  /** `sdc:routes`: an array of routes, each with `dst` and `gateway`. */
  readonly routes?: string | undefined;
  /** `sdc:dns_domain`: the plain text of a domain. */
  readonly domain?: string | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/** Of an interface these go to each of its addresses. */
const OF_SUBNETS = ["broadcast", "dns_nameservers", "dns_search", "metric", "pointopoint", "scope"];
/** Addresses that are asked for. */
const ASKED: ReadonlyMap<string, string> = new Map([
  ["dhcp", "dhcp4"],
  ["addrconf", "dhcp6"],
]);

/**
 * Returns the network's configuration in cloud-init's version 1, as cloud-init's SmartOS source makes it: an interface with its
 * addresses each, all routes at each address, the first gateway of each family at the first address of the primary interface.
 * @throws PvbusError `ERR_VALUE_INVALID` for what is no such description
 */
export function smartosNetwork({ nics, resolvers, routes, domain }: SmartosNetwork): Uint8Array {
  const routed = objects("sdc:routes", routes).map((route) => ({
    network: route["dst"],
    gateway: route["gateway"],
  }));
  const served = new Set<string>();
  const config: Json[] = objects("sdc:nics", nics).map((nic) => physical(nic, routed, served));
  const address = array("sdc:resolvers", resolvers);
  if (address.length > 0) config.push({ type: "nameserver", address, search: domain ? [domain] : [] });
  return Buffer.from(`${JSON.stringify({ version: 1, config }, undefined, 1)}\n`);
}

/** @param served families that have a gateway by now */
function physical(nic: Json, routes: readonly Json[], served: Set<string>): Json {
  const { interface: name, mac, mtu, ips = [], primary, gateways = [] } = nic;
  if (typeof name !== "string" || !areTexts(ips) || !areTexts(gateways))
    throw broken("sdc:nics", "an interface without a name, or without lists of addresses");
  const common = Object.fromEntries(
    OF_SUBNETS.flatMap((key) => (Object.hasOwn(nic, key) ? [[key, ownEntry(nic, key)]] : [])),
  );
  const subnets = ips.map((address): Json => {
    const type = ASKED.get(address);
    if (type !== undefined) return { type };
    const family = familyOf(address);
    const gateway = primary && !served.has(family) && gateways.find((each) => familyOf(each) === family);
    if (gateway) served.add(family);
    return {
      ...common,
      type: "static",
      address,
      ...(gateway ? { gateway } : {}),
      ...(routes.length > 0 ? { routes } : {}),
    };
  });
  return {
    type: "physical",
    name,
    ...(mac === undefined ? {} : { mac_address: mac }),
    ...(mtu === undefined ? {} : { mtu }),
    subnets,
  };
}

const familyOf = (address: string): string => (address.includes(".") ? "ipv4" : "ipv6");

function areTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}

function objects(key: string, text: string | undefined): readonly Json[] {
  const found = array(key, text);
  if (found.every((each): each is Json => typeof each === "object" && each !== null && !Array.isArray(each)))
    return found;
  throw broken(key, "an array of something else than objects");
}

function array(key: string, text: string | undefined): readonly unknown[] {
  if (text === undefined || text === "") return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw broken(key, "no JSON");
  }
  if (Array.isArray(value)) return value;
  // cloud-init takes a single resolver too.
  if (typeof value === "string") return [value];
  throw broken(key, "no array");
}

function broken(key: string, what: string): Error {
  return pvbusError(
    "ERR_VALUE_INVALID",
    `${key} is ${what}; set it on the host as SmartOS does, or remove it`,
    { key },
  );
}
