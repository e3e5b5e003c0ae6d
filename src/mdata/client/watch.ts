import { createHash } from "node:crypto";
import { PvbusError, pvbusError } from "../../base/errors.js";
import { onAbort } from "../../base/flow/abort.js";
import { Backoff } from "../../base/flow/backoff.js";
import { Call } from "../../base/flow/call.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { Notifier } from "../../base/flow/notifier.js";
import { watchLoop } from "../../base/flow/watch-loop.js";
import { isChannelKey } from "../request.js";
import { MAX_KEYS, type MetadataChannel } from "./channel.js";
import { type Connected, isDisconnected } from "./client.js";
import { SessionOver } from "./session.js";

interface WatchParts {
  readonly channel: MetadataChannel;
  /** Beginning of the keys to follow. */
  readonly prefix: string;
  /** First pause between two looks where the host tells of no changes. */
  readonly pollMs: number;
  /** So often a host that tells of changes is asked whether it still does. */
  readonly confirmMs: number;
  /** Called when every later change will be seen. */
  readonly ready: () => void;
  readonly closing: AbortSignal;
}

/** One change; without a value the key is gone. */
interface ChannelChange {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** More keys than that are not noted one by one: all are looked through. */
const MAX_NOTED = 1_000;
const LONGEST_POLL_MS = 30_000;
/** A look at everything takes no more than this part of the time. */
const POLL_SHARE = 10;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;

/**
 * Yields what changes on the channel: as the host tells it, else by looking again and again. A connection that breaks is made again,
 * and what changed meanwhile is found by comparing.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what the first look throws
 */
export async function* watchChannel(
  parts: WatchParts,
  call: Call,
): AsyncGenerator<ChannelChange, void, undefined> {
  if (call.isOver) return;
  const watch = new ChannelWatch(parts, call);
  try {
    yield* watch.changes();
  } catch (error) {
    if (!call.isEnd(error)) throw error;
  } finally {
    watch.end();
  }
}

class ChannelWatch {
  readonly #parts: WatchParts;
  readonly #call: Call;
  /** Ends the waiting of the watch: its call is over, or the store closes. */
  readonly #ending = new AbortController();
  #forget: readonly (() => void)[] = [];
  /** What is known of each key: a digest, so that large values cost nothing. */
  readonly #known = new Map<string, string>();
  readonly #noted = new Set<string>();
  #isAllNoted = true;
  #isArmed = false;
  #release: (() => void) | undefined;
  #current: { readonly connected: Connected; readonly id: string } | undefined;
  readonly #notes = new Notifier();
  #forgetSession = (): void => undefined;

  constructor(parts: WatchParts, call: Call) {
    this.#parts = parts;
    this.#call = call;
    // The consumer may never come back for more, so the end lets go by itself.
    this.#forget = [call.onceOver(this.end), onAbort(parts.closing, this.end)];
  }

  readonly end = (): void => {
    for (const forget of this.#forget) forget();
    this.#ending.abort();
    this.#leave();
    this.#notes.notify();
  };

  async *changes(): AsyncGenerator<ChannelChange, void, undefined> {
    const retries = new Backoff({ firstMs: FIRST_RETRY_MS, longestMs: LONGEST_RETRY_MS });
    for (;;) {
      try {
        const isTold = await this.#follow();
        yield* this.#news();
        if (!this.#isArmed) {
          this.#isArmed = true;
          this.#parts.ready();
        }
        retries.reset();
        yield* isTold ? this.#listen() : this.#poll();
      } catch (error) {
        if (this.#isEnded()) return;
        if (!this.#isArmed || !isPassing(error)) throw error;
      }
      this.#leave();
      // Whatever happens meanwhile is found by comparing.
      this.#isAllNoted = true;
      if (!this.#isEnded()) await this.#wait(retries.next());
      if (this.#isEnded()) return;
    }
  }

  /** Has the host tell of changes. @returns false when it does not have that */
  async #follow(): Promise<boolean> {
    const { client } = this.#parts.channel;
    this.#release = client.lease(true);
    const connected = await client.connect(this.#call);
    if (!connected.host?.commands.includes("WATCH")) {
      this.#leave();
      return false;
    }
    const id = await connected.session.watch(this.#parts.prefix, ({ key }) => this.#note(key), this.#call);
    if (id === undefined) {
      throw pvbusError("ERR_BUSY", "the host allows no further watch on this channel; end one first");
    }
    this.#current = { connected, id };
    this.#forgetSession = onAbort(connected.session.line.ended, this.#notes.notify);
    return true;
  }

  /** Yields changes as they are told, until the connection breaks. */
  async *#listen(): AsyncGenerator<ChannelChange, void, undefined> {
    for (let pause = this.#parts.confirmMs; ; ) {
      const { connected, id } = this.#current ?? {};
      if (connected === undefined || id === undefined) return;
      while (this.#isAllNoted || this.#noted.size > 0) yield* this.#news();
      if (this.#ending.signal.aborted || !connected.session.isOpen) return;
      if (await this.#wait(pause)) {
        if (this.#ending.signal.aborted) return;
        continue;
      }
      const began = monotonicMs();
      if (!(await connected.session.confirmWatch(id, this.#parts.prefix, this.#call))) return;
      // On such a line a host may have been restarted without a sign: what it did not tell is found by looking.
      this.#isAllNoted = this.#parts.channel.client.isShared;
      while (this.#isAllNoted || this.#noted.size > 0) yield* this.#news();
      pause = Math.max(this.#parts.confirmMs, (monotonicMs() - began) * POLL_SHARE);
    }
  }

  /** Yields changes by looking, more and more seldom while nothing changes. */
  async *#poll(): AsyncGenerator<ChannelChange, void, undefined> {
    const { closing, pollMs } = this.#parts;
    const look = (): AsyncGenerator<ChannelChange> => {
      this.#isAllNoted = true;
      return this.#news();
    };
    const pace = { firstMs: pollMs, longestMs: Math.max(LONGEST_POLL_MS, pollMs), share: POLL_SHARE };
    yield* watchLoop({ look }, { closing, pace }, this.#call);
  }

  /** Looks at what was noted and yields what differs from what is known. */
  async *#news(): AsyncGenerator<ChannelChange, void, undefined> {
    const keys = this.#isAllNoted ? await this.#allKeys() : [...this.#noted];
    for (const key of keys) {
      this.#noted.delete(key);
      const value = await this.#parts.channel.get(key, this.#oneCall());
      const digest = value && digestOf(value);
      if (digest === this.#known.get(key)) continue;
      if (digest === undefined) this.#known.delete(key);
      else this.#known.set(key, digest);
      if (this.#known.size > MAX_KEYS)
        throw pvbusError("ERR_PROTOCOL", `the host tells of more than ${MAX_KEYS} keys; look at the host`);
      if (this.#isArmed) yield { key, value };
    }
  }

  /** Listed keys, and those that are known or named though hosts do not list them. */
  async #allKeys(): Promise<Iterable<string>> {
    this.#isAllNoted = false;
    this.#noted.clear();
    const { channel, prefix } = this.#parts;
    const listed = (await channel.keys(this.#oneCall())).filter((key) => key.startsWith(prefix));
    return new Set([...listed, ...this.#known.keys(), ...(isChannelKey(prefix) ? [prefix] : [])]);
  }

  #note(key: string): void {
    if (!key.startsWith(this.#parts.prefix) || !isChannelKey(key)) return;
    if (this.#noted.size < MAX_NOTED) this.#noted.add(key);
    else this.#isAllNoted = true;
    this.#notes.notify();
  }

  /** A watch waits without end, one of its looks does not. */
  #oneCall(): Call {
    return new Call({
      signal: this.#call.signal,
      timeoutMs: Math.min(LONGEST_POLL_MS, this.#call.remainingMs),
    });
  }

  /** Waits for a note, for the end or for the time; resolves with whether it was no matter of time. */
  #wait(ms: number): Promise<boolean> {
    const current = this.#current?.connected.session;
    const isDue = current !== undefined && (this.#isAllNoted || this.#noted.size > 0 || !current.isOpen);
    if (isDue || this.#ending.signal.aborted) return Promise.resolve(true);
    return this.#notes.waitAtMost(ms, Call.endless(), "a change");
  }

  #leave(): void {
    this.#forgetSession();
    const { connected, id } = this.#current ?? {};
    this.#current = undefined;
    this.#release?.();
    this.#release = undefined;
    if (connected === undefined || id === undefined || !connected.session.isOpen) return;
    // Nobody hears of it any more; should the word get lost, the host's events are passed over.
    connected.session.unwatch(id, new Call({ timeoutMs: LONGEST_RETRY_MS })).catch(() => undefined);
  }

  /** Reports whether the call is over. @throws PvbusError `ERR_DISCONNECTED` when the store was closed */
  #isEnded(): boolean {
    if (this.#parts.closing.aborted)
      throw pvbusError("ERR_DISCONNECTED", "the store was closed; open the bus again");
    return this.#ending.signal.aborted || this.#call.isOver;
  }
}

/** Reports whether a failure may be over soon: the host restarts, or another program has the line. */
function isPassing(error: unknown): boolean {
  if (error instanceof SessionOver || isDisconnected(error)) return true;
  return PvbusError.is(error) && ["ERR_UNAVAILABLE", "ERR_BUSY", "ERR_TIMEOUT"].includes(error.code);
}

function digestOf(value: Uint8Array): string {
  return createHash("sha256").update(value).digest("base64");
}
