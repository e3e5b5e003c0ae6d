import { pvbusError } from "../errors.js";
import { onAbort } from "./abort.js";

/** Whether a store, a client or a link is closed, by its owner or by what it is a part of. */
export class Closing {
  readonly #controller = new AbortController();
  readonly #message: string;
  readonly #forget: () => void;

  /** @param outer fires when what this is a part of is closed @param message of the error that everybody gets afterwards */
  constructor(outer?: AbortSignal, message = "the store is closed; open the bus again") {
    this.#message = message;
    this.#forget = onAbort(outer, () => this.#controller.abort());
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

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
