import { type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { peerWords } from "../../../src/base/outside-text.js";
import { ownEntry } from "../../../src/base/own.js";
import { command, HostRefusal, type RpciRequest } from "./rpci.js";

/*
 * Commands of DataSets: a name and arguments in JSON, a reply in JSON (Broadcom Guest SDK, "DataSets for Guest Management").
 */

/** A DataSet as the host lists it. */
export interface DataSetInfo {
  /** Its name. */
  readonly name: string;
  /** What the administrator wrote about it. */
  readonly description: string;
}

/** Arguments of a command. */
export interface DataSetArguments {
  readonly dataset?: string;
  readonly keys?: readonly string[];
  readonly entries?: readonly { readonly key: string; readonly value: string }[];
  readonly append?: true | undefined;
  readonly context?: string | undefined;
}

/** Fields of a reply; all of it comes from outside. */
export type DataSetReply = Readonly<Record<string, unknown>>;

/** The failure of a DataSet command with the host's own id. */
export class DataSetFailure extends HostRefusal {
  /** `invalid-argument`, … */
  readonly id: string;

  /** @param id the host's @param words the host's message */
  constructor(id: string, words: string) {
    super(words);
    this.id = id;
  }
}

/** Bytes of a command's arguments that surely fit. */
const MAX_ARGUMENTS_BYTES = 63 * 1024;
const CODE_OF_ID: readonly (readonly [RegExp, PvbusErrorCode])[] = [
  [/read.?only/, "ERR_READ_ONLY"],
  [/access|permission|denied/, "ERR_PERMISSION"],
  [/space|quota|limit|full/, "ERR_NO_SPACE"],
  [/argument|invalid/, "ERR_VALUE_INVALID"],
  [/busy|again/, "ERR_BUSY"],
];

/** Makes a command. Only one that appends must not be given twice. */
export function dataSetCommand(name: string, args: DataSetArguments | undefined): RpciRequest {
  const json = args === undefined ? "" : JSON.stringify(args);
  return command(name, json, { repeatable: args?.append !== true, privileged: true });
}

/** Makes the arguments that set a value: as many commands as it needs, the first one of which replaces what was there. */
export function* settingArguments(
  dataset: string,
  key: string,
  value: string,
): Generator<DataSetArguments, void, undefined> {
  const room = MAX_ARGUMENTS_BYTES - jsonBytes({ dataset, entries: [{ key, value: "" }], append: true });
  let rest = value;
  do {
    const piece = rest.slice(0, pieceLength(rest, room));
    const isFirst = rest === value;
    yield { dataset, entries: [{ key, value: piece }], append: isFirst ? undefined : true };
    rest = rest.slice(piece.length);
  } while (rest !== "");
}

/** Takes a reply apart. @throws PvbusError `ERR_PROTOCOL` for what is none */
export function decodeDataSetReply(name: string, bytes: Uint8Array): DataSetReply {
  try {
    const reply: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    if (typeof reply === "object" && reply !== null && "result" in reply) return reply as DataSetReply;
  } catch (cause) {
    throw malformed(`the reply to ${name} is no JSON`, cause);
  }
  throw malformed(`the reply to ${name} has no result`);
}

/** Returns the failure that a reply reports; undefined for a success. */
export function failureIn(reply: DataSetReply): DataSetFailure | undefined {
  if (reply["result"] === true) return undefined;
  return new DataSetFailure(textIn(reply["error-id"]) ?? "unknown", textIn(reply["error-message"]) ?? "");
}

/** Makes the error of a failure. */
export function dataSetError(name: string, failure: DataSetFailure): Error {
  const code = CODE_OF_ID.find(([pattern]) => pattern.test(failure.id))?.[1] ?? "ERR_PERMISSION";
  return pvbusError(
    code,
    `the host refused ${name} (${JSON.stringify(failure.id)}: ${JSON.stringify(failure.words)}); see the DataSet on the host`,
    { cause: failure },
  );
}

/** Returns the DataSets of a listing. @throws PvbusError `ERR_PROTOCOL` */
export function dataSetsIn({ datasets }: DataSetReply): DataSetInfo[] {
  return arrayOf(datasets, "datasets").map((each) => {
    const { name, description } = each as { name?: unknown; description?: unknown };
    if (typeof name !== "string") throw malformed("a dataset has no name");
    return { name, description: typeof description === "string" ? description : "" };
  });
}

/** Returns the keys of a page, and the context of the next one. @throws PvbusError `ERR_PROTOCOL` */
export function keysIn({ keys, context }: DataSetReply): {
  readonly keys: readonly string[];
  readonly next: string | undefined;
} {
  const found = arrayOf(keys, "keys");
  if (!found.every((key) => typeof key === "string")) throw malformed("a key is no text");
  return { keys: found, next: typeof context === "string" && context !== "" ? context : undefined };
}

/** Returns the value of a key; entries come as `{ key: value }`, or as the vendor's pages spell it too. @throws PvbusError `ERR_PROTOCOL` */
export function valueIn({ entries }: DataSetReply, key: string): string {
  for (const entry of arrayOf(entries, "entries")) {
    const pair = entry as Readonly<Record<string, unknown>>;
    const value = ownEntry(pair, key) ?? (pair["key"] === key ? pair["value"] : undefined);
    if (typeof value === "string") return value;
  }
  throw malformed("the value that was asked for is not in the reply");
}

/** Makes the error of a malformed answer. */
export function malformed(why: string, cause?: unknown): Error {
  return pvbusError("ERR_PROTOCOL", `the host's answer about DataSets is malformed: ${why}`, { cause });
}

function arrayOf(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value) && value.every((each) => each !== null && each !== undefined)) return value;
  throw malformed(`${what} is no list`);
}

/** Texts and numbers alone: whatever else JSON holds may have no text, `{"toString":1}` for one. */
function textIn(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" ? peerWords(`${value}`) : undefined;
}

function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/** Characters from the front whose JSON fits, never half a surrogate pair. */
function pieceLength(text: string, room: number): number {
  let length = Math.min(text.length, room);
  while (length > 1 && jsonBytes(text.slice(0, length)) - 2 > room) length = Math.ceil(length * 0.75) - 1;
  const last = text.charCodeAt(length - 1);
  const isSplit = length > 1 && length < text.length && last >= 0xd800 && last < 0xdc00;
  return isSplit ? length - 1 : length;
}
