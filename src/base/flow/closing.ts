import { pvbusError } from "../errors.js";
import { onAbort } from "./abort.js";

/**
 * Whether a store, a client or a link is closed, for all that belongs to it. It is closed by its owner, and by what it is
 * a part of.
 */
export class Closing {
  readonly #controller = new AbortController();
  readonly #message: string;
  readonly #forget: () => void;

  /**
   * @param outer fires when what this is a part of is closed, such as the interface
   * @param message of the error that everybody gets afterwards
   */
  constructor(outer?: AbortSignal, message = "the store is closed; open the bus again") {
    this.#message = message;
    this.#forget = onAbort(outer, () => this.#controller.abort());
  }

  /** Fires once, when it is closed. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Whether it is closed. */
  get isClosed(): boolean {
    return this.#controller.signal.aborted;
  }

  /** To be asked before each verb. @throws PvbusError `ERR_DISCONNECTED` once it is closed */
  check(): void {
    if (this.isClosed) throw this.error();
  }

  /** Makes the error of whoever uses it afterwards. */
  error(): Error {
    return pvbusError("ERR_DISCONNECTED", this.#message);
  }

  /** Closes it. @returns whether it was open until now */
  close(): boolean {
    if (this.isClosed) return false;
    this.#forget();
    this.#controller.abort();
    return true;
  }
}
