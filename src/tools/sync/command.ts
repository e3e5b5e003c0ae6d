import { type ChildProcess, spawn } from "node:child_process";
import { pvbusError } from "../../base/errors.js";
import { pause } from "../../base/flow/abort.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { processEnvironment } from "../../base/host/environment.js";
import { signalGroup } from "../../base/host/process-group.js";

/** How long a group has between being asked to end and being killed. */
const KILL_MS = 2_000;
/** How often a group without its leader is looked at: nothing tells when the last of it has gone. */
const LOOK_MS = 20;

/** A program that is running, without a shell, in a process group of its own. */
export class RunningCommand {
  /** When it began, in the time of {@link monotonicMs}. */
  readonly began = monotonicMs();
  /**
   * Resolves when it has ended with 0.
   * @throws PvbusError `ERR_UNAVAILABLE` when it could not be run or has failed; then nothing of its group is left
   */
  readonly done: Promise<void>;
  readonly #child: ChildProcess | undefined;
  readonly #killMs: number;
  #wasEnded = false;
  #isOver = false;

  /** @param command the program and its arguments */
  constructor(
    [program = "", ...args]: readonly string[],
    { env = processEnvironment(), killMs = KILL_MS }: CommandSettings = {},
  ) {
    this.#killMs = killMs;
    const failure = (why: string, cause?: unknown): Error =>
      pvbusError("ERR_UNAVAILABLE", `the command ${JSON.stringify(program)} ${why}`, { cause });
    const notRun = (error: unknown): Error => failure(`cannot be run: ${(error as Error).message}`, error);
    try {
      const child = spawn(program, args, { detached: true, env, stdio: ["ignore", "inherit", "inherit"] });
      this.#child = child;
      this.done = new Promise<void>((resolve, reject) => {
        const settle = (error?: Error): void => {
          this.#isOver = true;
          if (error === undefined) resolve();
          else reject(error);
        };
        child.once("error", (error) => settle(notRun(error)));
        child.once("exit", (code, signal) => {
          if (this.#wasEnded) return settle(failure("hung, and was ended with all that it had started"));
          // Of one that has failed nothing goes on.
          if (code !== 0) signalGroup(child.pid, "SIGKILL");
          settle(
            code === 0
              ? undefined
              : failure(code === null ? `was ended by ${signal}` : `has failed with ${code}`),
          );
        });
      });
    } catch (error) {
      this.#isOver = true;
      this.done = Promise.reject(notRun(error));
    }
    // Whoever asks hears of it.
    this.done.catch(() => undefined);
  }

  /** Whether it has come to its end, by itself or not. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Asks the whole group to end, kills what is left of it after a while, and resolves when nothing is. Of a command that has ended
   * by itself, what it has left in the background stays.
   */
  async end(): Promise<void> {
    if (this.#isOver) return;
    this.#wasEnded = true;
    const pid = this.#child?.pid;
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      const until = monotonicMs() + this.#killMs;
      signalGroup(pid, signal);
      // What waits for the disk, or for somebody to collect it, may stay for longer.
      while (signalGroup(pid, 0) && monotonicMs() < until) await pause(LOOK_MS);
    }
    await this.done.catch(() => undefined);
  }
}

/** What may differ from one command to the next. */
export interface CommandSettings {
  /** Its environment; default: this process's own, none where it is setuid. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** How long its group has between being asked to end and being killed. */
  readonly killMs?: number | undefined;
}
