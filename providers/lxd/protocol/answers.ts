import { pvbusError } from "../../../src/base/errors.js";
import { type InstanceType, isVisible } from "./keys.js";

/** Keys that a listing may have. */
const MAX_KEYS = 100_000;
const FRONT = "/1.0/config/";

/** What the API says of the instance. */
export interface Instance {
  /** Container or machine. */
  readonly type: InstanceType;
  /** `Started` or `Ready`; empty before LXD 5.5. */
  readonly state: string;
  /** Name of the host, of the cluster's member, or `none`. */
  readonly location: string;
}

/** Reads the answer to `GET /1.0`. @throws PvbusError `ERR_PROTOCOL` for anything else */
export function decodeInstance(body: Uint8Array): Instance {
  const told = parse(body, "the description of the instance");
  const { instance_type: type, state, location } = Object(told) as Record<string, unknown>;
  if (type !== "container" && type !== "virtual-machine")
    throw broken("it does not say what kind of instance this is");
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  return { type, state: text(state), location: text(location) };
}

/** Reads the answer to `GET /1.0/config`: the visible keys, sorted. @throws PvbusError `ERR_PROTOCOL` */
export function decodeKeys(body: Uint8Array): string[] {
  const told = parse(body, "the list of keys");
  if (!Array.isArray(told)) throw broken("the list of keys is no list");
  if (told.length > MAX_KEYS) throw broken(`the list has more than ${MAX_KEYS} keys`);
  const keys = new Set<string>();
  for (const path of told as readonly unknown[]) {
    if (typeof path !== "string") throw broken("the list of keys has something else in it");
    // Keys stand there as they are, not encoded.
    if (path.startsWith(FRONT) && isVisible(path.slice(FRONT.length))) keys.add(path.slice(FRONT.length));
  }
  return [...keys].sort();
}

/** Returns the key that an event is about; undefined where it is about none, or is no event. */
export function keyOfEvent(text: string): string | undefined {
  let event: unknown;
  try {
    event = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { type, metadata } = Object(event) as Record<string, unknown>;
  const { key } = Object(metadata) as Record<string, unknown>;
  return type === "config" && typeof key === "string" && isVisible(key) ? key : undefined;
}

/** Returns the machine's id and name out of the text of `GET /1.0/meta-data`; what the administrator adds stands behind them. */
export function decodeMetaData(text: string): { readonly id?: string; readonly name?: string } {
  const id = /^instance-id: ([^\r\n]{1,256})$/m.exec(text)?.[1];
  const name = /^local-hostname: ([^\r\n]{1,256})$/m.exec(text)?.[1];
  return { ...(id === undefined ? {} : { id }), ...(name === undefined ? {} : { name }) };
}

/** The error of a peer that does not speak this protocol. */
export function broken(why: string, cause?: unknown): Error {
  return pvbusError(
    "ERR_PROTOCOL",
    `what answers is no guest API of LXD or Incus: ${why}; see what serves the socket`,
    { cause },
  );
}

function parse(body: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString("utf8"));
  } catch (cause) {
    throw broken(`${what} is no JSON`, cause);
  }
}
