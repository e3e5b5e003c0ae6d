import { isMainThread } from "node:worker_threads";
import { PvbusError } from "../../src/base/errors.js";
import { Backoff } from "../../src/base/flow/backoff.js";
import { Call } from "../../src/base/flow/call.js";
import type { Logger } from "../../src/base/host/host.js";
import { type Delivered, errorOf, isGone, isTimedOut, PropertyClient } from "./client.js";
import {
  decodeEvent,
  encodePattern,
  hasWildcard,
  MAX_PATTERN_BYTES,
  type Property,
  PropertyFunction,
} from "./protocol/properties.js";
import { Status } from "./protocol/status.js";
import { checked, larger, type PropertySession } from "./session.js";
import type { DriverFile } from "./transport/driver-file.js";

/** Longest time of one wait in the driver. A worker thread that ends waits for it, and cannot be told. */
const WAIT_MS = isMainThread ? 1_000 : 200;
const LOOK_MS = 10_000;
const EVENT_ROOM = 2_048;
const PAUSES = { firstMs: 20, longestMs: 2_000 } as const;
/** Restored machines are known by these: a wait that was saved with them ends at once. */
const COUNTERS = "/VirtualBox/VMInfo/Re*Counter";
const IS_COUNTER = /^\/VirtualBox\/VMInfo\/Re.*Counter$/s;

/** What one watch wants to know. */
export interface Watching {
  /** Beginning of the names. */
  readonly prefix: string;
  /** Takes what is there when the watch begins; from then on every change is seen. */
  begin(found: readonly Property[]): void;
  /** Takes everything that is there now, since events were lost. */
  compare(found: readonly Property[]): void;
  /** Takes one value; undefined: it is gone. */
  see(name: string, value: Uint8Array | undefined): void;
  /** Is told why there will be nothing any more. */
  fail(error: unknown): void;
}

/**
 * Waits for changes in the driver, once for all watches of a store: on an open driver and a client of its own, since the host
 * counts a client's calls. An event only says where to look: whether a property is there, and with what, is read.
 */
export class PropertyWaiter {
  readonly #client: PropertyClient;
  readonly #session: PropertySession;
  readonly #logger: Logger;
  readonly #watches = new Map<Watching, boolean>();
  #running: Promise<void> | undefined;
  #idle = new AbortController();
  /** Time of the last event that was seen; undefined: everything is to be looked at. */
  #after: bigint | undefined;

  constructor(open: () => DriverFile, session: PropertySession, logger: Logger) {
    this.#client = new PropertyClient(open);
    this.#session = session;
    this.#logger = logger;
  }

  /** Begins to wait for a watch. @returns what ends it */
  follow(watching: Watching): () => void {
    this.#watches.set(watching, false);
    if (this.#running === undefined) {
      this.#idle = new AbortController();
      this.#running = this.#run();
    } else this.#interrupt();
    return () => {
      if (!this.#watches.delete(watching) || this.#watches.size > 0) return;
      this.#idle.abort();
      this.#interrupt();
    };
  }

  /** Ends every wait, and waits for the end. */
  async close(): Promise<void> {
    this.#watches.clear();
    this.#idle.abort();
    this.#interrupt();
    await this.#running;
  }

  /** Ends the wait that is under way, so that the loop looks at its watches again. */
  #interrupt(): void {
    this.#client.disconnect().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const backoff = new Backoff(PAUSES);
    try {
      while (this.#watches.size > 0) {
        try {
          if (await this.#once()) backoff.reset();
        } catch (error) {
          if (!this.#isPassing(error)) {
            this.#failAll(error);
            return;
          }
          this.#after = undefined;
          this.#logger.debug("the wait for guest properties begins again", { error });
          await this.#client.drop().catch(() => undefined);
          await backoff.rest(this.#idle.signal);
        }
      }
    } finally {
      this.#running = undefined;
      this.#after = undefined;
      const over = this.#client.drop().catch(() => undefined);
      // Somebody who came while this ended has a wait of his own.
      if (this.#watches.size > 0) this.#running = over.then(() => this.#run());
      else await over;
    }
  }

  /** A watch that has begun lives through whatever the host goes through; one that has not says what is wrong. */
  #isPassing(error: unknown): boolean {
    if (!PvbusError.is(error)) return false;
    if (error.code === "ERR_NOT_SUPPORTED") return false;
    for (const [watching, hasBegun] of this.#watches) {
      if (hasBegun) continue;
      this.#watches.delete(watching);
      watching.fail(error);
    }
    return true;
  }

  #failAll(error: unknown): void {
    const watches = [...this.#watches.keys()];
    this.#watches.clear();
    for (const watching of watches) watching.fail(error);
  }

  /** One wait. @returns whether the host answered */
  async #once(): Promise<boolean> {
    await this.#client.connect();
    await this.#beginNew();
    const pattern = this.#pattern();
    for (let room = EVENT_ROOM, turn = 0; this.#client.isConnected; turn++) {
      const given = [encodePattern(pattern), { u64: this.#after ?? 0n }, { room }, { u32: 0 }];
      const answer = await this.#client.wait(PropertyFunction.wait, given, WAIT_MS);
      if (isTimedOut(answer)) return true;
      // This client's own end, by whoever came or went.
      if (!this.#client.isConnected) return true;
      if (isGone(answer)) throw errorOf(answer);
      if ("errno" in answer) {
        if (answer.errno === "EINTR") return true;
        throw errorOf(answer);
      }
      if (answer.status === Status.interrupted) return true;
      if (answer.status === Status.bufferOverflow) {
        // Asked again with the old time, the event comes again.
        room = larger(Number(answer.number(3)), room, turn);
        continue;
      }
      if (answer.status !== Status.done && answer.status !== Status.historyLost) throw errorOf(answer);
      await this.#seen(answer, room);
      return true;
    }
    return true;
  }

  async #seen(answer: Delivered, room: number): Promise<void> {
    const { name } = decodeEvent(answer.filled(2, checked(Number(answer.number(3)), room)));
    // Kept behind the look: one that fails is made up for by looking at everything.
    const after = answer.number(1);
    if (answer.status === Status.historyLost || IS_COUNTER.test(name)) await this.#compareAll();
    else if ([...this.#watches.keys()].some(({ prefix }) => name.startsWith(prefix))) {
      const property = await this.#session.get(name, this.#look());
      for (const [watching, hasBegun] of this.#watches)
        if (hasBegun && name.startsWith(watching.prefix)) watching.see(name, property?.value);
    }
    this.#after = after;
  }

  /** Has new watches begin; after a loss, all others compare what is there with what they know. */
  async #beginNew(): Promise<void> {
    if (this.#after !== undefined && [...this.#watches.values()].every(Boolean)) return;
    const found = await this.#session.enumerate("", this.#look());
    const isLoss = this.#after === undefined;
    this.#after ??= found.reduce((last, { timestamp }) => (timestamp > last ? timestamp : last), 0n);
    for (const [watching, hasBegun] of this.#watches) {
      const own = found.filter(({ name }) => name.startsWith(watching.prefix));
      if (!hasBegun) {
        this.#watches.set(watching, true);
        watching.begin(own);
      } else if (isLoss) watching.compare(own);
    }
  }

  async #compareAll(): Promise<void> {
    const found = await this.#session.enumerate("", this.#look());
    for (const [watching, hasBegun] of this.#watches)
      if (hasBegun) watching.compare(found.filter(({ name }) => name.startsWith(watching.prefix)));
  }

  /** Returns what matches every watched name, or all names where that is too long. */
  #pattern(): string {
    const prefixes = new Set([...this.#watches.keys()].map(({ prefix }) => prefix));
    // No name has a wildcard, so none lies below such a prefix.
    const parts = [...prefixes].filter((prefix) => !hasWildcard(prefix)).map((prefix) => `${prefix}*`);
    const pattern = [...parts, COUNTERS].join("|");
    return Buffer.byteLength(pattern) > MAX_PATTERN_BYTES ? "*" : pattern;
  }

  #look(): Call {
    return new Call({ timeoutMs: LOOK_MS });
  }
}
