import { onAbort } from "../../../src/base/flow/abort.js";
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
import { ServedGuests } from "./served-guests.js";

/**
 * `pvbus host serve`: serves guests until it is told to end; what happens goes to standard error, one JSON object a line. SIGHUP
 * has the configuration read again: guests come, go and change, the others notice nothing.
 */
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
    await aborted(io.signal);
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

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    onAbort(signal, resolve);
  });
}
