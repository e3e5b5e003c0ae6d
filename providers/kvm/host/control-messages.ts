import { isErrorCode, type PvbusError, pvbusError } from "../../../src/base/errors.js";
import { decodeBase64, encodeBase64 } from "../../../src/mdata/base64.js";
import { type GuestPresence, isPresence } from "./presence.js";

/*
 * Orders to a running host, over a socket that only its owner may use: one JSON object a line, one order a connection. The
 * answers are such lines too, the last of which has `done`.
 */

export type Order =
  | { readonly do: "guests" | "damages" }
  | { readonly do: "get" | "delete" | "follow"; readonly guest: string; readonly key: string }
  | { readonly do: "set"; readonly guest: string; readonly key: string; readonly value: Uint8Array }
  | { readonly do: "list"; readonly guest: string; readonly prefix: string };

export type Report =
  | { readonly name: string }
  | { readonly key: string; readonly value: Uint8Array }
  | { readonly presence: GuestPresence; readonly value?: Uint8Array }
  | { readonly done: boolean }
  | { readonly guest: string; readonly message: string }
  | { readonly error: PvbusError };

export const encodeOrder: (order: Order) => string = encode;

/** Reads an order's line; undefined for anything else. */
export function decodeOrder(line: string): Order | undefined {
  const { do: what, guest, key, prefix, value } = decode(line) ?? {};
  if (what === "guests" || what === "damages") return { do: what };
  if (typeof guest !== "string") return undefined;
  if (what === "list") return typeof prefix === "string" ? { do: what, guest, prefix } : undefined;
  if (typeof key !== "string") return undefined;
  if (what === "get" || what === "delete" || what === "follow") return { do: what, guest, key };
  const bytes = typeof value === "string" ? decodeBase64(value) : undefined;
  return what === "set" && bytes !== undefined ? { do: what, guest, key, value: bytes } : undefined;
}

export function encodeReport(report: Report): string {
  if (!("error" in report)) return encode(report);
  const { code, message, key } = report.error;
  return encode({ error: { code, message, key } });
}

/** Reads a line of an answer; undefined for anything else. An unknown code of an error is `ERR_UNAVAILABLE`. */
export function decodeReport(line: string): Report | undefined {
  const { name, key, value, done, error, guest, message, presence } = decode(line) ?? {};
  if (typeof done === "boolean") return { done };
  if (typeof name === "string") return { name };
  if (typeof error === "object" && error !== null)
    return { error: readError(error as Record<string, unknown>) };
  if (typeof guest === "string" && typeof message === "string") return { guest, message };
  const bytes = typeof value === "string" ? decodeBase64(value) : undefined;
  if (isPresence(presence)) return bytes === undefined ? { presence } : { presence, value: bytes };
  return typeof key === "string" && bytes !== undefined ? { key, value: bytes } : undefined;
}

/** A newer host may know codes that we do not: whatever it meant, it does not do it. */
function readError({ code, message, key }: Readonly<Record<string, unknown>>): PvbusError {
  const text = typeof message === "string" ? message : "the host gives no reason";
  const details = typeof key === "string" ? { key } : {};
  return pvbusError(isErrorCode(code) ? code : "ERR_UNAVAILABLE", text, details);
}

function encode(message: object): string {
  // Replaced beforehand: a Buffer has a JSON form of its own.
  const plain = Object.entries(message).map(([name, value]) => [
    name,
    value instanceof Uint8Array ? encodeBase64(value) : value,
  ]);
  return `${JSON.stringify(Object.fromEntries(plain))}\n`;
}

function decode(line: string): Record<string, unknown> | undefined {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null ? (message as Record<string, unknown>) : undefined;
  } catch {
    // What is no JSON is no message.
    return undefined;
  }
}
