import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { putEntry } from "../../src/base/own.js";
import type { MachineFacts } from "../../src/contract/store.js";
import type { XenStoreClient } from "./client/client.js";
import { domainOf } from "./protocol/permissions.js";
import { below, ifAllowed, type Surroundings } from "./walk.js";

/** What the host's administrator says of this machine, beside the name and the UUID. */
const VM_DATA = { path: "vm-data", key: "vm-data" };
const UUID = /^\/vm\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i;

/** Returns what XenStore says of this machine: its name, UUID and domain id, and all of `vm-data`, which users fill. */
export async function machineFacts(surroundings: Surroundings, call: Call): Promise<MachineFacts> {
  const { client } = surroundings;
  const [name, vm, domain] = await Promise.all([
    ifAllowed(client.readText("name", call)),
    ifAllowed(client.readText("vm", call)),
    ifAllowed(ownDomain(client, call)),
  ]);
  const other: Record<string, string> = {};
  if (domain !== undefined) other["domid"] = String(domain);
  const collect = async (): Promise<void> => {
    for await (const { key, value } of below(VM_DATA, surroundings, call))
      if (value !== undefined && value.length > 0) putEntry(other, key, Buffer.from(value).toString("utf8"));
  };
  await ifAllowed(collect());
  return factsOf(name, vm, other);
}

/** Puts facts together from what the nodes `name` and `vm` hold. */
export function factsOf(
  name: string | undefined,
  vm = "",
  other: Readonly<Record<string, string>> = {},
): MachineFacts {
  const uuid = UUID.exec(vm)?.[1];
  return {
    ...(name === undefined ? {} : { vmName: name }),
    ...(uuid === undefined ? {} : { vmId: uuid }),
    ...(Object.keys(other).length === 0 ? {} : { other }),
  };
}

/**
 * Returns this domain's id: what the toolstack wrote, else the owner of the directory that every guest owns. Ask again rather
 * than keep it: migration may change it.
 * @returns undefined when nothing says it
 */
export async function ownDomain(client: XenStoreClient, call: Call): Promise<number | undefined> {
  const text = await client.readText("domid", call);
  const told = text === undefined ? undefined : domainOf(text);
  if (told !== undefined) return told;
  const owner = (await client.permissions("data", call))?.[0]?.domain;
  // Whoever uses the socket works below the controlling domain's directory.
  return owner ?? (client.privileged ? 0 : undefined);
}

/**
 * Returns the absolute path of this domain's directory, which has no relative one.
 * @throws PvbusError `ERR_UNAVAILABLE` when nothing says the domain's id
 */
export async function homePath(client: XenStoreClient, call: Call): Promise<string> {
  const domain = await ownDomain(client, call);
  if (domain === undefined) throw domainUnknown();
  return client.domainPath(domain, call);
}

/** Returns the error of listings of the own directory where nothing says whose it is. */
export function domainUnknown(): Error {
  return pvbusError(
    "ERR_UNAVAILABLE",
    "this domain's id is not known, so its own directory cannot be listed; name a path in it, such as data",
  );
}
