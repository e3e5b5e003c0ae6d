import { pause } from "../../base/flow/abort.js";
import type { Call } from "../../base/flow/call.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { Notifier } from "../../base/flow/notifier.js";
import { type CommandSettings, RunningCommand } from "./command.js";

/** How long a command may take, from its start, before the next change ends it. */
const GRACE_MS = 5_000;

/** What may differ from one to the next. */
export interface RepeatedSettings extends CommandSettings {
  /** How long a command may take, from its start, before the next change ends it. */
  readonly graceMs?: number | undefined;
  /** Hears why a command has failed. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
}

/** A command that runs after each change: one run at a time, and one behind the last change, however many there were. */
export class RepeatedCommand {
  readonly #command: readonly string[];
  readonly #settings: RepeatedSettings;
  readonly #changes = new Notifier();

  /** @param command the program and its arguments */
  constructor(command: readonly string[], settings: RepeatedSettings = {}) {
    this.#command = command;
    this.#settings = settings;
  }

  /** Has it run, now or behind the run that goes on. */
  readonly changed = this.#changes.notify;

  /** Runs it until the call is over; then its group is ended, and this returns without an error. */
  async run(call: Call): Promise<void> {
    let seen = 0;
    let running: RunningCommand | undefined;
    try {
      for (;;) {
        await this.#changes.wait(call, "a change", seen);
        seen = this.#changes.count;
        running = new RunningCommand(this.#command, this.#settings);
        await this.#untilDone(running, call, seen);
      }
    } catch (error) {
      if (!call.isEnd(error)) throw error;
    } finally {
      await running?.end();
    }
  }

  /** Waits for a run; one that hangs when the next change has come is ended, with all that it has started. */
  async #untilDone(running: RunningCommand, call: Call, seen: number): Promise<void> {
    const { graceMs = GRACE_MS, onFailure } = this.#settings;
    const ended = new AbortController();
    const outcome = running.done
      .catch((error: unknown) => {
        // That it was ended with everything else is no failure.
        if (!call.isOver) onFailure?.(error);
      })
      .finally(() => ended.abort());
    const change = this.#changes.wait(call, "a change", seen).catch(() => undefined);
    await call.within(Promise.race([outcome, change]), "the end of the command");
    if (!running.isOver) {
      await pause(Math.max(0, running.began + graceMs - monotonicMs()), call.signal, ended.signal);
      call.check("the end of the command");
      await running.end();
    }
    await outcome;
  }
}
