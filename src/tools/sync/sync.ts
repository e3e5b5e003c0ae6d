import { PvbusError, type PvbusErrorCode } from "../../base/errors.js";
import { onAbort } from "../../base/flow/abort.js";
import { Backoff } from "../../base/flow/backoff.js";
import { Call, type CallOptions, DEFAULT_TIMEOUT_MS } from "../../base/flow/call.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { Notifier } from "../../base/flow/notifier.js";
import { RunningCommand } from "./command.js";
import { DirectoryTarget } from "./directory-target.js";
import { EnvironmentTarget } from "./environment-target.js";
import { RepeatedCommand, type RepeatedSettings } from "./repeated-command.js";
import type { SyncSource } from "./source.js";
import { changedNames, type SyncContent, type SyncTarget, sameContent } from "./target.js";

/** A change has settled when no other has come for so long, or when they have kept coming for longer. */
const SETTLE_MS = 50;
const LONGEST_SETTLE_MS = 1000;
/** A watch compares with what it knows: of a value that changed and came back while it was read it says nothing. */
const READ_AGAIN_MS = 60_000;
const PAUSES = { firstMs: 1000, longestMs: 30_000 };
/** What may be over soon. */
const PASSING: readonly PvbusErrorCode[] = [
  "ERR_UNAVAILABLE",
  "ERR_DISCONNECTED",
  "ERR_BUSY",
  "ERR_TIMEOUT",
  "ERR_CONFLICT",
];

/** What a sync does with what it reads. */
export interface SyncOptions extends CallOptions {
  /** A file of `NAME=value` lines to be kept, in the syntax of systemd's `EnvironmentFile=`. */
  readonly env?: string | undefined;
  /** A directory to be kept: one file per key. */
  readonly dir?: string | undefined;
  /** A program and its arguments, to be run after the first write, then after each settled change. */
  readonly command?: readonly string[] | undefined;
  /** How that program is run. */
  readonly commandSettings?: Omit<RepeatedSettings, "onFailure"> | undefined;
  /** Hears what was written, each time; where there is neither file nor directory, what has changed. */
  readonly onWritten?: ((written: SyncReport) => void) | undefined;
  /** Hears of failures that do not end it: of the program, of a store that is lost for now, of content that cannot be kept. */
  readonly onProblem?: ((error: unknown) => void) | undefined;
}

/** What one write has changed, by the names of keys. */
export interface SyncReport {
  /** How many keys there are. */
  readonly keys: number;
  /** Those that are new or have another value. */
  readonly changed: readonly string[];
  /** Those that are gone. */
  readonly gone: readonly string[];
}

/**
 * Reads a source once, writes it, and runs the command.
 * @throws PvbusError what reading and writing fail with; `ERR_UNAVAILABLE` when the command has failed
 */
export async function syncOnce(source: SyncSource, options: SyncOptions = {}): Promise<void> {
  const call = new Call(options);
  using keeper = new Keeper(options);
  const content = await source.read({ signal: call.signal, timeoutMs: call.remainingMs });
  await keeper.keep(source.named(content));
  const { command = [], commandSettings } = options;
  if (command.length === 0) return;
  // The limit is for the store; a command takes the time that the caller has given it.
  const whole = options.timeoutMs === undefined ? Call.endless(call.signal) : call;
  const running = new RunningCommand(command, commandSettings);
  try {
    await whole.within(running.done, "the end of the command");
  } finally {
    await running.end();
  }
}

/**
 * Keeps files as a source has it, until the signal fires or `timeoutMs` (default: none) has passed; then it returns without an
 * error. What cannot be read or written the first time ends it; later failures are told to `onProblem` and tried again.
 * @throws PvbusError what the first reading and writing fail with, and what later reading fails with for good
 */
export async function sync(source: SyncSource, options: SyncOptions = {}): Promise<void> {
  const end = new AbortController();
  const call = new Call({ ...options, signal: end.signal }, Number.POSITIVE_INFINITY);
  const forget = onAbort(options.signal, () => end.abort(options.signal?.reason));
  const { command = [], commandSettings, onProblem } = options;
  const runs =
    command.length === 0
      ? undefined
      : new RepeatedCommand(command, { ...commandSettings, onFailure: (error) => onProblem?.(error) });
  using keeper = new Keeper(options);
  const running = runs?.run(call);
  running?.catch(() => undefined);
  try {
    await new Follower(source, keeper, () => runs?.changed(), onProblem).follow(call);
  } finally {
    forget();
    end.abort();
    await running;
  }
}

/** Writes contents into the file, the directory or both, where they have changed. */
class Keeper implements Disposable {
  readonly #targets: SyncTarget[] = [];
  readonly #onWritten: SyncOptions["onWritten"];
  #kept: SyncContent | undefined;

  constructor({ env, dir, onWritten }: SyncOptions) {
    this.#onWritten = onWritten;
    try {
      if (env !== undefined) this.#targets.push(new EnvironmentTarget(env));
      if (dir !== undefined) this.#targets.push(new DirectoryTarget(dir));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether anything was written yet. */
  get hasKept(): boolean {
    return this.#kept !== undefined;
  }

  /** Whether a content is what was written last. */
  isKept(content: SyncContent): boolean {
    return this.#kept !== undefined && sameContent(this.#kept, content);
  }

  async keep(content: SyncContent): Promise<void> {
    for (const target of this.#targets) await target.write(content);
    const before = this.#kept ?? new Map<string, Uint8Array>();
    const now = new Map(content);
    this.#kept = now;
    this.#onWritten?.({
      keys: now.size,
      changed: changedNames(before, now),
      gone: [...before.keys()].filter((name) => !now.has(name)),
    });
  }

  [Symbol.dispose](): void {
    for (const target of this.#targets) target[Symbol.dispose]();
  }
}

/** Follows a source over the lives of its watches. */
class Follower {
  readonly #source: SyncSource;
  readonly #keeper: Keeper;
  readonly #onChanged: () => void;
  readonly #onProblem: (error: unknown) => void;
  readonly #news = new Notifier();
  readonly #pauses = new Backoff(PAUSES);
  #content = new Map<string, Uint8Array>();
  /** Changes that have come while all of it was being read; they are newer. */
  #meanwhile: [name: string, value: Uint8Array | undefined][] | undefined;
  #isStale = true;

  constructor(
    source: SyncSource,
    keeper: Keeper,
    onChanged: () => void,
    onProblem: SyncOptions["onProblem"] = () => undefined,
  ) {
    this.#source = source;
    this.#keeper = keeper;
    this.#onChanged = onChanged;
    this.#onProblem = onProblem;
  }

  async follow(call: Call): Promise<void> {
    for (;;) {
      try {
        await this.#followOnce(call);
      } catch (error) {
        if (call.isEnd(error) && this.#keeper.hasKept) return;
        if (!this.#keeper.hasKept || !isPassing(error)) throw error;
        this.#onProblem(error);
        await this.#pauses.rest(call.signal);
      }
    }
  }

  /** Follows until the watch fails or the call is over. */
  async #followOnce(call: Call): Promise<never> {
    const end = new AbortController();
    const forget = onAbort(call.signal, () => end.abort());
    let isArmed = false;
    let failure: { readonly error: unknown } | undefined;
    const ready = (): void => {
      isArmed = true;
      this.#news.notify();
    };
    const changed = (name?: string, value?: Uint8Array): void => this.#apply(name, value);
    const following = this.#source
      .follow({ signal: end.signal, ready, changed })
      .catch((error: unknown) => {
        failure = { error };
      })
      .finally(this.#news.notify);
    const check = (): void => {
      call.check("a change");
      if (failure !== undefined) throw failure.error;
    };
    try {
      while (!isArmed) {
        const seen = this.#news.count;
        check();
        await this.#news.wait(call, "the watch", seen);
      }
      this.#isStale = true;
      for (;;) {
        check();
        const seen = this.#news.count;
        const isWritten = await this.#write(call);
        const ms = isWritten ? READ_AGAIN_MS : this.#pauses.next();
        const hasChanged = await this.#news.waitAtMost(ms, call, "a change", seen);
        if (hasChanged) await this.#settle(call);
        else this.#isStale = true;
      }
    } finally {
      end.abort();
      forget();
      await following;
    }
  }

  /** Brings what is known to the files. @returns whether they have it */
  async #write(call: Call): Promise<boolean> {
    if (this.#isStale) await this.#read(call);
    const content = this.#source.named(new Map(this.#content));
    if (this.#keeper.isKept(content)) return true;
    const isFirst = !this.#keeper.hasKept;
    try {
      await this.#keeper.keep(content);
    } catch (error) {
      if (isFirst || !PvbusError.is(error)) throw error;
      this.#onProblem(error);
      return false;
    }
    this.#pauses.reset();
    this.#onChanged();
    return true;
  }

  async #read({ signal, remainingMs }: Call): Promise<void> {
    this.#meanwhile = [];
    try {
      const timeoutMs = Math.min(DEFAULT_TIMEOUT_MS, remainingMs);
      const content = new Map(await this.#source.read({ signal, timeoutMs }));
      for (const [name, value] of this.#meanwhile) put(content, name, value);
      this.#content = content;
      this.#isStale = false;
    } finally {
      this.#meanwhile = undefined;
    }
  }

  #apply(name: string | undefined, value: Uint8Array | undefined): void {
    if (name === undefined) this.#isStale = true;
    else {
      put(this.#content, name, value);
      this.#meanwhile?.push([name, value]);
    }
    this.#news.notify();
  }

  async #settle(call: Call): Promise<void> {
    const until = monotonicMs() + LONGEST_SETTLE_MS;
    while (monotonicMs() < until) {
      const seen = this.#news.count;
      if (!(await this.#news.waitAtMost(SETTLE_MS, call, "a change", seen))) return;
    }
  }
}

function put(content: Map<string, Uint8Array>, name: string, value: Uint8Array | undefined): void {
  if (value === undefined) content.delete(name);
  else content.set(name, value);
}

function isPassing(error: unknown): boolean {
  return PvbusError.is(error) && PASSING.includes(error.code);
}
