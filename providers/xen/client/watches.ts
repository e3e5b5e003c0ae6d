import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import { Backoff } from "../../../src/base/flow/backoff.js";
import { Call } from "../../../src/base/flow/call.js";
import type { Closing } from "../../../src/base/flow/closing.js";
import { Notifier } from "../../../src/base/flow/notifier.js";
import type { Logger } from "../../../src/base/host/host.js";
import { checkPath } from "../protocol/keys.js";
import { UNWATCH, WATCH } from "../protocol/operations.js";
import { decodeStrings } from "../protocol/wire.js";
import { type Connection, toTheEnd } from "./connection.js";
import { PendingRequest } from "./pending.js";
import type { ReconnectingConnection } from "./reconnection.js";

/** One firing of a watch. */
export interface WatchEvent {
  /** The path that changed, relative when the watched path is. */
  readonly path: string;
  /**
   * `registered`: the watch is armed, always the first event; `changed`: something about the node or its existence;
   * `resync`: events may have been lost, look at everything below the watched path again.
   */
  readonly reason: "registered" | "changed" | "resync";
}

/** Settings of a watch. */
export interface WatchSettings {
  /**
   * How far below the node changes are reported: 0 the node alone, 1 its children too, … Default: everything. Needs a daemon
   * with that feature (Xen 4.22), else `ERR_KEY_INVALID`.
   */
  readonly depth?: number | undefined;
}

/** Different paths that may wait for one watch before they become a `resync`. */
const MAX_BACKLOG = 1024;
const PAUSES = { firstMs: 20, longestMs: 2_000 } as const;
/** Longest wait for one answer while watches are registered again. */
const RESTORE_MS = 10_000;

class Watch {
  readonly path: string;
  readonly token: string;
  readonly text: string;
  /** The connection that it is registered on. */
  connection: Connection | undefined;
  readonly #paths = new Set<string>();
  #isFresh = true;
  #lost = false;
  #error: unknown;
  readonly #news = new Notifier();

  constructor(path: string, token: string, { depth }: WatchSettings) {
    this.path = path;
    this.token = token;
    this.text = `${path}\0${token}${depth === undefined ? "" : `\0${depth}`}`;
  }

  push(path: string): void {
    if (this.#paths.size < MAX_BACKLOG) this.#paths.add(path);
    else this.lose();
    this.#news.notify();
  }

  lose(): void {
    this.#paths.clear();
    this.#lost = true;
    this.#news.notify();
  }

  fail(error: unknown): void {
    this.#error ??= error;
    this.#news.notify();
  }

  async next(call: Call): Promise<WatchEvent> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error;
      const event = this.#take();
      if (event !== undefined) return event;
      await this.#news.wait(call, "a change");
    }
  }

  #take(): WatchEvent | undefined {
    const [changed] = this.#paths;
    const path = this.#lost ? this.path : changed;
    if (path === undefined) return undefined;
    // What is lost before the first event was lost before anything was looked at.
    const reason = this.#isFresh ? "registered" : this.#lost ? "resync" : "changed";
    this.#isFresh = false;
    if (this.#lost) this.#lost = false;
    else this.#paths.delete(path);
    return { path, reason };
  }
}

interface WatchesSettings {
  readonly most: number;
  /** Of the client: it ends all watches with `ERR_DISCONNECTED`. */
  readonly closing: Closing;
  readonly logger: Logger;
}

/** All watches of a client: they share one connection and outlive it. */
export class Watches {
  readonly #connection: ReconnectingConnection;
  readonly #most: number;
  readonly #closing: Closing;
  readonly #logger: Logger;
  readonly #watches = new Map<string, Watch>();
  #tokens = 0;
  #restoring = false;

  constructor(connection: ReconnectingConnection, { most, closing, logger }: WatchesSettings) {
    this.#connection = connection;
    this.#most = most;
    this.#closing = closing;
    this.#logger = logger;
    onAbort(closing.signal, () => {
      for (const watch of this.#watches.values()) watch.fail(closing.error());
    });
  }

  /** Follows a path until the call is over: then it throws `ERR_ABORTED` or `ERR_TIMEOUT`. */
  async *follow(
    path: string,
    settings: WatchSettings,
    call: Call,
  ): AsyncGenerator<WatchEvent, never, undefined> {
    call.check("the watch");
    const watch = this.#create(path, settings);
    try {
      const connection = await this.#connection.connect(call);
      // Known before it is registered: its first event may come before the answer.
      this.#watches.set(watch.token, watch);
      await call.within(this.#register(watch, connection), "the watch to be registered");
      for (;;) yield await watch.next(call);
    } finally {
      this.#remove(watch);
    }
  }

  /** Takes what the daemon says: `path NUL token NUL`. */
  receive(bytes: Buffer, start: number, end: number): void {
    const [path, token = ""] = decodeStrings(bytes.subarray(start, end), 2);
    // Events of a watch that was removed may still come.
    if (path !== undefined) this.#watches.get(token)?.push(path);
  }

  /** The connection broke: registers all again as soon as there is one. */
  connectionLost(error: Error): void {
    for (const watch of this.#watches.values()) watch.connection = undefined;
    if (this.#watches.size === 0 || this.#closing.isClosed || this.#restoring) return;
    this.#logger.warn("the connection to XenStore broke; its watches will be restored", { error });
    void this.#restore();
  }

  #create(path: string, settings: WatchSettings): Watch {
    checkPath(path);
    const { depth } = settings;
    if (depth !== undefined && !(Number.isSafeInteger(depth) && depth >= 0))
      throw new RangeError("depth must be a whole number, zero or more");
    this.#closing.check();
    if (this.#watches.size >= this.#most) {
      throw pvbusError(
        "ERR_NO_SPACE",
        `there are ${this.#most} watches already, more than every daemon grants a guest; end some`,
      );
    }
    return new Watch(path, `p${++this.#tokens}`, settings);
  }

  async #register(watch: Watch, connection: Connection): Promise<void> {
    await connection.run(new PendingRequest(WATCH, watch.text), toTheEnd());
    if (this.#watches.get(watch.token) === watch) {
      watch.connection = connection;
      connection.hold();
    } else unregister(watch, connection);
  }

  #remove(watch: Watch): void {
    this.#watches.delete(watch.token);
    const { connection } = watch;
    watch.connection = undefined;
    if (connection === undefined) return;
    connection.release();
    unregister(watch, connection);
  }

  /** Tries again, with growing pauses, while there is a watch that is not registered. */
  async #restore(): Promise<void> {
    this.#restoring = true;
    const backoff = new Backoff(PAUSES);
    try {
      while (this.#unregistered().length > 0) {
        await backoff.sleep(Call.endless(this.#closing.signal), "the XenStore daemon");
        const call = new Call({ signal: this.#closing.signal, timeoutMs: RESTORE_MS });
        const connection = await this.#connection.connect(call).catch(() => undefined);
        if (connection === undefined) continue;
        const restored = this.#unregistered().map((watch) => this.#registerAgain(watch, connection, call));
        if ((await Promise.all(restored)).every(Boolean)) backoff.reset();
      }
    } catch (error) {
      if (!this.#closing.isClosed) throw error;
    } finally {
      this.#restoring = false;
    }
  }

  #unregistered(): Watch[] {
    return [...this.#watches.values()].filter(({ connection }) => connection === undefined);
  }

  /** Returns false when it must be tried again: whatever the daemon says, but that this domain may not, it may unsay. */
  async #registerAgain(watch: Watch, connection: Connection, call: Call): Promise<boolean> {
    try {
      await call.within(this.#register(watch, connection), "the watch to be registered again");
      watch.lose();
      return true;
    } catch (error) {
      const { path, token } = watch;
      const isOver = PvbusError.is(error) && error.code === "ERR_PERMISSION";
      if (isOver) {
        this.#watches.delete(token);
        watch.fail(error);
      } else if (connection.isOpen && !this.#closing.isClosed)
        this.#logger.warn("a watch of XenStore was not restored and will be tried again", { path, error });
      return isOver;
    }
  }
}

/** Removes a watch from the daemon; nobody waits for it. */
function unregister({ path, token }: Watch, connection: Connection): void {
  if (!connection.isOpen) return;
  connection.run(new PendingRequest(UNWATCH, `${path}\0${token}`), toTheEnd()).catch(() => undefined);
}
