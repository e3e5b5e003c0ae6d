import type { HostConfiguration, ServedGuest } from "../../../../providers/kvm/host/index.js";
import { loadKvmHost } from "../../../services.js";
import { UsageError } from "../../context.js";
import { jsonLogger } from "../../json-log.js";
import { serviceManager, startWatchdog } from "../../service-manager.js";
import { readDocument, usage } from "./documents.js";
import { type HostAction, stateOf } from "./host.js";

/** `pvbus host serve`: serves guests until it is told to end; what happens goes to standard error, one JSON object a line. */
export async function serveAction(action: HostAction): Promise<number> {
  const { env, stderr, signal, options } = action.context;
  const directory = stateOf(action);
  const { MetadataHost } = await loadKvmHost();
  const { guests, ...common } = await configurationOf(action);
  if (guests.length === 0)
    throw new UsageError("host serve: name a guest with --guest NAME=ENDPOINT, or a file with --config");
  const logger = jsonLogger(stderr, Date, options.verbose === true);
  const tell = serviceManager(env);
  // ps(1) shows it.
  process.title = "pvbus-host";
  const host = await MetadataHost.start({ directory, guests, ...common, logger });
  const stopWatchdog = startWatchdog(env, tell);
  logger.info("serving", { state: directory, guests: guests.length, pid: process.pid });
  tell(`READY=1\nSTATUS=serving ${guests.length} guests`);
  try {
    await aborted(signal);
  } finally {
    tell("STOPPING=1");
    stopWatchdog();
    await host.close();
  }
  logger.info("stopped");
  return 0;
}

/** Gives the guests of the file and of the command line; one that both name has the endpoints of both. */
async function configurationOf({ own }: HostAction): Promise<HostConfiguration> {
  const { parseConfiguration, parseEndpoint } = await loadKvmHost();
  const document = own.config === undefined ? {} : await readDocument(own.config);
  const configuration = usage(() => parseConfiguration(document));
  const guests = new Map(configuration.guests.map((guest) => [guest.name, guest]));
  for (const text of own.guest ?? []) {
    const at = text.indexOf("=");
    if (at < 1) throw new UsageError(`--guest takes NAME=ENDPOINT here, not '${text}'`);
    const name = text.slice(0, at);
    const known: ServedGuest = guests.get(name) ?? { name, endpoints: [] };
    const endpoint = usage(() => parseEndpoint(text.slice(at + 1)));
    guests.set(name, { ...known, endpoints: [...known.endpoints, endpoint] });
  }
  return { ...configuration, guests: [...guests.values()] };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
