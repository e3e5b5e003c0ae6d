import { completeLimits, DEFAULT_LIMITS, type GuestLimits, type Namespaces } from "./limits.js";
import type { ServedGuest } from "./server.js";
import { type Fields, objectOf, parseEndpoint, type SocketOwner } from "./settings/endpoint.js";
import { checkGuestName } from "./state-directory.js";

/** What a configuration file says. */
export interface HostConfiguration {
  /** The guests. */
  readonly guests: readonly ServedGuest[];
  /** What every guest may store. */
  readonly limits?: Partial<GuestLimits> | undefined;
  /** What every guest may change. */
  readonly namespaces?: Namespaces | undefined;
}

const FILE_FIELDS = ["limits", "readOnly", "writable", "guests"];
const GUEST_FIELDS = ["endpoints", "limits", "readOnly", "writable", "socketOwner"];

/** Reads a configuration, as its file's JSON gives it. @throws TypeError, RangeError that say where the mistake is */
export function parseConfiguration(document: unknown): HostConfiguration {
  const fields = objectOf(document, "the configuration", FILE_FIELDS);
  const guests = objectOf(fields["guests"] ?? {}, "guests");
  return {
    ...commonOf(fields, "the configuration"),
    guests: Object.entries(guests).map(([name, guest]) => guestOf(name, guest)),
  };
}

function guestOf(name: string, document: unknown): ServedGuest {
  const where = `guests.${checkGuestName(name)}`;
  const fields = objectOf(document, where, GUEST_FIELDS);
  const endpoints = stringsOf(fields["endpoints"] ?? [], `${where}.endpoints`).map(parseEndpoint);
  return {
    name,
    endpoints,
    ...commonOf(fields, where),
    socketOwner: ownerOf(fields["socketOwner"], `${where}.socketOwner`),
  };
}

function commonOf(fields: Fields, where: string): Pick<HostConfiguration, "limits" | "namespaces"> {
  const { limits, readOnly, writable } = fields;
  const given = limits === undefined ? undefined : limitsOf(limits, `${where}: limits`);
  if (readOnly === undefined && writable === undefined) return { limits: given };
  return {
    limits: given,
    namespaces: {
      readOnly: stringsOf(readOnly ?? [], `${where}: readOnly`),
      writable: writable === undefined ? undefined : stringsOf(writable, `${where}: writable`),
    },
  };
}

function limitsOf(value: unknown, where: string): Partial<GuestLimits> {
  const limits = objectOf(value, where, Object.keys(DEFAULT_LIMITS)) as Partial<GuestLimits>;
  completeLimits(limits);
  return limits;
}

function ownerOf(value: unknown, where: string): SocketOwner | undefined {
  if (value === undefined) return undefined;
  const { uid, gid } = objectOf(value, where, ["uid", "gid"]);
  const isId = (id: unknown): id is number => Number.isInteger(id) && (id as number) >= 0;
  if (!isId(uid) || !isId(gid)) throw new TypeError(`${where} takes uid and gid, two numbers`);
  return { uid, gid };
}

function stringsOf(value: unknown, where: string): string[] {
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value;
  throw new TypeError(`${where} takes a list of strings`);
}
