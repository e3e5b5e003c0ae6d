/**
 * Keeps terminate() out of koffi's declarations. koffi 3.3.4 takes it for a fatal error, and ends the process, when its thread
 * is stopped while it is loaded or declares a function (docs/architecture.md): about a millisecond of a worker's life, which
 * no code of the worker can guard. What the campaign looks for is everything else.
 */
import { createRequire } from "node:module";
import { setImmediate as turn } from "node:timers/promises";
import type { Worker } from "node:worker_threads";

const [OPEN, DECLARING, STOPPED] = [0, 1, 2];

/** Has the koffi of this worker declare within the gate. */
export function gateKoffi(gate: Int32Array): void {
  const within =
    <Arguments extends unknown[], Result>(declare: (...args: Arguments) => Result) =>
    (...args: Arguments): Result => {
      // Stopped in a moment, it waits here for that.
      if (Atomics.compareExchange(gate, 0, OPEN, DECLARING) === STOPPED) Atomics.wait(gate, 0, STOPPED);
      try {
        return declare(...args);
      } finally {
        Atomics.compareExchange(gate, 0, DECLARING, OPEN);
      }
    };
  const require = createRequire(import.meta.url);
  const koffi = within(() => require("koffi"))() as Record<string, (...args: never[]) => unknown>;
  for (const name of ["proto", "decode", "config"])
    koffi[name] = within(koffi[name] as (...args: unknown[]) => unknown);
  const load = within(koffi["load"] as (...args: unknown[]) => { func(declaration: string): unknown });
  koffi["load"] = (...args) => {
    const library = load(...args);
    return { func: within((declaration: string) => library.func(declaration)) };
  };
}

/** Stops a worker as soon as it declares nothing. */
export async function terminate(worker: Worker, gate: Int32Array): Promise<void> {
  while (Atomics.compareExchange(gate, 0, OPEN, STOPPED) === DECLARING) await turn();
  await worker.terminate();
}
