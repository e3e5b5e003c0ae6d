import type { Socket } from "node:net";
import { PvbusError, pvbusError } from "../../../src/bus/errors.js";
import type { Clock, Logger } from "../../../src/host/host.js";
import { openControl } from "./control-server.js";
import { type Endpoint, type OpenEndpoint, openEndpoint, type SocketOwner } from "./endpoints.js";
import { GuestLog } from "./guest-log.js";
import { GuestSession } from "./guest-session.js";
import type { GuestState } from "./guest-state.js";
import { completeLimits, type GuestLimits } from "./limits.js";
import { DEFAULT_NAMESPACES, type Namespaces } from "./namespaces.js";
import { checkGuestName, StateDirectory } from "./state-directory.js";

/** One guest to serve. */
export interface ServedGuest {
  /** Its name: up to 64 letters, digits, dots, dashes and underscores. */
  readonly name: string;
  /** Where it is met. */
  readonly endpoints: readonly Endpoint[];
  /** Whose its listening sockets become, for hypervisors that run as another user; default: this process's. */
  readonly socketOwner?: SocketOwner | undefined;
  /** What it may store, as far as it differs from the host's. */
  readonly limits?: Partial<GuestLimits> | undefined;
  /** What it may change, as far as it differs from the host's. */
  readonly namespaces?: Namespaces | undefined;
}

/** Settings of a metadata host. */
export interface MetadataHostOptions {
  /** Directory of the keys; made where there is none. */
  readonly directory: string;
  /** The guests. */
  readonly guests: readonly ServedGuest[];
  /** What a guest may store; default {@link DEFAULT_LIMITS}. */
  readonly limits?: Partial<GuestLimits> | undefined;
  /** What a guest may change; default {@link DEFAULT_NAMESPACES}. */
  readonly namespaces?: Namespaces | undefined;
  /** Hears what happens; values never, keys never. */
  readonly logger?: Logger | undefined;
  /** Time; default: this machine's. */
  readonly clock?: Clock | undefined;
}

const SILENT: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

function nothing(): undefined {
  return undefined;
}

/**
 * Serves the keys of guests over their metadata channels. Guests are apart: each has its own log, quota, connections and watches,
 * and one that misbehaves or whose log is damaged costs the others nothing.
 */
export class MetadataHost {
  readonly #state: StateDirectory;
  readonly #logger: Logger;
  readonly #endpoints: OpenEndpoint[] = [];
  readonly #sessions = new Set<GuestSession>();
  #closed: Promise<void> | undefined;

  private constructor(state: StateDirectory, logger: Logger) {
    this.#state = state;
    this.#logger = logger;
  }

  /**
   * Starts serving; resolves when every endpoint is open.
   * @throws PvbusError `ERR_BUSY` when another process works in the directory or serves at a socket; `ERR_PERMISSION`, …
   * @throws TypeError, RangeError for settings that make no sense
   */
  static async start(options: MetadataHostOptions): Promise<MetadataHost> {
    const { guests, logger = SILENT } = options;
    checkNames(guests);
    const settings = guests.map((guest) => completeLimits({ ...options.limits, ...guest.limits }));
    const state = await StateDirectory.tryOpen(options.directory);
    if (state === undefined) {
      throw pvbusError(
        "ERR_BUSY",
        `another process works in the state directory ${options.directory}; a host runs there already, or wait and try again`,
      );
    }
    const host = new MetadataHost(state, logger);
    try {
      host.#endpoints.push(await openControl(state, logger));
      for (const [index, guest] of guests.entries())
        await host.#serve(guest, settings[index] as GuestLimits, options);
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  /** Gives how many connections there are. */
  get connections(): number {
    return this.#sessions.size;
  }

  /** Ends every connection, waits for the writes under way and gives the directory back. May be called twice. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      const endings = this.#endpoints.map((endpoint) => endpoint.close());
      for (const session of this.#sessions) session.close();
      await Promise.all(endings);
      await this.#state.close();
    })();
    return this.#closed;
  }

  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #serve(guest: ServedGuest, limits: GuestLimits, options: MetadataHostOptions): Promise<void> {
    const log = new GuestLog(this.#logger, options.clock ?? Date, guest.name);
    let state: GuestState;
    try {
      state = await this.#state.guest(guest.name, { limits, create: true });
    } catch (error) {
      if (!PvbusError.is(error) || error.code !== "ERR_CORRUPT") throw error;
      log.error("guest not served", { code: error.code, reason: error.message });
      return;
    }
    const namespaces = guest.namespaces ?? options.namespaces ?? DEFAULT_NAMESPACES;
    let open = 0;
    for (const endpoint of guest.endpoints) {
      const opened = await openEndpoint(endpoint, {
        owner: guest.socketOwner,
        onWaiting: (reason) =>
          log.info("waiting for the hypervisor's socket", { path: endpoint.path, reason }),
        onConnection: async (socket) => {
          if (open >= limits.maxConnections) {
            log.warn("connection refused: the guest has too many", { limit: limits.maxConnections });
            socket.destroy();
            return;
          }
          open++;
          log.info("guest connected", { path: endpoint.path });
          await this.#converse(socket, state, namespaces, log);
          open--;
          log.info("guest disconnected", { path: endpoint.path });
        },
      });
      this.#endpoints.push(opened);
    }
  }

  async #converse(socket: Socket, state: GuestState, namespaces: Namespaces, log: GuestLog): Promise<void> {
    const session = new GuestSession(
      socket,
      { state, namespaces },
      {
        onBroken: () => log.warn("broken frame dropped"),
        onOversize: (bytes) => log.warn("request too long", { bytes }),
        onOverrun: () => log.warn("connection dropped: the guest does not take its events"),
        onFault: (error) => log.error("request failed", { reason: (error as Error).message }),
      },
    );
    this.#sessions.add(session);
    if (this.#closed !== undefined) session.close();
    await session.ended;
    this.#sessions.delete(session);
  }
}

function checkNames(guests: readonly ServedGuest[]): void {
  const seen = new Set<string>();
  for (const { name } of guests) {
    checkGuestName(name);
    if (seen.has(name))
      throw new TypeError(`the guest '${name}' is named twice; give all its endpoints at once`);
    seen.add(name);
  }
}
