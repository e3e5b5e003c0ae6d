import { NOT_THERE_YET, PvbusError, type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import { onAbort, pause } from "../../base/flow/abort.js";
import { Call, DEFAULT_TIMEOUT_MS } from "../../base/flow/call.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { Notifier } from "../../base/flow/notifier.js";
import type { Capabilities } from "../../contract/capabilities.js";
import type { KeyInterface } from "../../contract/key-values.js";

/** What a following needs of an interface. */
export interface FollowedFace extends Pick<KeyInterface, "watch"> {
  /** What can be done with it. */
  readonly capabilities: Capabilities;
  /** Whether it was closed: nothing comes any more. */
  readonly isClosed: boolean;
}

/** What is followed below one native prefix. */
export interface FollowedPrefix {
  /** The prefix. */
  readonly prefix: string;
  /** Returns the name of a changed key; undefined for one that is not meant. */
  nameOf(key: string): string | undefined;
}

/** One interface, and what is followed there. */
export interface Followed {
  /** The interface. */
  readonly face: FollowedFace;
  /** Opens its store and returns the prefixes; none where nothing of it can change. */
  prefixes(call: Call): Promise<readonly FollowedPrefix[]>;
}

/** How a {@link Following} takes failures. */
export interface FollowSettings {
  /** True: what is not there yet, or was lost, is tried again. False: it is passed over at first, and an error later. */
  readonly isLasting: boolean;
}

/** Somebody is at work, or slow. */
const PASSING: readonly PvbusErrorCode[] = [...NOT_THERE_YET, "ERR_BUSY", "ERR_CONFLICT", "ERR_TIMEOUT"];
/** Who cannot be followed, though others may be. */
const LEFT_OUT: readonly PvbusErrorCode[] = [
  "ERR_UNAVAILABLE",
  "ERR_NOT_SUPPORTED",
  "ERR_PERMISSION",
  "ERR_KEY_INVALID",
  "ERR_KEY_TOO_LONG",
];
/** How often a store that tells of no change is looked at, and how long one that failed is left alone. */
const LOOK_MS = 1000;
/** Longest delay that Node's timers take; a timer keeps the process alive for whoever waits. */
const IDLE_MS = 2 ** 31 - 1;

/** What may have changed: these names, or `all` of them. */
export type Changed = ReadonlySet<string> | "all";

/**
 * Tells which names may have changed over several interfaces: by their watches, and once a second where a store has none.
 * Whoever asks looks for himself; changes that come meanwhile are told by the next answer, however many, once.
 */
export class Following {
  readonly #isLasting: boolean;
  readonly #call: Call;
  readonly #end = new AbortController();
  readonly #takeBack: () => void;
  readonly #news = new Notifier();
  #all = false;
  #names = new Set<string>();
  #unarmed: number;
  #running = 0;
  #isPolled = false;
  #leftOut: unknown;
  #failure: unknown;
  #laterAt = Number.POSITIVE_INFINITY;
  readonly #later = new Set<string>();

  /** Begins at once. To be stopped. */
  constructor(followed: readonly Followed[], { isLasting }: FollowSettings, call: Call) {
    this.#isLasting = isLasting;
    this.#call = call;
    this.#unarmed = followed.length;
    this.#takeBack = call.onceOver(() => this.#stop());
    for (const each of followed) void this.#follow(each);
  }

  /**
   * Waits for what may have changed; the first answer is `all`, when every later change will be told.
   * @returns undefined at the end of the call
   * @throws PvbusError `ERR_NOT_SUPPORTED` when nothing can change, and what ended the following
   */
  async next(): Promise<Changed | undefined> {
    for (;;) {
      if (this.#call.isOver) return undefined;
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#unarmed === 0) {
        const changed = this.#take();
        if (changed !== undefined) return changed;
        if (this.#running === 0 && !this.#isPolled && this.#later.size === 0)
          throw this.#leftOut ?? neverChanges();
      }
      const ms = Math.min(this.#isPolled ? LOOK_MS : IDLE_MS, this.#laterAt - monotonicMs());
      const seen = this.#news.count;
      try {
        if (!(await this.#news.waitAtMost(Math.max(0, ms), this.#call, "a change", seen))) this.#late();
      } catch (error) {
        if (!this.#call.isEnd(error)) throw error;
      }
    }
  }

  /** Has a name told again in a while: what was found there is not whole. */
  again(name: string): void {
    this.#later.add(name);
    this.#laterAt = Math.min(this.#laterAt, monotonicMs() + LOOK_MS);
  }

  /** Ends all watches. */
  stop(): void {
    this.#takeBack();
    this.#stop();
  }

  #stop(): void {
    this.#end.abort();
    this.#news.notify();
  }

  #take(): Changed | undefined {
    if (this.#all) {
      this.#all = false;
      this.#names.clear();
      return "all";
    }
    if (this.#names.size === 0) return undefined;
    const names = this.#names;
    this.#names = new Set();
    return names;
  }

  #late(): void {
    if (this.#isPolled) this.#all = true;
    if (monotonicMs() < this.#laterAt) return;
    for (const name of this.#later) this.#names.add(name);
    this.#later.clear();
    this.#laterAt = Number.POSITIVE_INFINITY;
  }

  /** Follows one interface until the end; armed once, also when it is left out. */
  async #follow(followed: Followed): Promise<void> {
    let isArmed = false;
    const armed = (): void => {
      if (!isArmed) this.#unarmed--;
      isArmed = true;
      this.#all = true;
      this.#news.notify();
    };
    this.#running++;
    while (!this.#end.signal.aborted) {
      try {
        await this.#watchAll(followed, armed);
        break;
      } catch (error) {
        const isFirst = !isArmed;
        if (this.#isLasting && isPassing(error) && !followed.face.isClosed) {
          armed();
          await pause(LOOK_MS, this.#end.signal);
          continue;
        }
        if (isFirst && PvbusError.is(error) && LEFT_OUT.includes(error.code)) this.#leftOut ??= error;
        else if (!this.#end.signal.aborted) this.#failure ??= error;
        break;
      }
    }
    this.#running--;
    armed();
  }

  /** Follows all prefixes of an interface; one that fails ends the others. */
  async #watchAll(followed: Followed, armed: () => void): Promise<void> {
    const prefixes = await followed.prefixes(
      new Call({ signal: this.#end.signal, timeoutMs: DEFAULT_TIMEOUT_MS }),
    );
    if (prefixes.length === 0) return;
    if (!followed.face.capabilities.watch) {
      this.#isPolled = true;
      return;
    }
    const attempt = new AbortController();
    const forget = onAbort(this.#end.signal, () => attempt.abort());
    let unarmed = prefixes.length;
    const ready = (): void => {
      if (--unarmed === 0) armed();
    };
    try {
      await Promise.all(prefixes.map((each) => this.#watch(followed.face, each, ready, attempt)));
    } finally {
      forget();
    }
  }

  async #watch(
    face: FollowedFace,
    { prefix, nameOf }: FollowedPrefix,
    ready: () => void,
    attempt: AbortController,
  ): Promise<void> {
    try {
      for await (const { key } of face.watch(prefix, { signal: attempt.signal, ready })) {
        const name = nameOf(key);
        if (name === undefined) continue;
        this.#names.add(name);
        this.#news.notify();
      }
    } catch (error) {
      attempt.abort();
      throw error;
    }
  }
}

/** Reports whether an error may be over soon. */
function isPassing(error: unknown): boolean {
  return PvbusError.is(error) && PASSING.includes(error.code);
}

function neverChanges(): PvbusError {
  return pvbusError(
    "ERR_NOT_SUPPORTED",
    "nothing can change there while this machine runs: its values were fixed when it started; read them instead of waiting",
  );
}

/**
 * Looks, and looks again whenever something may have changed, until there is a value.
 * @param look undefined: not there yet; it may fail in passing too
 * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`; `ERR_NOT_SUPPORTED` when nothing can change; what else a look throws
 */
export async function waitUntilThere<T>(
  followed: readonly Followed[],
  look: (call: Call) => Promise<T | undefined>,
  call: Call,
  what: string,
): Promise<T> {
  // What is there already needs no watch.
  const first = await looked(followed, look, call);
  if (first !== undefined) return first;
  const following = new Following(followed, { isLasting: true }, call);
  try {
    while ((await following.next()) !== undefined) {
      const found = await looked(followed, look, call, following);
      if (found !== undefined) return found;
    }
    call.check(what);
    throw pvbusError("ERR_TIMEOUT", `no end of ${what}`);
  } finally {
    following.stop();
  }
}

async function looked<T>(
  followed: readonly Followed[],
  look: (call: Call) => Promise<T | undefined>,
  call: Call,
  following?: Following,
): Promise<T | undefined> {
  const { signal, remainingMs } = call;
  try {
    return await look(new Call({ signal, timeoutMs: Math.min(DEFAULT_TIMEOUT_MS, remainingMs) }));
  } catch (error) {
    const isOver = call.isEnd(error) || followed.every(({ face }) => face.isClosed);
    if (isOver || !isPassing(error)) throw error;
    following?.again("");
    return undefined;
  }
}
