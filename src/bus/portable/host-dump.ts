import { pvbusError } from "../../base/errors.js";
import { Call } from "../../base/flow/call.js";
import type { HostPair, PortableHost } from "../../contract/portable-host.js";
import { checkName, checkNamespace, checksum, decodeHead, isMarked, joinSet } from "./layout.js";

/** Names that tools give to the fields of a pair. */
const KEYS: readonly string[] = ["key", "name"];
const VALUES: readonly string[] = ["value", "data", "valuebase64"];

/** Returns the value of {@link joinFromHost}. */
export async function joinPrinted(
  host: PortableHost,
  namespace: string,
  name: string,
  printed: Uint8Array,
): Promise<Uint8Array | undefined> {
  checkNamespace(namespace);
  checkName(name);
  const pairs = new Map<string, Uint8Array>();
  const text = textOf(printed);
  for (const { key, value } of jsonPairs(text) ?? host.pairs(text))
    pairs.set(host.keyOf?.(key) ?? key, typeof value === "string" ? Buffer.from(value) : value);
  const key = host.guestKey(namespace, name);
  const stored = pairs.get(key);
  if (stored === undefined || !isMarked(stored)) return stored;
  const head = decodeHead(stored);
  if (head === undefined)
    throw pvbusError(
      "ERR_CORRUPT",
      `"${key}" begins as a head record of portable keys but is none of version 1`,
      {
        key,
      },
    );
  const call = new Call();
  const whole = await joinSet(
    head,
    async (index) => pairs.get(`${key}__${head.slot}_${index}`),
    (value) => checksum(value, () => call.turn("the checksum")),
  );
  if (whole !== undefined) return whole;
  throw pvbusError(
    "ERR_CONFLICT",
    `the parts of "${key}" do not belong together: a publisher was at work, or a part was not printed; print it again`,
    { key },
  );
}

/** Windows writes UTF-16 where it is told nothing else. */
function textOf(bytes: Uint8Array): string {
  const isWide = bytes[0] === 0xff && bytes[1] === 0xfe;
  return new TextDecoder(isWide ? "utf-16le" : "utf-8").decode(bytes);
}

/** A pair of JSON, whose value may be bytes. */
type JsonPair = Omit<HostPair, "value"> & { readonly value: string | Uint8Array };

/** Returns the pairs of JSON or of JSON Lines; undefined for what is neither. */
function jsonPairs(text: string): JsonPair[] | undefined {
  const start = text.trimStart()[0];
  if (start !== "[" && start !== "{") return undefined;
  const pairs: JsonPair[] = [];
  for (const document of documentsOf(text)) collect(document, pairs);
  return pairs;
}

function documentsOf(text: string): unknown[] {
  try {
    return [JSON.parse(text)];
  } catch (cause) {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    try {
      return lines.map((line) => JSON.parse(line));
    } catch {
      throw pvbusError("ERR_VALUE_INVALID", "what was printed begins as JSON but is none; print it again", {
        cause,
      });
    }
  }
}

function collect(document: unknown, pairs: JsonPair[]): void {
  if (typeof document !== "object" || document === null) return;
  if (Array.isArray(document)) {
    for (const each of document) collect(each, pairs);
    return;
  }
  const fields = Object.entries(document);
  const find = (names: readonly string[]): [string, unknown] | undefined =>
    fields.find(([field, value]) => names.includes(field.toLowerCase()) && typeof value === "string");
  const key = find(KEYS)?.[1];
  const [field = "", value] = find(VALUES) ?? [];
  if (typeof key === "string" && typeof value === "string") {
    const isBase64 = field.toLowerCase() === "valuebase64";
    pairs.push({ key, value: isBase64 ? Buffer.from(value, "base64") : value });
  } else for (const [, each] of fields) collect(each, pairs);
}
