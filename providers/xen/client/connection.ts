import { pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { mayGoOn, waitTurn } from "../../../src/base/flow/turn.js";
import { WaitingLine } from "../../../src/base/flow/waiting-line.js";
import { isSystemError } from "../../../src/base/system-error.js";
import { MessageDecoder } from "../protocol/decoder.js";
import { HEADER_BYTES, typeName, XS } from "../protocol/wire.js";
import type { Link, LinkEvents, LinkPurpose, Transport } from "../transport/transport.js";
import { Deadlines } from "./deadlines.js";
import { Outbox } from "./outbox.js";
import type { Request } from "./pending.js";

/** Requests ids are a serial number and, in these bits, the slot that the request waits in. */
const SLOT_BITS = 8;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
const SERIALS = 2 ** (32 - SLOT_BITS);
/** What one write takes together at most. */
const OUTBOX_BYTES = 64 * 1024;
/** Longest name of an error. */
const MAX_ERROR_NAME = 64;
/** How long a request is followed that nobody may wait for any more. */
const TO_THE_END_MS = 30_000;

/** What a connection tells its owner. */
export interface ConnectionEvents {
  /** A watch fired; the payload is `bytes` from `start` to `end`, valid during the call only. */
  readonly onWatchEvent: (bytes: Buffer, start: number, end: number) => void;
  /** It is down; all that was under way has been rejected. */
  readonly onDown: (error: Error) => void;
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
  readonly #events: ConnectionEvents;
  readonly #decoder: MessageDecoder;
  readonly #outbox: Outbox;
  readonly #slots: (Request | undefined)[];
  readonly #free: number[];
  readonly #queue = new WaitingLine<Request>();
  #serial = 0;
  #link: Link | undefined;
  #down: Error | undefined;

  /** Requests that are over and wait for their turn to be told. */
  readonly #ending: Request[] = [];
  #ended = 0;
  #isEnding = false;
  readonly #over = (request: Request): void => this.#endSoon(request);
  readonly #endSome = (): void => this.#endNext();
  readonly #deadlines = new Deadlines<Request>(this.#over);

  /** Requests and others that keep the process alive. */
  #holds = 0;
  #stuckTimer: NodeJS.Timeout | undefined;

  private constructor(transport: Transport, events: ConnectionEvents) {
    this.#transport = transport;
    this.#events = events;
    this.#slots = new Array(transport.window).fill(undefined);
    this.#free = Array.from({ length: transport.window }, (_, at) => transport.window - 1 - at);
    const oneMessage = HEADER_BYTES + transport.maxRequest;
    this.#outbox = new Outbox(transport.window === 1 ? oneMessage : OUTBOX_BYTES, {
      link: () => (this.#down === undefined ? this.#link : undefined),
      onRefused: (error) => this.#refusedByWrite(error),
    });
    this.#decoder = new MessageDecoder(transport.maxReply, (type, id, _transaction, bytes, start, end) =>
      this.#receive(type, id, bytes, start, end),
    );
  }

  /** Connects. @throws as {@link Transport.connect} */
  static async open(
    transport: Transport,
    events: ConnectionEvents,
    purpose: LinkPurpose,
    call: Call,
  ): Promise<Connection> {
    const connection = new Connection(transport, events);
    const linkEvents: LinkEvents = {
      onData: (chunk) => connection.#push(chunk),
      onDown: (error) => connection.#fail(connection.#lost(error)),
    };
    connection.#link = await transport.connect(linkEvents, call, purpose);
    return connection;
  }

  /** Whether it can be used. */
  get isOpen(): boolean {
    return this.#down === undefined;
  }

  /** Requests that wait for a reply or for their turn. */
  get load(): number {
    return this.#slots.length - this.#free.length + this.#queue.length;
  }

  /** Sends a request and resolves with its reply. @throws PvbusError, see {@link refusalError} */
  run<T>(request: Request<T>, call: Call): Promise<T> {
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
    if (this.#free.length > 0) this.#place(request);
    else this.#queue.push(request);
    return promise;
  }

  /** Keeps the process alive until {@link Connection.release}. */
  hold(): void {
    if (this.#holds++ === 0) this.#link?.ref();
  }

  /** Takes a {@link Connection.hold} back. */
  release(): void {
    if (--this.#holds === 0) this.#link?.unref();
  }

  /** Ends it; what is under way is rejected with `ERR_DISCONNECTED`. */
  close(): Promise<void> {
    this.#reject(pvbusError("ERR_DISCONNECTED", "the XenStore client was closed; open it again"));
    return this.#link?.close() ?? Promise.resolve();
  }

  #checkSize(request: Request): void {
    const { maxRequest } = this.#transport;
    if (request.size <= maxRequest) return;
    const why = `the request has ${request.size} bytes, XenStore takes ${maxRequest} here`;
    throw request.value.length === 0
      ? pvbusError("ERR_KEY_TOO_LONG", `${why}; shorten the path`)
      : pvbusError("ERR_VALUE_TOO_LONG", `${why}, path included; shorten the value`);
  }

  /** Puts a request into a slot and its message into the outbox. */
  #place(request: Request): void {
    const slot = this.#free.pop() as number;
    this.#serial = (this.#serial + 1) % SERIALS;
    // The serial number keeps a late reply apart from the slot's next request.
    request.id = this.#serial * (SLOT_MASK + 1) + slot;
    this.#slots[slot] = request;
    this.#outbox.add(request);
    if (this.#free.length === 0) this.#watchStuck();
  }

  /** A driver that takes one message at a time refused it: nothing else comes for it. */
  #refusedByWrite(error: unknown): void {
    const request = this.#slots[0];
    const errno = (error as { cause?: { code?: unknown } }).cause?.code;
    if (this.#down !== undefined || request === undefined) return;
    if (isSystemError((error as Error).cause) && typeof errno === "string" && FROM_DAEMON.test(errno)) {
      const { live } = request;
      request.refuse(errno);
      this.#finish(0, live);
    } else this.#fail(this.#lost(error as Error));
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
      this.#events.onWatchEvent(bytes, start, end);
      return;
    }
    const slot = id & SLOT_MASK;
    const request = this.#slots[slot] ?? this.#withoutId(id);
    if (request === undefined || (request.id !== id && request !== this.#withoutId(id))) {
      this.#violated(`the daemon answered (${typeName(type)}) what nobody asked`);
      return;
    }
    if (type !== request.operation.type && type !== XS.ERROR) {
      this.#violated(`the daemon answered ${typeName(type)} to ${typeName(request.operation.type)}`);
      return;
    }
    const { live } = request;
    if (type === XS.ERROR) request.refuse(errorName(bytes, start, end));
    else request.reply(bytes, start, end);
    this.#finish(request.id & SLOT_MASK, live);
  }

  /** Linux before 4.5 answers WATCH and UNWATCH with the id 0. */
  #withoutId(id: number): Request | undefined {
    if (id !== 0 || this.#transport.window !== 1) return undefined;
    const request = this.#slots[0];
    const type = request?.operation.type;
    return type === XS.WATCH || type === XS.UNWATCH ? request : undefined;
  }

  /** Frees a slot and gives it to who waits longest. */
  #finish(slot: number, held: boolean): void {
    this.#slots[slot] = undefined;
    this.#free.push(slot);
    clearTimeout(this.#stuckTimer);
    this.#stuckTimer = undefined;
    if (held) this.release();
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      // Nothing is changed for a call that is over, also when it has not been told yet.
      if (!next.binding && next.isOver) {
        this.#endSoon(next);
        continue;
      }
      this.#place(next);
      return;
    }
  }

  /** Ends a request in its turn: thousands may be over at the same time. */
  #endSoon(request: Request): void {
    if (request.isEnding) return;
    request.isEnding = true;
    this.#ending.push(request);
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#endNext();
  }

  #endNext(): void {
    while (this.#ended < this.#ending.length) {
      if (!mayGoOn()) {
        waitTurn(this.#endSome);
        return;
      }
      this.#end(this.#ending[this.#ended++] as Request);
    }
    this.#ending.length = 0;
    this.#ended = 0;
    this.#isEnding = false;
  }

  /** Ends a request whose call or connection is over; under way on a connection it keeps its slot. */
  #end(request: Request): void {
    const { live } = request;
    if (live) {
      if (this.#down === undefined) request.expire();
      else request.fail(this.#down);
      this.release();
    }
    if (this.#down === undefined && (request.id >= 0 || request.binding)) {
      this.#watchStuck();
      if (live && request.isFollowed) setTimeout(() => request.finish(undefined), TO_THE_END_MS).unref();
      return;
    }
    this.#queue.remove(request);
    request.finish(undefined);
  }

  /** A peer that answers nothing of what it was asked takes nothing else: then a new connection must do. */
  #watchStuck(): void {
    const { overdueMs } = this.#transport;
    if (this.#stuckTimer !== undefined || this.#free.length > 0 || overdueMs === Number.POSITIVE_INFINITY)
      return;
    if (!this.#slots.some(isOwed) || !this.#slots.every((each) => isOwed(each) || isEndless(each))) return;
    this.#stuckTimer = setTimeout(() => this.#fail(this.#silent(overdueMs)), overdueMs).unref();
  }

  #violated(what: string, cause?: unknown): void {
    const message = `${this.#transport.name}: ${what}; the connection was dropped`;
    this.#fail(pvbusError("ERR_PROTOCOL", message, { cause }));
  }

  #lost(cause: Error | undefined): Error {
    return pvbusError(
      "ERR_DISCONNECTED",
      `${this.#transport.name}: the XenStore daemon closed the connection; whether a change that was under way was ` +
        "made is not known",
      { cause },
    );
  }

  #silent(ms: number): Error {
    return pvbusError(
      "ERR_DISCONNECTED",
      `${this.#transport.name}: the XenStore daemon has not answered for ${ms / 1000} s, so the connection was dropped; ` +
        "whether a change that was under way was made is not known",
    );
  }

  #fail(error: Error): void {
    if (this.#down !== undefined) return;
    this.#reject(error);
    void this.#link?.close();
    this.#events.onDown(error);
  }

  #reject(error: Error): void {
    if (this.#down !== undefined) return;
    this.#down = error;
    clearTimeout(this.#stuckTimer);
    this.#deadlines.clear();
    const waiting = [...this.#slots, ...this.#queue.clear()];
    this.#slots.fill(undefined);
    for (const request of waiting) if (request !== undefined) this.#endSoon(request);
  }
}

/** Nobody waits for it any more, and its reply has not come. */
function isOwed(request: Request | undefined): boolean {
  return request?.live === false;
}

/** Whoever waits for it would wait for ever. */
function isEndless(request: Request | undefined): boolean {
  return request?.deadline === Number.POSITIVE_INFINITY;
}

/** Errors of write(2) that are the daemon's own answer to WATCH (Linux drivers/xen/xenbus/xenbus_dev_frontend.c). */
const FROM_DAEMON =
  /^(?:EINVAL|EACCES|EEXIST|EISDIR|ENOENT|ENOMEM|ENOSPC|EIO|ENOTEMPTY|ENOSYS|EROFS|EBUSY|EAGAIN|EISCONN|E2BIG|EPERM|EILSEQ)$/;

/** Returns the call of a request that is followed to its end whoever waits for it, but not for ever. */
export function toTheEnd(): Call {
  return new Call({ timeoutMs: TO_THE_END_MS });
}

function errorName(bytes: Buffer, start: number, end: number): string {
  const nul = bytes.indexOf(0, start);
  const stop = nul < 0 || nul > end ? end : nul;
  return bytes.toString("latin1", start, Math.min(stop, start + MAX_ERROR_NAME));
}
