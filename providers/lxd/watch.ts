import type { Call } from "../../src/base/flow/call.js";
import { Notifier } from "../../src/base/flow/notifier.js";
import type { WatchSource } from "../../src/base/flow/watch-loop.js";
import type { Logger } from "../../src/base/host/host.js";
import type { RawEntry } from "../../src/contract/store.js";
import type { LxdClient } from "./client.js";
import type { EventFeed } from "./feed.js";
import { ifNotTooLong, TOO_LONG } from "./long-values.js";
import { isBelow, SILENT_PREFIX } from "./protocol/keys.js";
import { isPassing } from "./transport/failures.js";

/** With more keys in doubt than that everything is read again. */
const MAX_IN_DOUBT = 10_000;

/**
 * Follows the keys below a prefix. An event is a hint that a key may have changed: its value is read, and told where it differs
 * from the last one. Whenever the stream of events was made again, all is read.
 */
export class KeyFollower implements WatchSource<RawEntry> {
  readonly #client: LxdClient;
  readonly #feed: EventFeed;
  readonly #prefix: string;
  readonly #logger: Logger;
  readonly #known = new Map<string, Buffer | typeof TOO_LONG>();
  readonly #inDoubt = new Set<string>();
  readonly #news = new Notifier();
  #isAllInDoubt = true;
  #isArmed = false;
  #isAway = false;
  #hasLooked = false;
  #lookAgain = (): void => undefined;
  #failure: unknown;

  constructor(client: LxdClient, feed: EventFeed, prefix: string, logger: Logger) {
    this.#client = client;
    this.#feed = feed;
    this.#prefix = prefix;
    this.#logger = logger;
  }

  listen(changed: () => void): () => void {
    const tell = (): void => {
      this.#news.notify();
      // The first look sees what came before its end, or leaves it in doubt.
      if (this.#hasLooked) changed();
    };
    this.#lookAgain = changed;
    return this.#feed.follow({
      armed: () => {
        this.#isArmed = true;
        this.#isAllInDoubt = true;
        tell();
      },
      changed: (key) => {
        if (key === undefined || this.#inDoubt.size >= MAX_IN_DOUBT) this.#isAllInDoubt = true;
        else if (isBelow(key, this.#prefix)) this.#inDoubt.add(key);
        else return;
        tell();
      },
      failed: (error) => {
        this.#failure = error;
        tell();
      },
    });
  }

  async *look(call: Call): AsyncGenerator<RawEntry, void, undefined> {
    while (!this.#isArmed && this.#failure === undefined) await this.#news.wait(call, "the stream of events");
    if (this.#failure !== undefined) throw this.#failure;
    try {
      if (this.#isAllInDoubt) yield* this.#all(call);
      else if (this.#inDoubt.size > 0) yield* this.#hinted(call);
      else yield* this.#silent(call);
      this.#isAway = false;
      if (!this.#hasLooked) {
        this.#hasLooked = true;
        if (this.#isAllInDoubt || this.#inDoubt.size > 0) this.#lookAgain();
      }
    } catch (error) {
      if (isPassing(error) && !this.#isAway)
        this.#logger.warn("the guest API does not answer; a watch waits for it", { error });
      this.#isAway = true;
      throw error;
    }
  }

  async *#all(call: Call): AsyncGenerator<RawEntry, void, undefined> {
    // Before the first request: what is hinted from now on is in doubt again.
    this.#isAllInDoubt = false;
    this.#inDoubt.clear();
    let isDone = false;
    try {
      yield* this.#compared(call, () => true);
      isDone = true;
    } finally {
      if (!isDone) this.#isAllInDoubt = true;
    }
  }

  async *#hinted(call: Call): AsyncGenerator<RawEntry, void, undefined> {
    for (const key of [...this.#inDoubt]) {
      const turn = call.turn("a change");
      if (turn !== undefined) await turn;
      this.#inDoubt.delete(key);
      let isDone = false;
      try {
        yield* this.#read(key, call);
        isDone = true;
      } finally {
        if (!isDone) this.#inDoubt.add(key);
      }
    }
  }

  /** Looks for what no event tells: keys that came and went, and values of cloud-init's. */
  #silent(call: Call): AsyncGenerator<RawEntry, void, undefined> {
    return this.#compared(call, (key) => !this.#known.has(key) || key.startsWith(SILENT_PREFIX));
  }

  async *#compared(call: Call, isRead: (key: string) => boolean): AsyncGenerator<RawEntry, void, undefined> {
    const keys = new Set((await this.#client.keys(call)).filter((key) => isBelow(key, this.#prefix)));
    for (const key of [...this.#known.keys()]) {
      if (keys.has(key)) continue;
      this.#known.delete(key);
      yield { key, value: undefined };
    }
    for (const key of keys) {
      const turn = call.turn("a change");
      if (turn !== undefined) await turn;
      if (isRead(key)) yield* this.#read(key, call);
    }
  }

  async *#read(key: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const value = await ifNotTooLong(this.#client.value(key, call));
    const before = this.#known.get(key);
    if (value === undefined) {
      if (this.#known.delete(key)) yield { key, value: undefined };
    } else if (value === TOO_LONG) {
      // Told as long as it lasts, and not as a change: what it is cannot be said.
      if (before !== TOO_LONG)
        this.#logger.warn("a value is longer than maxValueBytes; the watch does not tell it", { key });
      this.#known.set(key, TOO_LONG);
    } else if (before === undefined || before === TOO_LONG || !before.equals(value)) {
      this.#known.set(key, value);
      // The array is the consumer's own.
      yield { key, value: Buffer.from(value) };
    }
  }
}
