import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Backoff } from "../../../src/base/flow/backoff.js";
import type { Call, CallOptions } from "../../../src/base/flow/call.js";
import { Semaphore } from "../../../src/base/flow/queues.js";
import { TRANSACTION_END, TRANSACTION_START } from "../protocol/operations.js";
import { type Connection, toTheEnd } from "./connection.js";
import { PendingRequest } from "./pending.js";
import { type CallLike, callOf, XenStoreRequests } from "./requests.js";

/** Options of a transaction that is tried again after a conflict. */
export interface TransactionOptions extends CallOptions {
  /** How often it is tried before a conflict is reported; default: until its time is over. */
  readonly attempts?: number | undefined;
}

/** Attempts that follow at once: a conflict says that somebody else is done. */
const QUICK_ATTEMPTS = 4;
/** The pauses of the others, all but their first millisecond by chance. */
const PAUSES = { firstMs: 2, longestMs: 49, jitter: 1 } as const;

/**
 * An open transaction: what it changes becomes visible on {@link Transaction.commit}, all at once or not at all.
 *
 * The C daemon gives no snapshot: a node first read in the transaction may be newer than its begin; the commit fails
 * when anything that was read or written was changed by others meanwhile.
 */
export class Transaction extends XenStoreRequests implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #id: number;
  readonly #ended: () => void;
  #over = false;

  /** @internal Begun by the client. @param ended called once, when it is over */
  constructor(connection: Connection, id: number, ended: () => void) {
    super();
    this.#connection = connection;
    this.#id = id;
    this.#ended = ended;
  }

  /** Whether it was committed or given up. */
  get isOver(): boolean {
    return this.#over;
  }

  /**
   * Makes the changes.
   * @throws PvbusError `ERR_CONFLICT` when somebody changed the same nodes meanwhile: then nothing was changed and all of it,
   *   the reading too, must be done again; `ERR_DISCONNECTED`, `ERR_TIMEOUT`, `ERR_ABORTED`: whether it was made is not known
   */
  async commit(call?: CallLike): Promise<void> {
    this.#checkOpen();
    const running = callOf(call);
    running.check("the commit");
    await this.#end("T", running);
  }

  /** Gives it up; nothing was changed. May be called when it is over. */
  async abort(): Promise<void> {
    if (this.#over) return;
    // The daemon forgets it, or is gone together with it.
    await this.#end("F", toTheEnd()).catch(() => undefined);
  }

  /** Gives it up unless it was committed, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  /** @internal */
  protected override ask<T>(request: PendingRequest<T>, call: Call): Promise<T> {
    this.#checkOpen();
    request.transactionId = this.#id;
    return this.#connection.run(request, call);
  }

  /** Whatever the daemon answers, and whoever waits for it: the id is dead. */
  #end(how: "T" | "F", call: Call): Promise<true> {
    this.#over = true;
    // Another one may begin when the daemon knows that this one is over.
    const request = new PendingRequest(TRANSACTION_END, how);
    request.done = this.#ended;
    request.transactionId = this.#id;
    request.binding = true;
    return this.#connection.run(request, call);
  }

  #checkOpen(): void {
    if (this.#over) throw pvbusError("ERR_CONFLICT", "the transaction is over; begin another one");
  }
}

/** The transactions of a client: so many are open at a time as every daemon grants, the others wait for their turn. */
export class Transactions {
  readonly #connect: (call: Call) => Connection | Promise<Connection>;
  readonly #open: Semaphore;

  /** @param most how many may be open at a time @param connect returns the connection to begin one on */
  constructor(most: number, connect: (call: Call) => Connection | Promise<Connection>) {
    this.#connect = connect;
    this.#open = new Semaphore(most);
  }

  /** Begins one. @throws PvbusError `ERR_NO_SPACE` when the daemon grants no more */
  async begin(call: Call): Promise<Transaction> {
    const turn = this.#open.enter(call, "another transaction to end");
    if (turn !== undefined) await turn;
    const leave = (): void => this.#open.leave();
    let isAsked = false;
    let isGivenUp = false;
    try {
      const connection = await this.#connect(call);
      isAsked = true;
      const request = new PendingRequest(TRANSACTION_START, "");
      request.done = (id) => {
        if (id === undefined) leave();
        // Begun after all, it must not stay open.
        else if (isGivenUp) void new Transaction(connection, id, leave).abort();
      };
      return new Transaction(connection, await connection.run(request, call), leave);
    } catch (error) {
      isGivenUp = true;
      if (!isAsked) leave();
      throw error;
    }
  }

  /** Runs one to its end, after a conflict again; see {@link XenStoreClient.transaction}. */
  async run<T>(body: (transaction: Transaction) => Promise<T> | T, options: TransactionOptions): Promise<T> {
    const { attempts = Number.POSITIVE_INFINITY } = options;
    if (!(attempts > 0 && (Number.isInteger(attempts) || attempts === Number.POSITIVE_INFINITY)))
      throw new RangeError("attempts must be a whole number, one or more");
    const call = callOf(options);
    const backoff = new Backoff(PAUSES);
    let conflict: PvbusError | undefined;
    let pause = 0;
    for (let attempt = 1; ; attempt++) {
      let transaction: Transaction | undefined;
      try {
        if (pause > 0) await call.sleep(pause, "the transaction's next attempt");
        transaction = await this.begin(call);
        const value = await body(transaction);
        if (!transaction.isOver) await transaction.commit(call);
        return value;
      } catch (error) {
        const isCommitted = transaction?.isOver === true;
        // Whoever waits is told now, not when a daemon that may be silent answers.
        void transaction?.abort();
        if (!PvbusError.is(error)) throw error;
        // A time limit that comes before the commit is told as the conflict that took the time.
        const isLate = !isCommitted && error.code === "ERR_TIMEOUT" && call.remainingMs <= 0;
        if (isCommitted && error.code === "ERR_CONFLICT") conflict = error;
        else if (!isLate || conflict === undefined) throw error;
      }
      pause = attempt < QUICK_ATTEMPTS ? 0 : 1 + backoff.next();
      if (attempt >= attempts || call.remainingMs <= pause) {
        throw pvbusError(
          "ERR_CONFLICT",
          `others changed the same nodes during each of ${attempt} attempts; try again later or allow a longer timeoutMs`,
          { cause: conflict },
        );
      }
    }
  }
}
