import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Call, CallOptions } from "../../../src/base/flow/call.js";
import { Semaphore } from "../../../src/base/flow/semaphore.js";
import type { Logger } from "../../../src/base/host/host.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import {
  CONTROL,
  GET_DOMAIN_PATH,
  GET_FEATURE,
  IS_DOMAIN_INTRODUCED,
  TRANSACTION_START,
} from "../protocol/operations.js";
import { checkDomain } from "../protocol/permissions.js";
import type { Transport } from "../transport/transport.js";
import type { Connection } from "./connection.js";
import { Request } from "./pending.js";
import { Line } from "./reconnection.js";
import { type CallLike, callOf, isRefusal, type Question, XenStoreAccess } from "./requests.js";
import { Transaction } from "./transactions.js";
import { type WatchEvent, Watches, type WatchSettings } from "./watches.js";

/** Options of {@link XenStoreClient.transaction}. */
export interface TransactionOptions extends CallOptions {
  /** How often it is tried before a conflict is reported; default: until its time is over. */
  readonly attempts?: number | undefined;
}

/** Options of {@link XenStoreClient.watch}. */
export interface XenStoreWatchOptions extends CallOptions, WatchSettings {}

/** What every daemon grants a guest at least. */
const GUEST_TRANSACTIONS = 8;
const GUEST_WATCHES = 100;
/** The controlling domain has no quotas: bounds of reason. */
const PRIVILEGED_TRANSACTIONS = 64;
const PRIVILEGED_WATCHES = 10_000;
/** Attempts that follow at once: a conflict says that somebody else is done. */
const QUICK_ATTEMPTS = 4;
const LONGEST_PAUSE_MS = 50;
/** Printable ASCII and NULs between. */
const COMMAND = /^[\x20-\x7e]*$/;

/**
 * A XenStore client: many requests under way at a time, transactions, permissions and watches. It connects on first use
 * and again after the daemon went away; then what was under way has failed with `ERR_DISCONNECTED`, and watches go on.
 * @example
 * const store = await bus.byType("Xen")?.store<XenStore>();
 * await store?.client.transaction(async (tx) => {
 *   const count = Number(await tx.readText("data/count"));
 *   await tx.write("data/count", String(count + 1));
 * });
 */
export class XenStoreClient extends XenStoreAccess implements AsyncDisposable {
  /** Whether it speaks for the controlling domain. */
  readonly privileged: boolean;
  readonly #lines: readonly Line[];
  readonly #watchLine: Line;
  readonly #watches: Watches;
  readonly #transactions: Semaphore;
  #closed = false;

  /** @internal Opened by the provider. @param transport where the daemon is; nothing is connected yet */
  constructor(transport: Transport, logger: Logger = SILENT) {
    super();
    const { privileged } = transport;
    this.privileged = privileged;
    const nothing = (): void => undefined;
    const watched = {
      onWatchEvent: (bytes: Buffer, start: number, end: number) => this.#watches.receive(bytes, start, end),
      onDown: (error: Error) => this.#watches.connectionLost(error),
    };
    const plain = { onWatchEvent: nothing, onDown: nothing };
    this.#watchLine = new Line(transport, transport.ownWatchLine ? "watches" : "requests", watched);
    this.#lines = transport.ownWatchLine
      ? Array.from({ length: transport.lines }, () => new Line(transport, "requests", plain))
      : [this.#watchLine];
    this.#watches = new Watches(this.#watchLine, privileged ? PRIVILEGED_WATCHES : GUEST_WATCHES, logger);
    this.#transactions = new Semaphore(privileged ? PRIVILEGED_TRANSACTIONS : GUEST_TRANSACTIONS);
  }

  /** Whether it was closed. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Connects, which every operation does by itself too.
   * @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  async connect(call?: CallLike): Promise<void> {
    await this.#line().connect(callOf(call));
  }

  /**
   * Follows a path and all below it. The first event says that the watch is armed; events may come joined, also without
   * a change: look at the node again. The loop ends without an error when the signal fires or `timeoutMs` (default: none)
   * has passed. A reader who does not keep up gets a `resync` in place of what it missed.
   * @param path also `@introduceDomain` and `@releaseDomain`
   * @throws PvbusError `ERR_NO_SPACE` for more than 100 watches of a guest, `ERR_DISCONNECTED` when the client is closed
   */
  async *watch(
    path: string,
    options: XenStoreWatchOptions = {},
  ): AsyncGenerator<WatchEvent, void, undefined> {
    const { depth, signal, timeoutMs = Number.POSITIVE_INFINITY } = options;
    const call = callOf({ signal, timeoutMs });
    try {
      yield* this.#watches.follow(path, { depth }, call);
    } catch (error) {
      if (!isEnd(error, call)) throw error;
    }
  }

  /**
   * Runs a transaction; after a conflict with another client all of it again, with growing pauses, until its time is over
   * or it was tried `attempts` times. At most 8 of a guest are open at a time, which every daemon grants; the others wait
   * for their turn.
   * @param body reads and changes through its argument, and may run several times; when it throws, nothing was changed
   * @returns what the body of the successful attempt gave
   * @throws PvbusError `ERR_CONFLICT` when the last attempt that there was time for had a conflict too, and what the body
   *   throws
   */
  async transaction<T>(
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactionOptions = {},
  ): Promise<T> {
    const { attempts = Number.POSITIVE_INFINITY } = options;
    if (!(attempts > 0 && (Number.isInteger(attempts) || attempts === Number.POSITIVE_INFINITY)))
      throw new RangeError("attempts must be a whole number, one or more");
    const call = callOf(options);
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#attempt(body, call);
      if (!("conflict" in outcome)) return outcome.value;
      const pause = pauseBehind(attempt);
      if (attempt >= attempts || call.remainingMs <= pause) {
        throw pvbusError(
          "ERR_CONFLICT",
          `others changed the same nodes during each of ${attempt} attempts; try again later or allow a longer timeoutMs`,
          { cause: outcome.conflict },
        );
      }
      if (pause > 0) await call.sleep(pause, "the transaction's next attempt");
    }
  }

  /**
   * Begins a transaction that the caller ends. Prefer {@link XenStoreClient.transaction}, which tries again.
   * @throws PvbusError `ERR_NO_SPACE` when the daemon grants no more
   */
  async begin(call?: CallLike): Promise<Transaction> {
    const running = callOf(call);
    const turn = this.#transactions.enter(running, "another transaction to end");
    if (turn !== undefined) await turn;
    const leave = once(() => this.#transactions.leave());
    let connection: Connection | undefined;
    let isGivenUp = false;
    try {
      const line = this.#line();
      connection = line.connection ?? (await line.connect(running));
      const begun = connection;
      const request = new Request(TRANSACTION_START, "").whenDone((id) => {
        if (id === undefined) leave();
        // Begun after all, it must not stay open.
        else if (isGivenUp) void new Transaction(begun, id, leave).abort();
      });
      return new Transaction(connection, await connection.run(request, running), leave);
    } catch (error) {
      isGivenUp = true;
      if (connection === undefined) leave();
      throw error;
    }
  }

  /** Returns the path of a domain's own directory. */
  async domainPath(domain: number, call?: CallLike): Promise<string> {
    checkDomain(domain);
    return this.ask({ operation: GET_DOMAIN_PATH, text: String(domain) }, callOf(call));
  }

  /** Reports whether a domain has its connection to the daemon; only the controlling domain may ask. */
  async isIntroduced(domain: number, call?: CallLike): Promise<boolean> {
    checkDomain(domain);
    return this.ask({ operation: IS_DOMAIN_INTRODUCED, text: String(domain) }, callOf(call));
  }

  /** Returns the daemon's features: 4 depth of watches, 8 permissions for any domain, …; 0 when it tells none. */
  async features(call?: CallLike): Promise<number> {
    try {
      // One byte that is no NUL: the one payload that all daemons answer.
      return await this.ask({ operation: GET_FEATURE, text: "x" }, callOf(call));
    } catch (error) {
      if (isRefusal(error, "ENOSYS") || isRefusal(error, "EINVAL") || isRefusal(error, "EACCES")) return 0;
      throw error;
    }
  }

  /** Runs a command of the daemon's own, in the controlling domain: `control("print", "text")`. */
  async control(command: readonly string[], call?: CallLike): Promise<string> {
    if (command.length === 0 || !command.every((each) => COMMAND.test(each)))
      throw new TypeError("a command has one word at least, of printable ASCII");
    return this.ask({ operation: CONTROL, text: command.join("\0") }, callOf(call));
  }

  /** Closes all connections; what is under way and every watch end with `ERR_DISCONNECTED`. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#watches.close();
    await Promise.all([this.#watchLine, ...this.#lines].map((line) => line.close()));
  }

  /** The same, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  protected override ask<T>({ operation, text, value }: Question<T>, call: Call): Promise<T> {
    const line = this.#line();
    const { connection } = line;
    const request = new Request(operation, text, value);
    if (connection !== undefined) return connection.run(request, call);
    return line.connect(call).then((made) => made.run(request, call));
  }

  /** @internal In a transaction: the C daemon copies a node for it at the first look, so all parts are of one moment. */
  protected override async steadyDirectory(path: string, call: Call): Promise<string[] | undefined> {
    const transaction = await this.begin(call);
    try {
      return await transaction.directory(path, call);
    } finally {
      void transaction.abort();
    }
  }

  /** Returns the connection with the least to do. */
  #line(): Line {
    let best = this.#lines[0] as Line;
    if (this.#lines.length === 1) return best;
    for (const line of this.#lines) {
      if (line.load < best.load) best = line;
    }
    return best;
  }

  async #attempt<T>(
    body: (transaction: Transaction) => Promise<T> | T,
    call: Call,
  ): Promise<{ value: T } | { conflict: PvbusError }> {
    const transaction = await this.begin(call);
    try {
      const value = await body(transaction);
      if (!transaction.isOver) await transaction.commit(call);
      return { value };
    } catch (error) {
      const committed = transaction.isOver;
      // Whoever waits is told now, not when a daemon that may be silent answers.
      void transaction.abort();
      if (committed && PvbusError.is(error) && error.code === "ERR_CONFLICT") return { conflict: error };
      throw error;
    }
  }
}

/** Returns the milliseconds between an attempt and the next one. */
function pauseBehind(attempt: number): number {
  if (attempt < QUICK_ATTEMPTS) return 0;
  return 1 + Math.random() * Math.min(LONGEST_PAUSE_MS - 1, 2 ** (attempt - QUICK_ATTEMPTS + 1));
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}

/** Reports whether an error is only the end of the call. */
export function isEnd(error: unknown, call: Call): boolean {
  if (!PvbusError.is(error)) return false;
  if (error.code === "ERR_ABORTED") return call.signal?.aborted === true;
  return error.code === "ERR_TIMEOUT" && call.remainingMs === 0;
}
