import { onAbort } from "../../../src/base/flow/abort.js";
import { UsageError } from "../../../src/cli/io/context.js";
import { jsonLogger } from "../../../src/cli/io/json-log.js";
import { serviceManager, startWatchdog } from "../../../src/cli/io/service-manager.js";
import { type HostConfiguration, loadKvmHost, type ServedGuest } from "../../../src/services.js";
import { readDocument, usage } from "./documents.js";
import { type HostAction, stateOf } from "./host.js";
import { ServedGuests } from "./served-guests.js";

/**
 * `pvbus host serve`: serves guests until it is told to end; what happens goes to standard error, one JSON object a line. SIGHUP
 * has the configuration read again: guests come, go and change, the others notice nothing.
 */
export async function serveAction(action: HostAction): Promise<number> {
  const { env, stderr, signal, options } = action.context;
  const directory = stateOf(action);
  const { MetadataHost } = await loadKvmHost();
  const configuration = await configurationOf(action);
  if (configuration.guests.length === 0 && action.own.config === undefined)
    throw new UsageError("host serve: name a guest with --guest NAME=ENDPOINT, or a file with --config");
  const logger = jsonLogger(stderr, Date, options.verbose === true);
  const tell = serviceManager(env);
  // ps(1) shows it.
  process.title = "pvbus-host";
  const host = await MetadataHost.start({ directory, logger });
  const guests = new ServedGuests(host, logger);
  const [failure] = await guests.become(configuration);
  if (failure !== undefined && host.guests.length === 0) {
    await host.close();
    throw failure;
  }
  const reload = (): void => {
    const next = configurationOf(action).then((read) => guests.become(read));
    next.then(
      () => logger.info("configuration read again", { guests: host.guests.length }),
      (error: Error) => logger.error("configuration not taken", { reason: error.message }),
    );
  };
  process.on("SIGHUP", reload);
  const stopWatchdog = startWatchdog(env, tell);
  logger.info("serving", { state: directory, guests: host.guests.length, pid: process.pid });
  tell(`READY=1\nSTATUS=serving ${host.guests.length} guests`);
  try {
    await aborted(signal);
  } finally {
    tell("STOPPING=1");
    process.off("SIGHUP", reload);
    stopWatchdog();
    await host.close();
  }
  logger.info("stopped");
  return 0;
}

/** Returns the guests of the file and of the command line; one that both name has the endpoints of both. */
async function configurationOf({ own }: HostAction): Promise<HostConfiguration> {
  const { checkGuestName, parseConfiguration, parseEndpoint } = await loadKvmHost();
  const document = own.config === undefined ? {} : await readDocument(own.config);
  const configuration = usage(() => parseConfiguration(document));
  const guests = new Map(configuration.guests.map((guest) => [guest.name, guest]));
  for (const text of own.guest ?? []) {
    const at = text.indexOf("=");
    if (at < 1) throw new UsageError(`--guest takes NAME=ENDPOINT here, not '${text}'`);
    const name = usage(() => checkGuestName(text.slice(0, at)));
    const known: ServedGuest = guests.get(name) ?? { name, endpoints: [] };
    const endpoint = usage(() => parseEndpoint(text.slice(at + 1)));
    guests.set(name, { ...known, endpoints: [...known.endpoints, endpoint] });
  }
  return { ...configuration, guests: [...guests.values()] };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    onAbort(signal, resolve);
  });
}
