import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { ROOT } from "./pools.js";
import { findPython } from "./processes.js";

/** Another program that holds a lock: Python with fcntl.lockf or fcntl.flock, nothing of ours. */
export class LockHolder implements AsyncDisposable {
  readonly #end: () => Promise<void>;

  private constructor(end: () => Promise<void>) {
    this.#end = end;
  }

  /** Reports what is missing here; undefined when nothing is. */
  static whyNot(): string | undefined {
    return findPython("import fcntl") === undefined ? "there is no Python 3" : undefined;
  }

  /**
   * Resolves when the lock is held.
   * @param extra seconds to hold it, how often, and the pause between; default: until it is told to let go
   */
  static async start(
    path: string,
    family: "record" | "flock",
    mode: "shared" | "exclusive",
    extra: readonly number[] = [],
  ): Promise<LockHolder> {
    const script = join(ROOT, "test/support/lock-holder.py");
    const child = spawn(
      findPython("import fcntl") ?? "python3",
      [script, path, family, mode, ...extra.map(String)],
      {
        stdio: ["pipe", "pipe", "inherit"],
      },
    );
    const ended = once(child, "exit");
    await Promise.race([once(child.stdout, "data"), ended.then(() => Promise.reject(new Error("it ended")))]);
    return new LockHolder(async () => {
      child.stdin.end();
      if (extra.length > 0) child.kill("SIGKILL");
      await ended;
    });
  }

  /** Lets go; resolves when it has. */
  release(): Promise<void> {
    return this.#end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#end();
  }
}
