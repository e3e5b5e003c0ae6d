import { pvbusError } from "../../../src/base/errors.js";
import type { Clock, Logger } from "../../../src/base/host/host.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { GuestTurns, HostTurns } from "../../../src/mdata/server/turns.js";
import { openControl } from "./control-server.js";
import { GuestService } from "./guest-service.js";
import { completeLimits, DEFAULT_NAMESPACES, type GuestLimits, type Namespaces } from "./limits.js";
import { Presences } from "./presence.js";
import type { Endpoint, SocketOwner } from "./settings/endpoint.js";
import { lossText, StateDirectory } from "./state-directory.js";

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
  /** The guests to begin with; further ones come by {@link MetadataHost.add}. */
  readonly guests?: readonly ServedGuest[] | undefined;
  /** What a guest may store; default {@link DEFAULT_LIMITS}. */
  readonly limits?: Partial<GuestLimits> | undefined;
  /** What a guest may change; default {@link DEFAULT_NAMESPACES}. */
  readonly namespaces?: Namespaces | undefined;
  /** Hears what happens; values never, keys never. */
  readonly logger?: Logger | undefined;
  /** Time; default: this machine's. */
  readonly clock?: Clock | undefined;
}

/**
 * Serves the keys of guests over their metadata channels. Guests are apart: each has its own log, quota, connections and watches,
 * and one that misbehaves or whose log is damaged costs the others nothing.
 */
export class MetadataHost {
  readonly #state: StateDirectory;
  readonly #options: MetadataHostOptions;
  readonly #guests = new Map<string, Promise<GuestService>>();
  readonly #open = new Set<GuestService>();
  readonly #turns: HostTurns;
  readonly #presences: Presences;
  readonly #closeControl: () => Promise<void>;
  #closed: Promise<void> | undefined;

  private constructor(
    state: StateDirectory,
    { turns, presences }: { readonly turns: HostTurns; readonly presences: Presences },
    closeControl: () => Promise<void>,
    options: MetadataHostOptions,
  ) {
    this.#state = state;
    this.#turns = turns;
    this.#presences = presences;
    this.#closeControl = closeControl;
    this.#options = options;
  }

  /**
   * Starts serving; resolves when every endpoint is open. Fails as a whole; where one guest's failure shall not concern the
   * others, start without guests and add them.
   * @throws PvbusError `ERR_BUSY` when another process works in the directory; those of {@link MetadataHost.add}
   */
  static async start(options: MetadataHostOptions): Promise<MetadataHost> {
    completeLimits(options.limits);
    const { directory, guests = [], logger = SILENT } = options;
    // Says what was found in the logs of guests.
    const state = await StateDirectory.tryOpen(directory, (guest, { damage, unfinishedBytes: bytes }) => {
      if (damage !== undefined)
        logger.error("log damaged", { guest, lost: lossText(damage.lost), kept: damage.kept });
      if (bytes > 0) logger.info("unfinished write cut off", { guest, bytes });
    });
    if (state === undefined) {
      throw pvbusError(
        "ERR_BUSY",
        `another process works in the state directory ${directory}; a host runs there already, or wait and try again`,
      );
    }
    const turns = new HostTurns();
    const presences = new Presences();
    let host: MetadataHost | undefined;
    try {
      const closeControl = await openControl(state, presences, new GuestTurns(turns), logger);
      host = new MetadataHost(state, { turns, presences }, closeControl, options);
      for (const guest of guests) await host.add(guest);
      return host;
    } catch (error) {
      await (host ?? state).close();
      throw error;
    }
  }

  /** Returns the names of the guests that are served. */
  get guests(): string[] {
    return [...this.#guests.keys()];
  }

  /** Returns how many connections there are. */
  get connections(): number {
    return [...this.#open].reduce((sum, { connections }) => sum + connections, 0);
  }

  /**
   * Serves one more guest; resolves when its endpoints are open.
   * @throws PvbusError `ERR_CORRUPT` for a log that cannot be read at all; `ERR_BUSY` when another program serves at its socket;
   *   `ERR_PERMISSION`, `ERR_UNAVAILABLE`, `ERR_DISCONNECTED` when the host is closed
   * @throws TypeError, RangeError for settings that make no sense, and for a guest that is served already
   */
  async add(guest: ServedGuest): Promise<void> {
    const { name } = guest;
    if (this.#closed !== undefined) throw pvbusError("ERR_DISCONNECTED", "the host is closed; start one");
    if (this.#guests.has(name))
      throw new TypeError(`the guest '${name}' is served already; give all its endpoints at once`);
    const opening = this.#openService(guest);
    this.#guests.set(name, opening);
    try {
      this.#open.add(await opening);
    } catch (error) {
      this.#guests.delete(name);
      throw error;
    }
  }

  /** Serves a guest no longer: its connections end, its keys stay. Resolves with whether it was served. */
  async remove(name: string): Promise<boolean> {
    const service = await this.#guests.get(name);
    if (service === undefined) return false;
    await service.close();
    this.#open.delete(service);
    return this.#guests.delete(name);
  }

  /** Ends every connection, waits for the writes under way and gives the directory back. May be called twice. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      const services = await Promise.allSettled(this.#guests.values());
      const endings = services.map((each) => (each.status === "fulfilled" ? each.value.close() : undefined));
      await Promise.all([this.#closeControl(), ...endings]);
      this.#guests.clear();
      await this.#state.close();
    })();
    return this.#closed;
  }

  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #openService({ name, endpoints, socketOwner, ...own }: ServedGuest): Promise<GuestService> {
    const { limits, namespaces, logger = SILENT, clock = Date } = this.#options;
    const complete = completeLimits({ ...limits, ...own.limits });
    const state = await this.#state.guest(name, { create: true });
    const turns = new GuestTurns(this.#turns);
    state.limits = complete;
    state.namespaces = own.namespaces ?? namespaces ?? DEFAULT_NAMESPACES;
    state.turn = () => turns.next();
    const onConnections = (by: 1 | -1): void => this.#presences.change(name, by);
    return GuestService.open({ name, state, turns, endpoints, socketOwner, logger, clock, onConnections });
  }
}
