/** Longest delay that Node's timers take. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

const listeners = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `action` when the signal fires; at once when it has. However many calls share a signal, it has one listener of
 * ours, so that Node has no leak to warn of and an end costs nothing. Actions are called in the order in which they were
 * given, and one that throws keeps no other from its call.
 * @returns what takes the action back, also while others are being called
 */
export function onAbort(signal: AbortSignal | undefined, action: () => void): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    action();
    return () => undefined;
  }
  // A function of its own for each: the same action may be given twice.
  const entry = (): void => action();
  let actions = listeners.get(signal);
  if (actions === undefined) {
    actions = new Set();
    listeners.set(signal, actions);
  }
  const all = actions;
  if (all.size === 0) signal.addEventListener("abort", fire, { once: true });
  all.add(entry);
  return () => {
    if (all.delete(entry) && all.size === 0) signal.removeEventListener("abort", fire);
  };
}

/** Resolves after `ms` milliseconds, or as soon as one of the signals fires. */
export async function pause(ms: number, ...signals: readonly (AbortSignal | undefined)[]): Promise<void> {
  const forget: (() => void)[] = [];
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(ms, MAX_TIMER_MS));
    for (const signal of signals) forget.push(onAbort(signal, resolve));
  });
  clearTimeout(timer);
  for (const each of forget) each();
}

function fire(this: AbortSignal): void {
  const actions = listeners.get(this);
  if (actions === undefined) return;
  for (const action of actions) {
    actions.delete(action);
    try {
      action();
    } catch (error) {
      // As the listeners of an event: the process hears of it, the others are called.
      process.nextTick(() => {
        throw error;
      });
    }
  }
}
