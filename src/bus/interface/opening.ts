import { onAbort } from "../../base/flow/abort.js";
import { Call } from "../../base/flow/call.js";
import type { ProviderStore } from "../../contract/store.js";

/**
 * The opening of a store for all who wait for it. It has no limit of its own: it goes on while anybody waits, so that the
 * longest limit counts, and is aborted when the last one gave up.
 */
export class Opening {
  /** Resolves when the provider has come to an end; a store that comes after the abort is closed by then. */
  readonly ended: Promise<void>;
  readonly #outcome: Promise<ProviderStore>;
  readonly #abort = new AbortController();
  #waiting = 0;
  /** The store, once it is open. */
  store: ProviderStore | undefined;
  /** Whether it failed or was aborted: whoever comes now needs another one. */
  isOver = false;

  /** @param open begins at once */
  constructor(open: (call: Call) => Promise<ProviderStore>) {
    const { signal } = this.#abort;
    const opened = this.#follow(open(Call.endless(signal)));
    // A provider that takes no notice of the signal keeps nobody waiting.
    const aborted = new Promise<never>((_, reject) => onAbort(signal, () => reject(signal.reason)));
    this.#outcome = Promise.race([opened, aborted]);
    this.#outcome.catch(() => undefined);
    this.ended = opened.then(
      () => undefined,
      () => undefined,
    );
  }

  /**
   * Waits for the store; the end of this call ends nobody else's waiting.
   * @throws PvbusError `ERR_TIMEOUT` or `ERR_ABORTED` at the end of the call, and what the opening throws
   */
  async wait(call: Call): Promise<ProviderStore> {
    this.#waiting++;
    try {
      return await call.within(this.#outcome, "the opening of the store");
    } finally {
      if (--this.#waiting === 0) this.abort(undefined);
    }
  }

  /** Ends it, and all who wait with the reason. Does nothing once the store is open. */
  abort(reason: unknown): void {
    if (this.store !== undefined || this.isOver) return;
    this.isOver = true;
    this.#abort.abort(reason);
  }

  async #follow(opening: Promise<ProviderStore>): Promise<ProviderStore> {
    try {
      const store = await opening;
      if (!this.isOver) {
        this.store = store;
        return store;
      }
      await store.close();
      throw this.#abort.signal.reason;
    } catch (error) {
      this.isOver = true;
      throw error;
    }
  }
}
