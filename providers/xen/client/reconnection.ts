import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { Call as RunningCall } from "../../../src/base/flow/call.js";
import type { LinkPurpose, Transport } from "../transport/transport.js";
import { Connection, type ConnectionEvents } from "./connection.js";

/** Longest time that a connection may take to be made, whoever waits for it. */
const CONNECT_MS = 10_000;

/** A way to the daemon that is connected on first use, and again when it broke. */
export class Line {
  readonly #transport: Transport;
  readonly #purpose: LinkPurpose;
  readonly #events: ConnectionEvents;
  #connection: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  /** Who waits for the connection. */
  #waiting = 0;
  #closed = false;

  /** @param events of every connection that is made */
  constructor(transport: Transport, purpose: LinkPurpose, events: ConnectionEvents) {
    this.#transport = transport;
    this.#purpose = purpose;
    this.#events = events;
  }

  /** The connection in use; undefined while there is none. */
  get connection(): Connection | undefined {
    return this.#connection?.isOpen === true ? this.#connection : undefined;
  }

  /** Requests under way or waiting. */
  get load(): number {
    return (this.connection?.load ?? 0) + this.#waiting;
  }

  /** Returns the connection, made when there is none. @throws as {@link Transport.connect} */
  connect(call: Call): Promise<Connection> {
    const { connection } = this;
    if (connection !== undefined) return Promise.resolve(connection);
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
      new RunningCall({ timeoutMs: CONNECT_MS }),
    );
    if (this.#closed) {
      await connection.close();
      throw closedError();
    }
    this.#connection = connection;
    return connection;
  }
}

/** Returns the error of a client that was closed. */
export function closedError(): Error {
  return pvbusError("ERR_DISCONNECTED", "the XenStore client was closed; open it again");
}
