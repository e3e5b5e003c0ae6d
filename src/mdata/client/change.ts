import { PvbusError, pvbusError } from "../../base/errors.js";
import type { Call } from "../../base/flow/call.js";
import type { Answer } from "../answer.js";
import type { Session } from "./session.js";

/*
 * A host without sessions, SmartOS' own among them, does a change again that is sent again. Silence says nothing: the request may
 * have got lost, or its answer. What stands under the key tells them apart, but only for whoever knows what stood there before.
 * So such a change is preceded by a GET, one round trip beside the three that the opening of a line takes. A line keeps the order of
 * what is sent, so a later GET is answered by a host that has done, or never got, the change before it.
 */

export type Change =
  | { readonly command: "PUT"; readonly key: string; readonly value: Uint8Array }
  | { readonly command: "DELETE"; readonly key: string };

/** What is known of one change; it outlives the connection that breaks meanwhile. */
export interface ChangeMemory {
  /** What stood under the key before the first attempt; undefined while that is not known. */
  before?: { readonly value: Uint8Array | undefined };
  /** The change may have reached the host. */
  isSent?: boolean;
}

/** Reports whether a change may be begun on another connection when one broke: it can then be seen what became of it. */
export function mayBeginAgain({ before, isSent }: ChangeMemory): boolean {
  return isSent !== true || before !== undefined;
}

/**
 * Never does a change twice: where the host does not see to that, the key is read before it is sent again.
 * @throws PvbusError `ERR_CONFLICT` when somebody else wrote meanwhile, and those of {@link Session.request}
 */
export async function changeKey(
  session: Session,
  change: Change,
  memory: ChangeMemory,
  call: Call,
): Promise<Answer> {
  const isCareful = session.doesTwice;
  if (isCareful && memory.before === undefined && memory.isSent !== true) {
    const before = await read(session, change.key, call);
    if (before !== undefined) memory.before = before;
  }
  const { before } = memory;
  if (before === undefined) {
    memory.isSent = true;
    return session.request(change, call);
  }
  const look = async (during: Call): Promise<Answer | undefined> =>
    outcome(change, before.value, await read(session, change.key, during));
  const known = memory.isSent ? await look(call) : undefined;
  if (known !== undefined) return known;
  memory.isSent = true;
  return session.request(change, call, isCareful ? look : undefined);
}

/** Returns the value under a key; undefined where it cannot be had: it is too long, or the host refuses it. */
async function read(session: Session, key: string, call: Call): Promise<ChangeMemory["before"]> {
  try {
    const answer = await session.request({ command: "GET", key }, call);
    if (answer.kind === "missing") return { value: undefined };
    return answer.kind === "success" ? { value: answer.value } : undefined;
  } catch (error) {
    if (PvbusError.is(error) && error.code === "ERR_PROTOCOL") return undefined;
    throw error;
  }
}

/** @returns the answer where the change is done, undefined where it never arrived @throws PvbusError `ERR_CONFLICT` */
function outcome(
  change: Change,
  before: Uint8Array | undefined,
  now: ChangeMemory["before"],
): Answer | undefined {
  const wanted = change.command === "PUT" ? change.value : undefined;
  if (now !== undefined && sameValue(now.value, wanted)) return { kind: "success", value: Buffer.from("OK") };
  if (now !== undefined && sameValue(now.value, before)) return undefined;
  const message = `somebody else wrote "${change.key}" while this change had no answer, and that stays; read it, and change it again`;
  throw pvbusError("ERR_CONFLICT", message);
}

/** Reports whether two values are the same; undefined is no value. */
export function sameValue(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}
