import { PvbusError, type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { ownEntry } from "../../../src/base/own.js";
import { typeName, XS, type XsType } from "./wire.js";

/** A refusal by the XenStore daemon, the cause of the PvbusError that reports it. */
export class XenStoreRefusal extends Error {
  /** The error's name as the daemon gave it: `EACCES`, `EQUOTA`, … */
  readonly code: string;
  /** What was asked: `READ`. */
  readonly request: string;

  /** @param code as on the wire */
  constructor(code: string, request: string) {
    super(`${request}: ${code}`);
    this.name = "XenStoreRefusal";
    this.code = code;
    this.request = request;
  }
}

interface Meaning {
  readonly code: PvbusErrorCode;
  readonly what: string;
}

const FULL: Meaning = {
  code: "ERR_NO_SPACE",
  what: "a quota of this domain is used up (nodes, size of a node with its children's names, watches, transactions)",
};
const TOO_LONG: Meaning = {
  code: "ERR_KEY_TOO_LONG",
  what: "this daemon takes no path so long (oxenstored 1024 characters, others 2048); shorten it",
};
/** Every daemon takes paths up to here. */
const SHORTEST_PATH_MAX = 1000;
const SHORT_LISTINGS: Meaning = {
  code: "ERR_NOT_SUPPORTED",
  what: "listings of more than 4096 bytes are not possible here",
};
const GONE: Meaning = { code: "ERR_CONFLICT", what: "the transaction is gone; try again" };
const UNKNOWN: Meaning = { code: "ERR_PROTOCOL", what: "an error that is not known" };
const HISTORIC: Meaning = { code: "ERR_PROTOCOL", what: "no daemon of today answers so" };

/** Meanings of the errors (xs_wire.h `xsd_errors`; EQUOTA is oxenstored's own). */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  EINVAL: { code: "ERR_KEY_INVALID", what: "the daemon takes no such path or argument" },
  ENOENT: { code: "ERR_KEY_INVALID", what: "there is no such node" },
  EACCES: { code: "ERR_PERMISSION", what: "this domain may not; have the host's administrator give access" },
  EPERM: { code: "ERR_PERMISSION", what: "this domain may not; only the node's owner may" },
  EROFS: { code: "ERR_READ_ONLY", what: "it may be read only" },
  E2BIG: { code: "ERR_VALUE_TOO_LONG", what: "it is longer than the daemon takes; shorten it" },
  ENOSPC: FULL,
  EQUOTA: FULL,
  ENOMEM: { code: "ERR_NO_SPACE", what: "the daemon is out of memory" },
  EAGAIN: { code: "ERR_CONFLICT", what: "somebody changed the same nodes meanwhile; try again" },
  EBUSY: { code: "ERR_BUSY", what: "it is under way already; try again" },
  EEXIST: { code: "ERR_BUSY", what: "it is there already" },
  ENOSYS: { code: "ERR_NOT_SUPPORTED", what: "this daemon has no such request" },
  EIO: { code: "ERR_UNAVAILABLE", what: "the daemon is in trouble, or the transaction is over" },
  EISDIR: HISTORIC,
  ENOTEMPTY: HISTORIC,
  EISCONN: HISTORIC,
};

/** What an error means for one request alone. */
const SPECIAL: Readonly<Record<number, Readonly<Record<string, Meaning>>>> = {
  // The watch quota of Xen 4.17's C daemon.
  [XS.WATCH]: { E2BIG: FULL },
  [XS.CONTROL]: { EINVAL: { code: "ERR_NOT_SUPPORTED", what: "this daemon has no such command" } },
  // FreeBSD's driver, and a daemon that has it for the controlling domain only.
  [XS.DIRECTORY_PART]: { EINVAL: SHORT_LISTINGS, ENOSYS: SHORT_LISTINGS },
  [XS.DIRECTORY]: { E2BIG: { code: "ERR_NOT_SUPPORTED", what: "the listing has more than 4096 bytes" } },
  [XS.TRANSACTION_END]: { ENOENT: GONE, EIO: GONE },
};

/** Errors of write(2) that are the daemon's own answer to WATCH (Linux drivers/xen/xenbus/xenbus_dev_frontend.c). */
const FROM_DAEMON =
  /^(?:EINVAL|EACCES|EEXIST|EISDIR|ENOENT|ENOMEM|ENOSPC|EIO|ENOTEMPTY|ENOSYS|EROFS|EBUSY|EAGAIN|EISCONN|E2BIG|EPERM|EILSEQ)$/;
/** Longest name of an error that is read. */
const MAX_NAME = 64;
const NAME = /^[A-Z][A-Z0-9]{0,31}$/;

/** Returns the error that reports a refusal; any error name survives in the cause. */
export function refusalError(type: XsType, name: string, path: string): Error {
  const request = typeName(type);
  const shown = NAME.test(name) ? name : "an error without a name";
  const { code, what } =
    ownEntry(SPECIAL[type], name) ??
    (name === "EINVAL" && path.length > SHORTEST_PATH_MAX ? TOO_LONG : ownEntry(MEANINGS, name)) ??
    UNKNOWN;
  const on = path === "" ? "" : ` of ${JSON.stringify(path.length > 80 ? `${path.slice(0, 80)}…` : path)}`;
  return pvbusError(code, `XenStore refuses ${request}${on} (${shown}): ${what}`, {
    cause: new XenStoreRefusal(shown, request),
  });
}

/** Returns the name of an error as a reply has it. */
export function refusalName(bytes: Buffer, start: number, end: number): string {
  const nul = bytes.indexOf(0, start);
  const stop = nul < 0 || nul > end ? end : nul;
  return bytes.toString("latin1", start, Math.min(stop, start + MAX_NAME));
}

/** Reports whether an error of write(2) is the daemon's own answer, passed on by a driver. */
export function isAnswerOfDaemon(errno: string): boolean {
  return FROM_DAEMON.test(errno);
}

/** Reports whether an error is a refusal of the daemon's by one of these names. */
export function isRefusal(error: unknown, ...names: readonly string[]): boolean {
  return PvbusError.is(error) && error.cause instanceof XenStoreRefusal && names.includes(error.cause.code);
}
