import { isUtf8 } from "node:buffer";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { decodeReadyValue, READY_NAME } from "../../../src/base/ready-value.js";
import type { CommandIo } from "../../../src/contract/command.js";
import { checkGuestName, type GuestNews, type GuestPresence, waitForValue } from "../host/index.js";
import { type HostOptions, stateOf, usage } from "./documents.js";

/** Options of `pvbus host wait`. */
export interface WaitOptions extends HostOptions {
  /** Wait until it is ready, besides a key. */
  readonly ready?: boolean;
  /** The key, where it holds a `=`. */
  readonly key?: string;
  /** The value that it is to have. */
  readonly value?: string;
}

/** One thing that each guest is waited for. */
interface Awaited {
  readonly key: string;
  readonly value: string | undefined;
  /** Whether it is the value of readiness, which says more than that it is there. */
  readonly isReadiness: boolean;
}

const READY_KEY = `org.pvbus/${READY_NAME}`;

/** Why somebody is still missing. */
function whyMissing(presence: GuestPresence | undefined): string {
  switch (presence) {
    case "connected":
      return "it is connected and late";
    case "gone":
      return "it is gone: its connection has ended, it was shut down or killed";
    case "never":
      return "it was never seen";
    default:
      return "no host serves it now";
  }
}

/**
 * `pvbus host wait [KEY[=VALUE]] [--ready]`: waits for all guests that are named; without a key until they are ready. Exit 1 for one that
 * has failed, with what it says; `ERR_TIMEOUT` names who is missing, and whether it is there at all.
 */
export async function waitAction(
  io: CommandIo,
  [argument]: readonly string[],
  own: WaitOptions,
): Promise<number> {
  const directory = stateOf(io, own);
  const guests = [...new Set(own.guest ?? [])].map((name) => usage(io, () => checkGuestName(name)));
  if (guests.length === 0) throw io.usage("host wait: name a guest with --guest NAME; repeatable");
  const awaited = awaitedOf(io, argument, own);
  const call = new Call(io.call, Number.POSITIVE_INFINITY);
  const outcomes = await Promise.allSettled(
    guests.flatMap((guest) =>
      awaited.map((each) => waitForOne(io, { directory, guest, isOne: guests.length === 1, call }, each)),
    ),
  );
  const failures = outcomes.flatMap((each) => (each.status === "rejected" ? [each.reason as unknown] : []));
  const other = failures.find((each) => !(each instanceof Missing));
  if (other !== undefined) throw other;
  if (failures.length > 0)
    throw pvbusError("ERR_TIMEOUT", failures.map((each) => (each as Missing).message).join("; "));
  return outcomes.some((each) => each.status === "fulfilled" && !each.value) ? 1 : 0;
}

interface Wait {
  readonly directory: string;
  readonly guest: string;
  readonly isOne: boolean;
  readonly call: Call;
}

/** Says that the time was over, for one guest. */
class Missing extends Error {}

/** Waits, and prints what came. @returns false for a guest that has failed */
async function waitForOne(
  io: CommandIo,
  { directory, guest, isOne, call }: Wait,
  awaited: Awaited,
): Promise<boolean> {
  const { key, value, isReadiness } = awaited;
  let presence: GuestPresence | undefined;
  const hear = ({ presence: now }: GuestNews): void => {
    if (presence === "connected" && now === "gone")
      io.say(`guest ${guest} is gone`, { guest, presence: now });
    presence = now;
  };
  const isEnough = (bytes: Uint8Array): boolean => {
    const text = Buffer.from(bytes).toString("utf8");
    return isReadiness ? decodeReadyValue(text) !== undefined : value === undefined || text === value;
  };
  try {
    const { signal, remainingMs: timeoutMs } = call;
    const found = await waitForValue(directory, { guest, key, isEnough, onNews: hear, signal, timeoutMs });
    return isReadiness ? tellReady(io, guest, isOne, found) : tellValue(io, { guest, key, isOne }, found);
  } catch (error) {
    if (!PvbusError.is(error) || error.code !== "ERR_TIMEOUT") throw error;
    const what = isReadiness ? "is not ready" : `has no ${value === undefined ? key : `${key}=${value}`}`;
    throw new Missing(`guest ${guest} ${what}: ${whyMissing(presence)}`, { cause: error });
  }
}

function tellReady(io: CommandIo, guest: string, isOne: boolean, bytes: Uint8Array): boolean {
  const said = decodeReadyValue(Buffer.from(bytes).toString("utf8"));
  const { ready = false, time = null, boot = null, text = null } = said ?? {};
  if (io.json) print(io, isOne, { guest, state: ready ? "ready" : "failed", time, boot, text });
  else if (ready) io.write(`${isOne ? "" : `${guest}\t`}ready${text === null ? "" : ` ${text}`}\n`);
  if (!ready) io.complain({ message: `guest ${guest} has failed${text === null ? "" : `: ${text}`}` });
  return ready;
}

function tellValue(
  io: CommandIo,
  { guest, key, isOne }: { readonly guest: string; readonly key: string; readonly isOne: boolean },
  bytes: Uint8Array,
): boolean {
  const value = Buffer.from(bytes).toString("utf8");
  const entry = isUtf8(bytes) ? { key, value } : { key, value, bytes };
  if (isOne) io.keys.printValue(entry);
  else if (io.json) {
    const data = isUtf8(bytes) ? { value } : { valueBase64: Buffer.from(bytes).toString("base64") };
    print(io, isOne, { guest, key, ...data });
  } else io.write(`${guest}\t${JSON.stringify(value).slice(1, -1)}\n`);
  return true;
}

/** One guest is a document, several are lines. */
function print(io: CommandIo, isOne: boolean, document: Readonly<Record<string, unknown>>): void {
  if (isOne) io.writeJson(document);
  else io.write(`${JSON.stringify(document)}\n`);
}

function awaitedOf(io: CommandIo, argument: string | undefined, own: WaitOptions): readonly Awaited[] {
  const awaited: Awaited[] = [];
  if (argument !== undefined && own.key !== undefined)
    throw io.usage("host wait: give the key as KEY[=VALUE] or with --key, not both");
  if (own.value !== undefined && own.key === undefined) throw io.usage("host wait: --value goes with --key");
  if (own.key !== undefined) awaited.push({ key: own.key, value: own.value, isReadiness: false });
  if (argument !== undefined) {
    const at = argument.indexOf("=");
    const [key, value] = at < 0 ? [argument, undefined] : [argument.slice(0, at), argument.slice(at + 1)];
    awaited.push({ key, value, isReadiness: false });
  }
  if (awaited.some(({ key }) => key === "")) throw io.usage("host wait: the key is empty; write KEY[=VALUE]");
  if (own.ready === true || awaited.length === 0)
    awaited.push({ key: READY_KEY, value: undefined, isReadiness: true });
  return awaited;
}
