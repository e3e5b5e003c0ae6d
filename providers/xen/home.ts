import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { XenStoreClient } from "./client/client.js";
import { domainOf } from "./protocol/permissions.js";

/**
 * Returns this domain's id: what the toolstack wrote, else the owner of the directory that every guest owns. Ask again rather
 * than keep it: migration may change it.
 * @returns undefined when nothing tells it
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
 * @throws PvbusError `ERR_UNAVAILABLE` when nothing tells the domain's id
 */
export async function homePath(client: XenStoreClient, call: Call): Promise<string> {
  const domain = await ownDomain(client, call);
  if (domain !== undefined) return client.domainPath(domain, call);
  throw pvbusError(
    "ERR_UNAVAILABLE",
    "nothing tells this domain's id, so its own directory cannot be listed; name a path in it, such as data",
  );
}
