import { Call } from "../../../src/base/flow/call.js";
import type { Closing } from "../../../src/base/flow/closing.js";
import type { Transport } from "../transport/transport.js";
import { Connection, type ConnectionSettings } from "./connection.js";

interface ReconnectionSettings extends ConnectionSettings {
  readonly closing: Closing;
}

interface Attempt {
  readonly made: Promise<Connection>;
  readonly controller: AbortController;
}

/** A connection to the daemon that is made on first use, and again when it broke. */
export class ReconnectingConnection {
  readonly #transport: Transport;
  readonly #settings: ReconnectionSettings;
  #connection: Connection | undefined;
  #attempt: Attempt | undefined;
  /** Who waits for the connection; without anybody an attempt ends. */
  #waiting = 0;

  constructor(transport: Transport, settings: ReconnectionSettings) {
    this.#transport = transport;
    this.#settings = settings;
  }

  /** The connection in use; undefined while there is none. */
  get current(): Connection | undefined {
    return this.#connection?.isOpen === true ? this.#connection : undefined;
  }

  get load(): number {
    return (this.current?.load ?? 0) + this.#waiting;
  }

  /** Returns the connection, made when there is none. @throws as {@link Transport.connect} */
  async connect(call: Call): Promise<Connection> {
    const { current } = this;
    if (current !== undefined) return current;
    this.#settings.closing.check();
    this.#attempt ??= this.#begin();
    this.#waiting++;
    try {
      return await call.within(this.#attempt.made, `the connection to ${this.#transport.name}`);
    } finally {
      if (--this.#waiting === 0) this.#giveUp();
    }
  }

  /** Closes the connection, once its client is closing. */
  async close(): Promise<void> {
    this.#giveUp();
    await this.#connection?.close(this.#settings.closing.error());
  }

  #begin(): Attempt {
    const { closing } = this.#settings;
    const controller = new AbortController();
    const call = Call.endless(controller.signal);
    const connecting = async (): Promise<Connection> => {
      try {
        const connection = await Connection.open(this.#transport, this.#settings, call);
        if (call.isOver) {
          await connection.close(closing.error());
          call.check();
        }
        this.#connection = connection;
        return connection;
      } catch (error) {
        closing.check();
        throw error;
      } finally {
        if (this.#attempt === attempt) this.#attempt = undefined;
      }
    };
    const attempt = { made: connecting(), controller };
    return attempt;
  }

  #giveUp(): void {
    this.#attempt?.controller.abort();
    this.#attempt = undefined;
  }
}
