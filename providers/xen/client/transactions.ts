import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { TRANSACTION_END } from "../protocol/operations.js";
import { type Connection, toTheEnd } from "./connection.js";
import { Request } from "./pending.js";
import { type CallLike, callOf, type Question, XenStoreAccess } from "./requests.js";

/**
 * An open transaction: what it changes becomes visible on {@link Transaction.commit}, all at once or not at all.
 *
 * The C daemon gives no snapshot: a node first read in the transaction may be newer than its begin; the commit fails
 * when anything that was read or written was changed by others meanwhile.
 */
export class Transaction extends XenStoreAccess implements AsyncDisposable {
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
  protected override ask<T>({ operation, text, value }: Question<T>, call: Call): Promise<T> {
    this.#checkOpen();
    return this.#connection.run(new Request(operation, text, value, this.#id), call);
  }

  /** Whatever the daemon answers, and whoever waits for it: the id is dead. */
  #end(how: "T" | "F", call: Call): Promise<true> {
    this.#over = true;
    // Another one may begin when the daemon knows that this one is over.
    const request = new Request(TRANSACTION_END, how, undefined, this.#id).whenDone(this.#ended);
    request.binding = true;
    return this.#connection.run(request, call);
  }

  #checkOpen(): void {
    if (this.#over) throw pvbusError("ERR_CONFLICT", "the transaction is over; begin another one");
  }
}
