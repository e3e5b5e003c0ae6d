import { PvbusError } from "../../../src/base/errors.js";
import type { Logger } from "../../../src/base/host/host.js";
import type { HostConfiguration, MetadataHost, ServedGuest } from "../host/index.js";

/** The guests of a host as a configuration has them, which may change. */
export class ServedGuests {
  readonly #host: MetadataHost;
  readonly #logger: Logger;
  /** The settings of each guest that is served. */
  readonly #settings = new Map<string, string>();
  #last: Promise<unknown[]> = Promise.resolve([]);

  constructor(host: MetadataHost, logger: Logger) {
    this.#host = host;
    this.#logger = logger;
  }

  /**
   * Makes the host serve these guests with these settings and no others; whose settings stay as they are notices nothing. One that
   * cannot be served is logged, and tried again the next time. Calls are done one after the other.
   * @returns what kept guests from being served
   */
  become(configuration: HostConfiguration): Promise<unknown[]> {
    const run = (): Promise<unknown[]> => this.#become(configuration);
    this.#last = this.#last.then(run, run);
    return this.#last;
  }

  async #become({ guests, limits, namespaces }: HostConfiguration): Promise<unknown[]> {
    const wanted = new Map(
      guests.map((guest): [string, ServedGuest] => [
        guest.name,
        { ...guest, limits: { ...limits, ...guest.limits }, namespaces: guest.namespaces ?? namespaces },
      ]),
    );
    for (const [name, settings] of this.#settings) {
      if (settings === JSON.stringify(wanted.get(name))) continue;
      await this.#host.remove(name);
      this.#settings.delete(name);
    }
    const failures: unknown[] = [];
    for (const [name, guest] of wanted)
      if (!this.#settings.has(name)) failures.push(...(await this.#add(guest)));
    return failures;
  }

  async #add(guest: ServedGuest): Promise<unknown[]> {
    try {
      await this.#host.add(guest);
      this.#settings.set(guest.name, JSON.stringify(guest));
      return [];
    } catch (error) {
      const code = PvbusError.is(error) ? error.code : null;
      const reason = (error as Error).message;
      this.#logger.error("guest not served", { guest: guest.name, code, reason });
      return [error];
    }
  }
}
