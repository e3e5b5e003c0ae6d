import { pvbusError } from "../../../src/base/errors.js";
import { NAMESPACE_VALUE_BYTES } from "./limits.js";
import { command, type RpciRequest } from "./rpci.js";

/* Commands of the namespace database: texts, each with a NUL behind it. An empty value is none. */

/** A change of one value. */
export interface NamespaceChange {
  /** Its key. */
  readonly key: string;
  /** The new value; empty: removes it. */
  readonly value: string;
  /** The present one, empty for none; undefined: whatever it is. */
  readonly expected?: string | undefined;
}

/** Asks for values: `NS\0` and for each `KEY\0`. @throws PvbusError `ERR_KEY_INVALID` */
export function namespaceGet(namespace: string, keys: readonly string[]): RpciRequest {
  for (const key of keys) checkNamespaceText("key", key);
  return command("namespace-priv-get-values", texts([namespace, ...keys]), {
    repeatable: true,
    privileged: true,
  });
}

/** Takes the reply apart: each value with its NUL, an absent one empty. @throws PvbusError `ERR_PROTOCOL` for another number of values */
export function decodeNamespaceValues(
  keys: readonly string[],
  bytes: Uint8Array,
): ReadonlyMap<string, string> {
  const reply = Buffer.from(bytes).toString("utf8");
  if (reply === "") return new Map();
  const values = reply.split("\0");
  if (values.length !== keys.length + 1 || values.at(-1) !== "")
    throw pvbusError("ERR_PROTOCOL", `the host gave ${values.length - 1} values for ${keys.length} keys`);
  return new Map(keys.map((key, at) => [key, values[at] ?? ""] as const).filter(([, value]) => value !== ""));
}

/**
 * Changes a value: `NS\0 COUNT\0` and for each `OP\0 KEY\0 VALUE\0 OLD\0`; operation 1 compares.
 * @throws PvbusError `ERR_KEY_INVALID`
 */
export function namespaceSet(namespace: string, { key, value, expected }: NamespaceChange): RpciRequest {
  checkNamespaceText("key", key);
  const compares = expected !== undefined;
  const fields = [namespace, "1", compares ? "1" : "0", key, value, expected ?? ""];
  return command("namespace-priv-set-keys", texts(fields), { repeatable: !compares, privileged: true });
}

/** Checks a value. @throws PvbusError `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID` */
export function checkNamespaceValue(value: string): void {
  if (Buffer.byteLength(value) > NAMESPACE_VALUE_BYTES)
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `a value of the namespace database has at most ${NAMESPACE_VALUE_BYTES} bytes`,
    );
  checkNamespaceText("value", value);
}

/** Checks a text. @throws PvbusError `ERR_KEY_INVALID`, `ERR_VALUE_INVALID` */
export function checkNamespaceText(what: "name of a namespace" | "key" | "value", text: string): void {
  const code = what === "value" ? "ERR_VALUE_INVALID" : "ERR_KEY_INVALID";
  if (text === "") throw pvbusError(code, `the ${what} is empty, which means none in the namespace database`);
  if (text.includes("\0") || !text.isWellFormed())
    throw pvbusError(code, `the ${what} holds a NUL or a lone surrogate; encode it`);
}

function texts(fields: readonly string[]): string {
  return fields.map((text) => `${text}\0`).join("");
}
