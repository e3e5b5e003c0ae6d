/**
 * Sends a signal to a process that leads a group of its own (`detached: true`), and to all that it has started.
 * @returns false when none of them is left
 */
export function signalGroup(pid: number | undefined, signal: NodeJS.Signals | 0): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(-pid, signal);
    return true;
  } catch (error) {
    // Somebody else's, by then: a program that changed its user.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
