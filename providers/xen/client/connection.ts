import { pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { fairTurn } from "../../../src/base/flow/turn.js";
import { WaitingLine } from "../../../src/base/flow/waiting-line.js";
import { isSystemError } from "../../../src/base/system-error.js";
import { isAnswerOfDaemon, refusalName } from "../protocol/refusals.js";
import { HEADER_BYTES, MessageDecoder, typeName, XS } from "../protocol/wire.js";
import type { StreamPurpose, Transport, TransportStream } from "../transport/transport.js";
import { Deadlines } from "./deadlines.js";
import { Outbox } from "./outbox.js";
import { type PendingRequest, Slots } from "./pending.js";

const OUTBOX_BYTES = 64 * 1024;
/** How long a request is followed that nobody may wait for any more. */
const TO_THE_END_MS = 30_000;

export interface ConnectionSettings {
  readonly purpose: StreamPurpose;
  /** A watch fired; the payload is `bytes` from `start` to `end`, valid during the call only. */
  readonly onWatchEvent?: (bytes: Buffer, start: number, end: number) => void;
  /** It is down; all that was under way has been rejected. */
  readonly onDown?: (error: Error) => void;
}

/**
 * One connection to the daemon: many requests under way, matched to their replies by id. What is asked within one turn
 * of the event loop goes out in one write.
 *
 * A request whose call ends early keeps its slot until its reply came, so a reply is never taken for another's; when all
 * slots are kept so for too long, the connection is given up. Whatever the peer sends against the protocol ends it with
 * `ERR_PROTOCOL`. However many requests end at a time, the event loop has its turn between them.
 */
export class Connection {
  readonly #transport: Transport;
  readonly #settings: ConnectionSettings;
  readonly #decoder: MessageDecoder;
  readonly #outbox: Outbox;
  readonly #slots: Slots;
  readonly #queue = new WaitingLine<PendingRequest>();
  #stream: TransportStream | undefined;
  #down: Error | undefined;

  /** Requests that are over and wait for their turn to be told. */
  readonly #ending: PendingRequest[] = [];
  readonly #over = (request: PendingRequest): void => this.#endSoon(request);
  readonly #deadlines = new Deadlines<PendingRequest>(this.#over);

  /** Requests and others that keep the process alive. */
  #holds = 0;
  #stuckTimer: NodeJS.Timeout | undefined;

  private constructor(transport: Transport, settings: ConnectionSettings) {
    this.#transport = transport;
    this.#settings = settings;
    this.#slots = new Slots(transport.window);
    const oneMessage = HEADER_BYTES + transport.maxRequest;
    this.#outbox = new Outbox(
      transport.window === 1 ? oneMessage : OUTBOX_BYTES,
      () => (this.#down === undefined ? this.#stream : undefined),
      (error) => this.#refusedByWrite(error as Error),
    );
    this.#decoder = new MessageDecoder(transport.maxReply, (type, id, _transaction, bytes, start, end) =>
      this.#receive(type, id, bytes, start, end),
    );
  }

  static async open(transport: Transport, settings: ConnectionSettings, call: Call): Promise<Connection> {
    const connection = new Connection(transport, settings);
    const onData = (chunk: Buffer): void => connection.#push(chunk);
    const onDown = (error: Error | undefined): void => connection.#lost("closed the connection", error);
    connection.#stream = await transport.connect({ onData, onDown }, call, settings.purpose);
    return connection;
  }

  get isOpen(): boolean {
    return this.#down === undefined;
  }

  /** Requests that wait for a reply or for their turn. */
  get load(): number {
    return this.#slots.used + this.#queue.length;
  }

  /** Sends a request and resolves with its reply. @throws PvbusError, see {@link refusalError} */
  run<T>(request: PendingRequest<T>, call: Call): Promise<T> {
    try {
      call.check("the turn to ask XenStore");
      if (this.#down !== undefined) throw this.#down;
      this.#checkSize(request);
    } catch (error) {
      request.finish(undefined);
      return Promise.reject(error);
    }
    const promise = request.begin(call, this.#over);
    this.#deadlines.add(request);
    this.hold();
    if (this.#slots.isFull) this.#queue.push(request);
    else this.#send(request);
    return promise;
  }

  /** Keeps the process alive until {@link Connection.release}. */
  hold(): void {
    if (this.#holds++ === 0) this.#stream?.ref();
  }

  release(): void {
    if (--this.#holds === 0) this.#stream?.unref();
  }

  /** Ends it; what is under way is rejected with an error. */
  close(error: Error): Promise<void> {
    this.#reject(error);
    return this.#stream?.close() ?? Promise.resolve();
  }

  #checkSize(request: PendingRequest): void {
    const { maxRequest } = this.#transport;
    if (request.size <= maxRequest) return;
    const why = `the request has ${request.size} bytes, XenStore takes ${maxRequest} here`;
    throw request.value.length === 0
      ? pvbusError("ERR_KEY_TOO_LONG", `${why}; shorten the path`)
      : pvbusError("ERR_VALUE_TOO_LONG", `${why}, path included; shorten the value`);
  }

  #send(request: PendingRequest): void {
    this.#slots.take(request);
    this.#outbox.add(request);
    this.#watchStuck();
  }

  /** A driver that takes one message at a time refused it: nothing else comes for it. */
  #refusedByWrite(error: Error): void {
    const request = this.#slots.only;
    if (this.#down !== undefined || request === undefined) return;
    const { cause } = error;
    if (isSystemError(cause) && cause.code !== undefined && isAnswerOfDaemon(cause.code)) {
      this.#finish(request);
      request.refuse(cause.code);
    } else this.#lost("closed the connection", error);
  }

  #push(chunk: Buffer): void {
    if (this.#down !== undefined) return;
    try {
      this.#decoder.push(chunk);
    } catch (error) {
      this.#violated((error as Error).message, error);
    }
  }

  #receive(type: number, id: number, bytes: Buffer, start: number, end: number): void {
    if (this.#down !== undefined) return;
    if (type === XS.WATCH_EVENT) {
      this.#settings.onWatchEvent?.(bytes, start, end);
      return;
    }
    const request = this.#slots.find(id) ?? this.#withoutId(id);
    if (request === undefined) this.#violated(`the daemon answered (${typeName(type)}) what nobody asked`);
    else if (type !== request.operation.type && type !== XS.ERROR)
      this.#violated(`the daemon answered ${typeName(type)} to ${typeName(request.operation.type)}`);
    else {
      this.#finish(request);
      if (type === XS.ERROR) request.refuse(refusalName(bytes, start, end));
      else request.reply(bytes, start, end);
    }
  }

  /** Linux before 4.5 answers WATCH and UNWATCH with the id 0. */
  #withoutId(id: number): PendingRequest | undefined {
    if (id !== 0) return undefined;
    const request = this.#slots.only;
    const type = request?.operation.type;
    return type === XS.WATCH || type === XS.UNWATCH ? request : undefined;
  }

  /** Frees a request's slot and gives it to who waits longest. */
  #finish(request: PendingRequest): void {
    this.#deadlines.remove(request);
    this.#slots.free(request);
    clearTimeout(this.#stuckTimer);
    this.#stuckTimer = undefined;
    if (request.live) this.release();
    let next = this.#queue.shift();
    // Nothing is changed for a call that is over, also when it has not been told yet.
    for (; next !== undefined && !next.binding && next.isOver; next = this.#queue.shift())
      this.#endSoon(next);
    if (next !== undefined) this.#send(next);
  }

  /** Ends a request in its turn: thousands may be over at the same time. */
  #endSoon(request: PendingRequest): void {
    if (request.isEnding) return;
    request.isEnding = true;
    if (this.#ending.push(request) === 1) void this.#endAll();
  }

  async #endAll(): Promise<void> {
    for (let at = 0; at < this.#ending.length; at++) {
      const turn = fairTurn();
      if (turn !== undefined) await turn;
      this.#end(this.#ending[at] as PendingRequest);
    }
    this.#ending.length = 0;
  }

  /** Ends a request whose call or connection is over; under way on a connection it keeps its slot. */
  #end(request: PendingRequest): void {
    const { live } = request;
    if (live) {
      this.#deadlines.remove(request);
      // Its own end came first, though others had their turn before it.
      if (this.#down === undefined || request.isOver) request.expire();
      else request.fail(this.#down);
      this.#slots.abandon(request);
      this.release();
    }
    if (this.#down === undefined && (request.id >= 0 || request.binding)) {
      this.#watchStuck();
      if (live && request.done !== undefined)
        setTimeout(() => request.finish(undefined), TO_THE_END_MS).unref();
      return;
    }
    this.#queue.remove(request);
    request.finish(undefined);
  }

  /** A peer that answers nothing of what it was asked takes nothing else: then a new connection must do. */
  #watchStuck(): void {
    const { overdueMs } = this.#transport;
    if (this.#stuckTimer !== undefined || overdueMs === Number.POSITIVE_INFINITY) return;
    if (!this.#slots.isStuck) return;
    const silent = `has not answered for ${overdueMs / 1000} s, so the connection was dropped`;
    this.#stuckTimer = setTimeout(() => this.#lost(silent), overdueMs).unref();
  }

  #violated(what: string, cause?: unknown): void {
    const message = `${this.#transport.name}: ${what}; the connection was dropped`;
    this.#fail(pvbusError("ERR_PROTOCOL", message, { cause }));
  }

  #lost(why: string, cause?: Error): void {
    const message =
      `${this.#transport.name}: the XenStore daemon ${why}; whether a change that was under way was made is ` +
      "not known";
    this.#fail(pvbusError("ERR_DISCONNECTED", message, { cause }));
  }

  #fail(error: Error): void {
    if (this.#down !== undefined) return;
    this.#reject(error);
    void this.#stream?.close();
    this.#settings.onDown?.(error);
  }

  #reject(error: Error): void {
    if (this.#down !== undefined) return;
    this.#down = error;
    clearTimeout(this.#stuckTimer);
    this.#deadlines.clear();
    for (const request of [...this.#slots.clear(), ...this.#queue.clear()]) this.#endSoon(request);
  }
}

/** Returns the call of a request that is followed to its end whoever waits for it, but not for ever. */
export function toTheEnd(): Call {
  return new Call({ timeoutMs: TO_THE_END_MS });
}
