import { type PvbusError, pvbusError } from "../../base/errors.js";
import type { Call } from "../../base/flow/call.js";
import { fairTurn } from "../../base/flow/turn.js";
import { type Line, LineReader } from "../line-reader.js";

/** Who hears of a connection. */
export interface ConnectionEvents {
  /** Receives bytes as they come. */
  readonly onData: (data: Buffer) => void;
  /** Hears once that no more comes: undefined when the other end closed, else why. */
  readonly onEnd: (error: Error | undefined) => void;
  /** Hears that another program has the line and it is waited for: what there is to say of that; undefined when that is over. */
  readonly onBusy?: ((busy: (() => PvbusError) | undefined) => void) | undefined;
}

/** A line that another program has. */
export interface TakenLine {
  /** The error that says who has it; not when the waiting is over. */
  busy(): PvbusError;
  /** Takes it when it is free. To be called once; nothing stays open but the connection. @throws PvbusError `ERR_BUSY`, `ERR_ABORTED` */
  wait(call: Call): Promise<Connection>;
}

/** An open two-way stream of bytes to the host. */
export interface Connection {
  /** Another program has the line and lets us have a part of it. */
  readonly isPart?: boolean | undefined;
  /** Writes all bytes after those of earlier calls. A call that ends while it waits may leave the stream useless. */
  write(data: Uint8Array, call: Call): Promise<void>;
  /** Asks for no more bytes for the moment, where the connection can; some may come all the same. */
  pause?(): void;
  /** Takes that back. */
  resume?(): void;
  /** Keeps the process alive, as at the beginning. */
  ref(): void;
  /** Lets the process end. */
  unref(): void;
  /** Returns everything back; no listener is called any more. May be called twice. */
  close(): Promise<void>;
}

/** How the host is reached. */
export interface Transport {
  /** As the user names it: `unix:/run/x.sock`. */
  readonly name: string;
  /**
   * One line for everybody, used before and after us: what an earlier program left in it must be cleared away, and it is given
   * back as soon as it is not needed. Otherwise every connection is a fresh one.
   */
  readonly isShared: boolean;
  /** Returns the id of this boot of the machine; undefined where it is not known. */
  readonly boot?: (() => string | undefined) | undefined;
  /**
   * Opens a connection; it does not wait for a host that is not there.
   * @throws PvbusError `ERR_BUSY` while another program has it: at the end of the call, or at once where that cannot be waited for;
   *   `ERR_UNAVAILABLE`, `ERR_PERMISSION`
   */
  open(events: ConnectionEvents, call: Call): Promise<Connection>;
}

/** So many times the longest line that is taken, a line counts as endless. */
const ENDLESS = 4;

/** A connection cut into lines, until it ends. */
export class LineStream {
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
  #connection: Connection | undefined;
  #failure: Error | undefined;

  private constructor(name: string, maxLineBytes: number) {
    this.#name = name;
    this.#maxLineBytes = maxLineBytes;
    this.#reader = new LineReader(maxLineBytes);
  }

  /** Opens a connection. @throws as {@link Transport.open} */
  static async open(
    transport: Transport,
    maxLineBytes: number,
    call: Call,
    onBusy: ConnectionEvents["onBusy"],
  ): Promise<LineStream> {
    const line = new LineStream(transport.name, maxLineBytes);
    const events = {
      onData: (data: Buffer) => line.#take(data),
      onEnd: (error?: Error) => line.#hungUp(error),
      onBusy,
    };
    line.#connection = await transport.open(events, call);
    if (!line.isOpen) await line.#connection.close();
    return line;
  }

  get ended(): AbortSignal {
    return this.#ending.signal;
  }

  get isOpen(): boolean {
    return !this.ended.aborted;
  }

  get isPart(): boolean {
    return this.#connection?.isPart === true;
  }

  /** Writes bytes whole. A write that does not get through ends the line: the host may have a part of it. */
  async write(data: Uint8Array, call: Call): Promise<void> {
    if (!this.isOpen) throw this.lost();
    try {
      await this.#connection?.write(data, call);
    } catch (error) {
      const wasOpen = this.isOpen;
      await this.close();
      throw wasOpen ? error : this.lost();
    }
  }

  hold(isHeld: boolean): void {
    if (isHeld) this.#connection?.ref();
    else this.#connection?.unref();
  }

  async close(): Promise<void> {
    this.#end(undefined);
    await this.#connection?.close();
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
    for (let data = this.#arrived.shift(); data !== undefined && this.isOpen; data = this.#arrived.shift()) {
      this.#reader.push(data);
      for (let line = this.#reader.next(); line !== undefined; line = this.#reader.next()) {
        this.onLine(line, !this.#reader.isTooLong(line));
        const turn = fairTurn();
        if (turn === undefined) continue;
        this.#connection?.pause?.();
        await turn;
        if (!this.isOpen) return;
        this.#connection?.resume?.();
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
    if (!this.isOpen) return;
    this.#failure = error;
    this.#ending.abort();
    // A write that waits for room would go on waiting.
    void this.#connection?.close();
    this.onEnd();
  }
}
