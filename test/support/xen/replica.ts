import type { XenStore } from "../../../providers/xen/index.js";
import { Call } from "../../../src/base/flow/call.js";

/** What a watch has told: the keys and values that a program which follows it believes to be there. */
export class Replica implements AsyncDisposable {
  /** Values as latin1 text by key. */
  readonly values = new Map<string, string>();
  /** Resolves when the watch has ended, and rejects when it failed. */
  readonly ended: Promise<void>;
  readonly #abort = new AbortController();
  #told = 0;
  #isOver = false;
  #wake = (): void => undefined;

  private constructor(
    store: XenStore,
    prefix: string,
    ready: () => void,
    onChange: (key: string, value: string | undefined) => void,
  ) {
    const call = new Call({ signal: this.#abort.signal, timeoutMs: Number.POSITIVE_INFINITY });
    this.ended = this.#follow(store.watch(prefix, call, { ready }), onChange).finally(() => {
      this.#isOver = true;
      this.#wake();
    });
    this.ended.catch(() => undefined);
  }

  /**
   * Begins to follow; resolves when the watch is armed and what was there is known.
   * @param onChange hears of each change before the next one is asked for
   */
  static async of(
    store: XenStore,
    prefix: string,
    onChange: (key: string, value: string | undefined) => void = () => undefined,
  ): Promise<Replica> {
    let replica: Replica | undefined;
    await new Promise<void>((resolve, reject) => {
      replica = new Replica(store, prefix, resolve, onChange);
      replica.ended.then(() => reject(new Error("the watch ended")), reject);
    });
    const made = replica as unknown as Replica;
    for await (const { key, value } of store.list(prefix, new Call({ timeoutMs: 60_000 })))
      if (value !== undefined && !made.values.has(key))
        made.values.set(key, Buffer.from(value).toString("latin1"));
    if (prefix !== "" && !made.values.has(prefix)) {
      const value = await store.read(prefix, new Call({ timeoutMs: 60_000 }));
      if (value !== undefined) made.values.set(prefix, Buffer.from(value).toString("latin1"));
    }
    return made;
  }

  /** Changes that were told. */
  get told(): number {
    return this.#told;
  }

  /** Waits until it is as it should be. @throws what ended the watch, or an error after the time */
  async until(accept: (values: ReadonlyMap<string, string>) => boolean, timeoutMs = 20_000): Promise<void> {
    const late = AbortSignal.timeout(timeoutMs);
    late.addEventListener("abort", () => this.#wake());
    while (!accept(this.values)) {
      if (this.#isOver) {
        await this.ended;
        throw new Error("the watch ended");
      }
      if (late.aborted)
        throw new Error(
          `not told within ${timeoutMs} ms: ${accept}; known: ${JSON.stringify([...this.values].slice(0, 40))}`,
        );
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Ends the watch. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.ended.catch(() => undefined);
  }

  async #follow(
    changes: AsyncIterable<{ readonly key: string; readonly value?: Uint8Array | undefined }>,
    onChange: (key: string, value: string | undefined) => void,
  ): Promise<void> {
    for await (const { key, value } of changes) {
      const text = value && Buffer.from(value).toString("latin1");
      if (text === undefined) this.values.delete(key);
      else this.values.set(key, text);
      this.#told++;
      onChange(key, text);
      this.#wake();
    }
  }
}
