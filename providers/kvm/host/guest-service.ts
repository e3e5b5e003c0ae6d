import type { Socket } from "node:net";
import { type ConnectionReports, ServedConnection } from "../../../src/mdata/server/connection.js";
import type { GuestTurns } from "../../../src/mdata/server/turns.js";
import { type OpenEndpoint, openEndpoint } from "./endpoints.js";
import type { GuestLog } from "./guest-log.js";
import type { GuestState } from "./guest-state.js";
import type { Endpoint, SocketOwner } from "./settings/endpoint.js";

/** What one guest's service works with. */
export interface GuestServiceParts {
  /** Its keys. */
  readonly state: GuestState;
  /** Its share of the host's time. */
  readonly turns: GuestTurns;
  /** Where it is met. */
  readonly endpoints: readonly Endpoint[];
  /** Whose its listening sockets become. */
  readonly socketOwner: SocketOwner | undefined;
  /** Hears what it does. */
  readonly log: GuestLog;
  /** Hears of each connection that there is more, or less. */
  readonly onConnections?: ((by: 1 | -1) => void) | undefined;
}

/** Serves one guest at its endpoints. */
export class GuestService {
  readonly #parts: GuestServiceParts;
  readonly #reports: ConnectionReports;
  readonly #opened: OpenEndpoint[] = [];
  readonly #connections = new Set<ServedConnection>();
  #isClosed = false;

  private constructor(parts: GuestServiceParts) {
    const { log } = parts;
    this.#parts = parts;
    this.#reports = {
      onBroken: () => log.warn("broken frame dropped"),
      onOversize: (bytes) => log.warn("request too long", { bytes }),
      onOverrun: () => log.warn("connection dropped: the guest does not take its events"),
      onFault: (error) => log.error("request failed", { reason: (error as Error).message }),
    };
    parts.state.onFault = this.#reports.onFault;
  }

  /** Opens every endpoint. @throws PvbusError `ERR_BUSY`, `ERR_PERMISSION`, `ERR_UNAVAILABLE`; none stays open then */
  static async open(parts: GuestServiceParts): Promise<GuestService> {
    const service = new GuestService(parts);
    try {
      for (const endpoint of parts.endpoints) service.#opened.push(await service.#open(endpoint));
      return service;
    } catch (error) {
      await service.close();
      throw error;
    }
  }

  /** Returns how many connections there are. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Ends its connections and endpoints; its keys stay. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const endings = this.#opened.map((endpoint) => endpoint.close());
    for (const connection of this.#connections) connection.close();
    await Promise.all(endings);
  }

  #open(endpoint: Endpoint): Promise<OpenEndpoint> {
    const { log, socketOwner } = this.#parts;
    const { path } = endpoint;
    return openEndpoint(endpoint, {
      owner: socketOwner,
      onWaiting: (reason) => log.info("waiting for the hypervisor's socket", { path, reason }),
      onConnection: (socket) => this.#converse(socket, path),
    });
  }

  async #converse(socket: Socket, path: string): Promise<void> {
    const { state, turns, log, onConnections } = this.#parts;
    const { maxConnections } = state.limits;
    if (this.#isClosed || this.#connections.size >= maxConnections) {
      if (!this.#isClosed) log.warn("connection refused: the guest has too many", { limit: maxConnections });
      socket.destroy();
      return;
    }
    const connection = new ServedConnection(socket, { keys: state, turns }, this.#reports);
    this.#connections.add(connection);
    log.info("guest connected", { path });
    onConnections?.(1);
    await connection.ended;
    this.#connections.delete(connection);
    onConnections?.(-1);
    log.info("guest disconnected", { path });
  }
}
