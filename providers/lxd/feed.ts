import { PvbusError } from "../../src/base/errors.js";
import { onAbort } from "../../src/base/flow/abort.js";
import { Backoff } from "../../src/base/flow/backoff.js";
import { Call } from "../../src/base/flow/call.js";
import type { Closing } from "../../src/base/flow/closing.js";
import { monotonicMs } from "../../src/base/flow/monotonic.js";
import type { Logger } from "../../src/base/host/host.js";
import { type LxdClient, PAUSES } from "./client.js";
import { DEFAULT_TIMES, type EventTimes, followEvents } from "./transport/events.js";
import { isPassing } from "./transport/failures.js";
import type { LxdTransport } from "./transport/transport.js";

/** Times of a feed. */
export interface FeedTimes extends EventTimes {
  /** A stream that lived so long in milliseconds was a good one: the next pause is the first again. */
  readonly goodMs: number;
}

/** Who hears of events. */
export interface FeedFollower {
  /** The stream is there, maybe another one: everything before may have changed unheard. */
  armed(): void;
  /** A key may have changed; undefined: any. */
  changed(key: string | undefined): void;
  /** There will be no stream. */
  failed(error: unknown): void;
}

interface Surroundings {
  readonly client: LxdClient;
  readonly transport: LxdTransport;
  readonly closing: Closing;
  readonly logger: Logger;
}

/** The one stream of events of a store: there while somebody follows it, and made again whenever it has ended. */
export class EventFeed {
  /** Whether this process has told the host that the instance is ready, which a restart of the daemon forgets. */
  isReady = false;
  readonly #surroundings: Surroundings;
  readonly #times: FeedTimes;
  readonly #followers = new Set<FeedFollower>();
  #running: AbortController | undefined;
  #isArmed = false;

  constructor(surroundings: Surroundings, times: Partial<FeedTimes> = {}) {
    this.#surroundings = surroundings;
    this.#times = { ...DEFAULT_TIMES, goodMs: 5_000, ...times };
  }

  /** Tells a follower of all from now on, the first one beginning the stream. @returns what ends that, the last one ending the stream */
  follow(follower: FeedFollower): () => void {
    this.#followers.add(follower);
    if (this.#isArmed) follower.armed();
    if (this.#running === undefined) {
      this.#running = new AbortController();
      void this.#run(this.#running);
    }
    return () => {
      if (!this.#followers.delete(follower) || this.#followers.size > 0) return;
      this.#running?.abort();
      this.#running = undefined;
    };
  }

  async #run(running: AbortController): Promise<void> {
    const { closing, transport, client } = this.#surroundings;
    const { signal } = running;
    const forget = onAbort(closing.signal, () => running.abort());
    const pauses = new Backoff(PAUSES);
    try {
      while (!signal.aborted) {
        const began = monotonicMs();
        try {
          await followEvents(
            transport,
            client.situation,
            {
              armed: () => this.#armed(),
              changed: (key) => this.#tell((follower) => follower.changed(key)),
            },
            signal,
            this.#times,
          );
          if (monotonicMs() - began >= this.#times.goodMs) pauses.reset();
        } catch (error) {
          if (!isPassing(error)) return this.#end(running, error);
        } finally {
          this.#isArmed = false;
        }
        await pauses.rest(signal);
      }
    } finally {
      forget();
    }
    if (closing.isClosed) this.#end(running, closing.error());
  }

  #armed(): void {
    this.#isArmed = true;
    this.#tell((follower) => follower.armed());
    if (this.isReady) void this.#tellAgain();
  }

  /** A restart of the daemon forgets that the instance is ready. */
  async #tellAgain(): Promise<void> {
    const { client, closing, logger } = this.#surroundings;
    const call = new Call({ signal: closing.signal });
    try {
      if ((await client.instance(call)).state === "Started") await client.tellState("Ready", call);
    } catch (error) {
      if (!PvbusError.is(error)) throw error;
      logger.warn("the host was not told again that this instance is ready", { error });
    }
  }

  #end(running: AbortController, error: unknown): void {
    if (this.#running !== running) return;
    this.#running = undefined;
    this.#tell((follower) => follower.failed(error));
  }

  #tell(how: (follower: FeedFollower) => void): void {
    for (const follower of this.#followers) how(follower);
  }
}
