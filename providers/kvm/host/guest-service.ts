import type { Socket } from "node:net";
import type { Clock, Logger } from "../../../src/base/host/host.js";
import { type ConnectionReports, ServedConnection } from "../../../src/mdata/server/connection.js";
import type { GuestTurns } from "../../../src/mdata/server/turns.js";
import { openEndpoint } from "./endpoints.js";
import type { GuestState } from "./guest-state.js";
import type { Endpoint, SocketOwner } from "./settings/endpoint.js";

/** A guest can make the host say something as often as it likes: of each kind one line in that time is written. */
const QUIET_MS = 10_000;

type Fields = Readonly<Record<string, unknown>>;

/** Writes what one guest causes, with its name; floods of a kind become one line with a count. */
function guestLog(logger: Logger, clock: Clock, guest: string) {
  const kinds = new Map<string, { until: number; suppressed: number }>();
  return (level: "info" | "warn" | "error", event: string, fields: Fields = {}): void => {
    const now = clock.now();
    const kind = kinds.get(event);
    if (kind !== undefined && now < kind.until) {
      kind.suppressed++;
      return;
    }
    const suppressed = kind === undefined || kind.suppressed === 0 ? {} : { suppressed: kind.suppressed };
    kinds.set(event, { until: now + QUIET_MS, suppressed: 0 });
    logger[level](event, { guest, ...fields, ...suppressed });
  };
}

export interface GuestServiceParts {
  readonly name: string;
  readonly state: GuestState;
  /** Its share of the host's time. */
  readonly turns: GuestTurns;
  readonly endpoints: readonly Endpoint[];
  readonly socketOwner: SocketOwner | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Hears of each connection that there is more, or less. */
  readonly onConnections: (by: 1 | -1) => void;
}

export class GuestService {
  readonly #parts: GuestServiceParts;
  readonly #log: ReturnType<typeof guestLog>;
  readonly #reports: ConnectionReports;
  readonly #closers: (() => Promise<void>)[] = [];
  readonly #connections = new Set<ServedConnection>();
  #isClosed = false;

  private constructor(parts: GuestServiceParts) {
    const log = guestLog(parts.logger, parts.clock, parts.name);
    this.#parts = parts;
    this.#log = log;
    this.#reports = {
      onBroken: () => log("warn", "broken frame dropped"),
      onOversize: (bytes) => log("warn", "request too long", { bytes }),
      onOverrun: () => log("warn", "connection dropped: the guest does not take its events"),
      onFault: (error) => log("error", "request failed", { reason: (error as Error).message }),
    };
    parts.state.onFault = this.#reports.onFault;
  }

  /** Opens every endpoint. @throws PvbusError `ERR_BUSY`, `ERR_PERMISSION`, `ERR_UNAVAILABLE`; none stays open then */
  static async open(parts: GuestServiceParts): Promise<GuestService> {
    const service = new GuestService(parts);
    try {
      for (const endpoint of parts.endpoints) service.#closers.push(await service.#open(endpoint));
      return service;
    } catch (error) {
      await service.close();
      throw error;
    }
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Ends its connections and endpoints; its keys stay. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const endings = this.#closers.map((close) => close());
    for (const connection of this.#connections) connection.close();
    await Promise.all(endings);
  }

  #open(endpoint: Endpoint): Promise<() => Promise<void>> {
    const { path } = endpoint;
    return openEndpoint(endpoint, {
      owner: this.#parts.socketOwner,
      onWaiting: (reason) => this.#log("info", "waiting for the hypervisor's socket", { path, reason }),
      onConnection: (socket) => this.#converse(socket, path),
    });
  }

  async #converse(socket: Socket, path: string): Promise<void> {
    const { state, turns, onConnections } = this.#parts;
    const { maxConnections: limit } = state.limits;
    if (this.#isClosed || this.#connections.size >= limit) {
      if (!this.#isClosed) this.#log("warn", "connection refused: the guest has too many", { limit });
      socket.destroy();
      return;
    }
    const connection = new ServedConnection(socket, { keys: state, turns }, this.#reports);
    this.#connections.add(connection);
    this.#log("info", "guest connected", { path });
    onConnections(1);
    await connection.ended;
    this.#connections.delete(connection);
    onConnections(-1);
    this.#log("info", "guest disconnected", { path });
  }
}
