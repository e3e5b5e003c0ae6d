import { pvbusError } from "../../../src/base/errors.js";
import { ownEntry } from "../../../src/base/own.js";

/** What a domain may do with a node. */
export type Access = "none" | "read" | "write" | "both";

/**
 * One entry of a node's permissions. In the first one `domain` is the owner, who may do everything, and `access` is
 * what all domains without an entry of their own may do; of further entries the first that names a domain decides.
 */
export interface Permission {
  /** Domain id. */
  readonly domain: number;
  /** What it may do. */
  readonly access: Access;
}

const LETTERS: Readonly<Record<Access, string>> = { none: "n", read: "r", write: "w", both: "b" };
const ACCESS: Readonly<Record<string, Access>> = { n: "none", r: "read", w: "write", b: "both" };
/** Largest domain id: 16 bits. */
const MAX_DOMAIN = 0xffff;

/** Returns an entry as on the wire: `n0`, `r7`. @throws TypeError, RangeError for an entry that is none */
export function formatPermission({ domain, access }: Permission): string {
  const letter = ownEntry(LETTERS, access);
  if (letter === undefined) throw new TypeError('access must be "none", "read", "write" or "both"');
  checkDomain(domain);
  return `${letter}${domain}`;
}

/** Takes an entry apart; undefined when it is none. */
export function readPermission(text: string): Permission | undefined {
  const access = ownEntry(ACCESS, text.slice(0, 1));
  const domain = domainOf(text.slice(1));
  return access === undefined || domain === undefined ? undefined : { domain, access };
}

/** Takes an entry of the daemon's apart. @throws PvbusError `ERR_PROTOCOL` when it is none */
export function parsePermission(text: string): Permission {
  const permission = readPermission(text);
  if (permission === undefined)
    throw pvbusError("ERR_PROTOCOL", "the XenStore daemon answered with a malformed permission");
  return permission;
}

/** Returns the domain id that a text from outside says; undefined where it says none. */
export function domainOf(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= MAX_DOMAIN ? Number(text) : undefined;
}

/** Checks a domain id. @throws RangeError */
export function checkDomain(domain: number): void {
  if (!(Number.isInteger(domain) && domain >= 0 && domain <= MAX_DOMAIN))
    throw new RangeError("a domain is a whole number from 0 to 65535");
}
