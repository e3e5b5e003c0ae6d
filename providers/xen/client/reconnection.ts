import { Call } from "../../../src/base/flow/call.js";
import type { StreamPurpose, Transport } from "../transport/transport.js";
import { Connection, type ConnectionEvents, closedError } from "./connection.js";

/** Longest time that a connection may take to be made, whoever waits for it. */
const CONNECT_MS = 10_000;

/** A connection to the daemon that is made on first use, and again when it broke. */
export class ReconnectingConnection {
  readonly #transport: Transport;
  readonly #purpose: StreamPurpose;
  readonly #events: ConnectionEvents;
  #connection: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  /** Who waits for the connection. */
  #waiting = 0;
  #closed = false;

  /** @param events of every connection that is made */
  constructor(transport: Transport, purpose: StreamPurpose, events: ConnectionEvents = {}) {
    this.#transport = transport;
    this.#purpose = purpose;
    this.#events = events;
  }

  /** The connection in use; undefined while there is none. */
  get current(): Connection | undefined {
    return this.#connection?.isOpen === true ? this.#connection : undefined;
  }

  /** Requests under way or waiting. */
  get load(): number {
    return (this.current?.load ?? 0) + this.#waiting;
  }

  /** Returns the connection, made when there is none. @throws as {@link Transport.connect} */
  connect(call: Call): Promise<Connection> {
    const { current } = this;
    if (current !== undefined) return Promise.resolve(current);
    if (this.#closed) return Promise.reject(closedError());
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    this.#waiting++;
    return call.within(this.#connecting, `the connection to ${this.#transport.name}`).finally(() => {
      this.#waiting--;
    });
  }

  /** Closes the connection, for good. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#connection?.close();
  }

  async #connect(): Promise<Connection> {
    const connection = await Connection.open(
      this.#transport,
      this.#events,
      this.#purpose,
      new Call({ timeoutMs: CONNECT_MS }),
    );
    if (this.#closed) {
      await connection.close();
      throw closedError();
    }
    this.#connection = connection;
    return connection;
  }
}
