const listeners = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `action` when the signal fires; at once when it has. However many calls share a signal, it has one listener of
 * ours, so that Node has no leak to warn of and an end costs nothing.
 * @returns what takes the action back
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

function fire(this: AbortSignal): void {
  const actions = listeners.get(this);
  if (actions === undefined) return;
  const now = [...actions];
  actions.clear();
  for (const action of now) action();
}
