import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { decodeFrame, encodeFrame, FrameReader } from "../protocol/data-map.js";
import { ExchangeFailure, type RpcTransport } from "./rpc-transport.js";
import type { HostStream, StreamSource } from "./sources.js";

type Outcome = { readonly reply: Buffer } | { readonly error: unknown };

/**
 * Commands as frames over a stream. The connection is kept from command to command: it has neither numbers nor versions, so
 * one command is under way at a time, and one that ends early takes its connection along.
 */
export class StreamTransport implements RpcTransport {
  readonly #source: StreamSource;
  #connection: Connection | undefined;
  #closed = false;

  /** @param source where the host listens; connected on first use */
  constructor(source: StreamSource) {
    this.#source = source;
  }

  get name(): string {
    return this.#source.name;
  }

  get privileged(): boolean | undefined {
    return this.#source.privileged;
  }

  async prepare(call: Call): Promise<void> {
    await this.#connected(call);
  }

  async exchange(request: Uint8Array, call: Call): Promise<Uint8Array> {
    const frame = encodeFrame(request);
    const connection = await this.#connected(call);
    const stale = connection.used;
    try {
      return await connection.exchange(frame, call);
    } catch (error) {
      this.#connection = undefined;
      await connection.close();
      if (PvbusError.is(error) && error.code !== "ERR_DISCONNECTED") throw error;
      const message = `${this.name} broke off: ${error instanceof Error ? error.message : error}; try again`;
      const details = { executed: connection.sent, stale, cause: error };
      throw new ExchangeFailure("ERR_DISCONNECTED", message, details);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.close();
  }

  /** Returns the connection; one that the host closed in the meantime is replaced. */
  async #connected(call: Call): Promise<Connection> {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", `${this.name} is closed; open the bus again`);
    if (this.#connection?.alive === true) return this.#connection;
    await this.#connection?.close();
    this.#connection = undefined;
    const connection = new Connection();
    try {
      await connection.open(this.#source, call);
    } catch (error) {
      call.check(`the connection to ${this.name}`);
      if (!PvbusError.is(error)) throw error;
      const details = { executed: false, connecting: true, cause: error.cause };
      throw new ExchangeFailure(error.code, error.message, details);
    }
    if (this.#closed) {
      await connection.close();
      throw pvbusError("ERR_DISCONNECTED", `${this.name} was closed; open the bus again`);
    }
    this.#connection = connection;
    return connection;
  }
}

class Connection {
  #stream: HostStream | undefined;
  #reader = new FrameReader();
  #waiting: ((outcome: Outcome) => void) | undefined;
  #end: unknown;
  alive = true;
  /** Whether all of the command was written. */
  sent = false;
  /** Whether it carried a command before. */
  used = false;

  async open(source: StreamSource, call: Call): Promise<void> {
    const onData = (chunk: Buffer): void => this.#take(chunk);
    const onEnd = (error: Error | undefined): void =>
      this.#finish(
        error ?? new Error(`the host closed the connection${this.#reader.pending > 0 ? " in a frame" : ""}`),
      );
    this.#stream = await source.connect({ onData, onEnd }, call);
  }

  async exchange(frame: Uint8Array, call: Call): Promise<Buffer> {
    const stream = this.#stream as HostStream;
    if (!this.alive) throw this.#end;
    this.sent = false;
    const outcome = new Promise<Outcome>((resolve) => {
      this.#waiting = resolve;
    });
    stream.ref();
    await stream.write(frame, call);
    this.sent = true;
    const result = await call.within(outcome, "the host's reply");
    if ("error" in result) throw result.error;
    stream.unref();
    this.used = true;
    return result.reply;
  }

  /** Ends a command that is under way, too. */
  async close(): Promise<void> {
    this.alive = false;
    await this.#stream?.close();
    this.#settle({ error: new Error("it was closed here") });
  }

  #take(chunk: Buffer): void {
    try {
      if (this.#waiting === undefined)
        throw pvbusError("ERR_PROTOCOL", "the host speaks without being asked");
      const body = this.#reader.push(chunk);
      if (body !== undefined) this.#settle({ reply: decodeFrame(body) });
    } catch (error) {
      this.#finish(error);
    }
  }

  #finish(error: unknown): void {
    this.alive = false;
    this.#end = error;
    void this.#stream?.close();
    this.#settle({ error });
  }

  #settle(outcome: Outcome): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(outcome);
  }
}
