import { pvbusError } from "../../../src/base/errors.js";
import { type Permission, parsePermission } from "./permissions.js";
import { decodeStrings, typeName, XS, type XsType } from "./wire.js";

/** What a kind of request is and how its reply is understood. */
export interface Operation<T> {
  readonly type: XsType;
  /** Reads the reply's payload, `bytes` from `start` to `end`, which is valid during the call only. */
  readonly decode: (bytes: Buffer, start: number, end: number) => T;
  /** The payload has no NUL behind its text. */
  readonly bare?: true;
  /** What the refusal ENOENT stands for; none: it is an error. */
  readonly missing?: { readonly value: T };
}

const NUL = 0;
const NOTHING = { value: undefined };

function text(bytes: Buffer, start: number, end: number): string {
  const nul = bytes.indexOf(NUL, start);
  return bytes.toString("utf8", start, nul < 0 || nul > end ? end : nul);
}

function malformed(type: XsType): Error {
  return pvbusError("ERR_PROTOCOL", `the XenStore daemon's answer to ${typeName(type)} is malformed`);
}

/** Is acknowledged with `OK`, behind whose NUL FreeBSD leaves stray bytes. */
function change(type: XsType): Operation<true> {
  return {
    type,
    decode: (bytes, start, end) => {
      const length = end - start;
      const isOk = length >= 2 && bytes[start] === 0x4f && bytes[start + 1] === 0x4b;
      if (isOk && (length === 2 || bytes[start + 2] === NUL)) return true;
      throw malformed(type);
    },
  };
}

function number(type: XsType, bytes: Buffer, start: number, end: number): number {
  const digits = text(bytes, start, end);
  if (!/^\d{1,10}$/.test(digits)) throw malformed(type);
  return Number(digits);
}

function copy(bytes: Buffer, start: number, end: number): Buffer {
  return Buffer.from(bytes.subarray(start, end));
}

export const READ: Operation<Buffer | undefined> = { type: XS.READ, decode: copy, missing: NOTHING };

export const READ_TEXT: Operation<string | undefined> = {
  type: XS.READ,
  decode: (bytes, start, end) => bytes.toString("utf8", start, end),
  missing: NOTHING,
};

export const DIRECTORY: Operation<string[] | undefined> = {
  type: XS.DIRECTORY,
  decode: (bytes, start, end) => {
    if (end > start && bytes[end - 1] !== NUL) throw malformed(XS.DIRECTORY);
    return decodeStrings(bytes.subarray(start, end));
  },
  missing: NOTHING,
};

/** Returns one part of a long listing, still encoded; undefined: no such node. */
export const DIRECTORY_PART: Operation<Buffer | undefined> = {
  type: XS.DIRECTORY_PART,
  decode: copy,
  missing: NOTHING,
};

export const GET_PERMS: Operation<Permission[] | undefined> = {
  type: XS.GET_PERMS,
  decode: (bytes, start, end) => {
    const permissions = decodeStrings(bytes.subarray(start, end)).map(parsePermission);
    if (permissions.length === 0) throw malformed(XS.GET_PERMS);
    return permissions;
  },
  missing: NOTHING,
};

export const SET_PERMS: Operation<boolean> = { ...change(XS.SET_PERMS), missing: { value: false } };
export const WRITE: Operation<true> = change(XS.WRITE);
export const MKDIR: Operation<true> = change(XS.MKDIR);
/** Removes a node; false: neither it nor its parent is there. */
export const RM: Operation<boolean> = { ...change(XS.RM), missing: { value: false } };
export const WATCH: Operation<true> = change(XS.WATCH);
/** Removes a watch; false: there was none. */
export const UNWATCH: Operation<boolean> = { ...change(XS.UNWATCH), missing: { value: false } };
export const TRANSACTION_START: Operation<number> = {
  type: XS.TRANSACTION_START,
  decode: (bytes, start, end) => {
    const id = number(XS.TRANSACTION_START, bytes, start, end);
    if (id === 0 || id > 0xffff_ffff) throw malformed(XS.TRANSACTION_START);
    return id;
  },
};
export const TRANSACTION_END: Operation<true> = change(XS.TRANSACTION_END);
export const GET_DOMAIN_PATH: Operation<string> = { type: XS.GET_DOMAIN_PATH, decode: text };
export const IS_DOMAIN_INTRODUCED: Operation<boolean> = {
  type: XS.IS_DOMAIN_INTRODUCED,
  decode: (bytes, start, end) => {
    const answer = text(bytes, start, end);
    if (answer !== "T" && answer !== "F") throw malformed(XS.IS_DOMAIN_INTRODUCED);
    return answer === "T";
  },
};
/** Runs a command of the daemon's own. */
export const CONTROL: Operation<string> = { type: XS.CONTROL, decode: text };
/** Returns the daemon's features as a bit set. */
export const GET_FEATURE: Operation<number> = {
  type: XS.GET_FEATURE,
  bare: true,
  decode: (bytes, start, end) => number(XS.GET_FEATURE, bytes, start, end),
};
