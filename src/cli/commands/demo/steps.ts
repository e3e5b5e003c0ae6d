import { pvbusError } from "../../../base/errors.js";
import type { PvInterface } from "../../../bus/interface/interface.js";
import type { StoreChange } from "../../../contract/store.js";
import type { Context } from "../../io/context.js";

/** Who does a step of the round trip. */
export type Actor = "host" | "guest";
/** Tells one step. */
export type Tell = (actor: Actor, text: string) => void;
/** Does the whole round trip with a simulated host in a directory of its own. */
export type RoundTrip = (context: Context, directory: string, tell: Tell) => Promise<void>;

/** Longest wait for the simulated host's change. */
const WATCH_MS = 10_000;

/** Arms a watch, lets the host change something and gives what the watch saw. */
export async function nextChange(
  target: PvInterface,
  prefix: string,
  signal: AbortSignal,
  change: () => Promise<void> | void,
): Promise<StoreChange> {
  let armed: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const watch = target.watch(prefix, { ready: armed, signal, timeoutMs: WATCH_MS });
  const next = watch.next();
  await Promise.race([ready, next]);
  await change();
  const { value: seen } = await next;
  await watch.return(undefined);
  if (seen !== undefined) return seen;
  if (signal.aborted)
    throw pvbusError("ERR_ABORTED", "the demonstration was interrupted", { cause: signal.reason });
  throw pvbusError("ERR_TIMEOUT", "the watch saw nothing of the host's change; report this as a fault");
}
