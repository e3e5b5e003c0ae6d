import { PvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import { Call } from "../../../src/base/flow/call.js";
import { SerialQueue } from "../../../src/base/flow/queues.js";
import type { Logger } from "../../../src/base/host/host.js";
import type { CommandIo } from "../../../src/contract/command.js";
import {
  checkGuestName,
  type HostConfiguration,
  MetadataHost,
  parseConfiguration,
  parseEndpoint,
  type ServedGuest,
} from "../host/index.js";
import { type HostOptions, readDocument, stateOf, usage } from "./documents.js";

/** SIGHUP has the configuration read again: guests come, go and change, the others notice nothing. */
export async function serveAction(
  io: CommandIo,
  _args: readonly string[],
  own: HostOptions,
): Promise<number> {
  const directory = stateOf(io, own);
  const configuration = await configurationOf(io, own);
  if (configuration.guests.length === 0 && own.config === undefined)
    throw io.usage("host serve: name a guest with --guest NAME=ENDPOINT, or a file with --config");
  const service = await io.service();
  const logger = service.logger({ name: "pvbus-host", json: true });
  // ps(1) shows it.
  service.title("pvbus-host");
  const host = await MetadataHost.start({ directory, logger });
  const guests = new ServedGuests(host, logger);
  const [failure] = await guests.become(configuration);
  if (failure !== undefined && host.guests.length === 0) {
    await host.close();
    throw failure;
  }
  const stopHearing = service.onHangup(() => {
    const next = configurationOf(io, own).then((read) => guests.become(read));
    next.then(
      () => logger.info("configuration read again", { guests: host.guests.length }),
      (error: Error) => logger.error("configuration not taken", { reason: error.message }),
    );
  });
  logger.info("serving", { state: directory, guests: host.guests.length, pid: process.pid });
  service.ready(`serving ${host.guests.length} guests`);
  try {
    await new Promise<void>((resolve) => void onAbort(io.signal, resolve));
  } finally {
    service.stopping();
    stopHearing();
    await host.close();
  }
  logger.info("stopped");
  return 0;
}

/** Returns the guests of the file and of the command line; one that both name has the endpoints of both. */
async function configurationOf(io: CommandIo, own: HostOptions): Promise<HostConfiguration> {
  const document = own.config === undefined ? {} : await readDocument(io, own.config);
  const configuration = usage(io, () => parseConfiguration(document));
  const guests = new Map(configuration.guests.map((guest) => [guest.name, guest]));
  for (const text of own.guest ?? []) {
    const at = text.indexOf("=");
    if (at < 1) throw io.usage(`--guest takes NAME=ENDPOINT here, not '${text}'`);
    const name = usage(io, () => checkGuestName(text.slice(0, at)));
    const known: ServedGuest = guests.get(name) ?? { name, endpoints: [] };
    const endpoint = usage(io, () => parseEndpoint(text.slice(at + 1)));
    guests.set(name, { ...known, endpoints: [...known.endpoints, endpoint] });
  }
  return { ...configuration, guests: [...guests.values()] };
}

class ServedGuests {
  readonly #host: MetadataHost;
  readonly #logger: Logger;
  readonly #settings = new Map<string, string>();
  readonly #turns = new SerialQueue();

  constructor(host: MetadataHost, logger: Logger) {
    this.#host = host;
    this.#logger = logger;
  }

  /**
   * Serves these guests with these settings and no others; whose settings stay as they are notices nothing. One that cannot be
   * served is logged, and tried again the next time. @returns what kept guests from being served
   */
  become({ guests, limits, namespaces }: HostConfiguration): Promise<unknown[]> {
    return this.#turns.run(Call.endless(), "the configuration before", async () => {
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
      for (const [name, guest] of wanted) {
        if (this.#settings.has(name)) continue;
        try {
          await this.#host.add(guest);
          this.#settings.set(name, JSON.stringify(guest));
        } catch (error) {
          const code = PvbusError.is(error) ? error.code : null;
          this.#logger.error("guest not served", { guest: name, code, reason: (error as Error).message });
          failures.push(error);
        }
      }
      return failures;
    });
  }
}
