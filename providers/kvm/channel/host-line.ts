import { type PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { fairTurn } from "../../../src/base/flow/turn.js";
import { type Line, LineReader } from "../../../src/mdata/line-reader.js";
import type { Endpoint, Link, LinkEvents } from "./link.js";

/** So many times the longest line that is taken, a line counts as endless. */
const ENDLESS = 4;

/** A link cut into lines, until it ends. */
export class HostLine {
  /** Receives every line; the bytes hold during the call only. */
  onLine: (line: Line, isWhole: boolean) => void = () => undefined;
  /** Hears of the end, once. */
  onEnd: () => void = () => undefined;
  /** A signal, no promise: that would keep all who ever waited for it. */
  readonly #ending = new AbortController();
  readonly #name: string;
  readonly #maxLineBytes: number;
  readonly #reader: LineReader;
  readonly #arrived: Buffer[] = [];
  #isReading = false;
  #afterReading: (() => void) | undefined;
  #link: Link | undefined;
  #isOpen = true;
  #failure: Error | undefined;

  private constructor(name: string, maxLineBytes: number) {
    this.#name = name;
    this.#maxLineBytes = maxLineBytes;
    this.#reader = new LineReader(maxLineBytes);
  }

  /** Opens a link. @throws as {@link Endpoint.open} */
  static async open(
    endpoint: Endpoint,
    maxLineBytes: number,
    call: Call,
    onBusy: LinkEvents["onBusy"],
  ): Promise<HostLine> {
    const line = new HostLine(endpoint.name, maxLineBytes);
    const events = {
      onData: (data: Buffer) => line.#take(data),
      onEnd: (error?: Error) => line.#hungUp(error),
      onBusy,
    };
    line.#link = await endpoint.open(events, call);
    if (!line.#isOpen) await line.#link.close();
    return line;
  }

  /** Fires at the end. */
  get ended(): AbortSignal {
    return this.#ending.signal;
  }

  /** Whether the other end is there, as far as is known. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Whether the line is another program's. */
  get isPart(): boolean {
    return this.#link?.isPart === true;
  }

  /** Writes bytes whole. A write that does not get through ends the line: the host may have a part of it. */
  async write(data: Uint8Array, call: Call): Promise<void> {
    if (!this.#isOpen) throw this.lost();
    try {
      await this.#link?.write(data, call);
    } catch (error) {
      const wasOpen = this.#isOpen;
      await this.close();
      throw wasOpen ? error : this.lost();
    }
  }

  /** Keeps the process alive, or lets it end. */
  hold(isHeld: boolean): void {
    if (isHeld) this.#link?.ref();
    else this.#link?.unref();
  }

  /** Returns the link back. May be called twice. */
  async close(): Promise<void> {
    this.#end(undefined);
    await this.#link?.close();
  }

  /** The error of whoever needs it after its end. */
  lost(): PvbusError {
    const why = this.#failure === undefined ? "the host closed it" : this.#failure.message;
    return pvbusError("ERR_DISCONNECTED", `the metadata channel ${this.#name} is gone: ${why}; try again`, {
      cause: this.#failure,
    });
  }

  #take(data: Buffer): void {
    this.#arrived.push(data);
    if (!this.#isReading) void this.#read();
  }

  /** Hands over what arrived, line by line: a flood of them must not keep other work of the process waiting. */
  async #read(): Promise<void> {
    this.#isReading = true;
    for (let data = this.#arrived.shift(); data !== undefined && this.#isOpen; data = this.#arrived.shift()) {
      this.#reader.push(data);
      for (let line = this.#reader.next(); line !== undefined; line = this.#reader.next()) {
        this.onLine(line, !this.#reader.isTooLong(line));
        const turn = fairTurn();
        if (turn === undefined) continue;
        this.#link?.pause?.();
        await turn;
        if (!this.#isOpen) return;
        this.#link?.resume?.();
      }
      // One that is merely too long gets an error of its own.
      if (this.#reader.pending > ENDLESS * this.#maxLineBytes)
        this.#end(new Error(`it sends a line without an end (${this.#reader.pending} bytes so far)`));
    }
    this.#isReading = false;
    this.#afterReading?.();
  }

  /** What the host sent before its end counts: the end is told behind it. */
  #hungUp(error: Error | undefined): void {
    if (!this.#isReading) this.#end(error);
    else this.#afterReading = () => this.#end(error);
  }

  #end(error: Error | undefined): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#failure = error;
    // A write that waits for room would go on waiting.
    void this.#link?.close();
    this.#ending.abort();
    this.onEnd();
  }
}
