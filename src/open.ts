import { pvbusError } from "./base/errors.js";
import { Call, type CallOptions } from "./base/flow/call.js";
import type { Host, Logger } from "./base/host/host.js";
import { nodeHost } from "./base/host/node-host.js";
import { ownEntry } from "./base/own.js";
import { Bus } from "./bus/bus.js";
import { PvInterface } from "./bus/interface/interface.js";
import type { ProviderRegistry } from "./container.js";
import type { ProviderClass, StoreTarget } from "./contract/provider.js";
import type { DetectedInterface, DetectionReport } from "./contract/report.js";

/** A store that the caller names, to be opened whatever detection says. */
export interface InterfaceRequest extends StoreTarget {
  /** Type string (`Hyper-V`) or id (`hyperv`), without regard to case. */
  readonly type: string;
}

/** Options of {@link openPvbus}. */
export interface OpenOptions extends CallOptions {
  /** Directory that stands for `/`: files, devices and sockets are taken below it, and detection never asks the real processor. */
  readonly sysroot?: string | undefined;
  /** Stores to open whatever detection says, with their transports. */
  readonly interfaces?: readonly InterfaceRequest[] | undefined;
  /** Further providers: provider classes, or inversify container modules that bind `PROVIDER`. */
  readonly providers?: readonly (ProviderClass | object)[] | undefined;
  /** Settings by provider id: `{ hyperv: { durable: true } }`; each provider documents and validates its own. */
  readonly providerOptions?: Readonly<Record<string, Readonly<Record<string, unknown>>>> | undefined;
  /** Receives messages; default: nobody. */
  readonly logger?: Logger | undefined;
  /** Look at all 256 CPUID bases of hypervisors instead of stopping at the first unprintable one. Default false. */
  readonly fullScan?: boolean | undefined;
  /** A recorded machine to decide from instead of this one: a document of `pvbus snapshot`. */
  readonly snapshot?: unknown;
  /** Stands in for the real machine altogether; then sysroot and logger are the host's. */
  readonly host?: Host | undefined;
}

/**
 * Opens the bus: detects the interfaces and binds their providers. Loads detection, the container and the providers
 * that are needed at this moment, native code not before a store needs it.
 * @returns the bus; empty on a machine without any hypervisor
 * @throws PvbusError `ERR_NOT_SUPPORTED` when `interfaces` names a type that no provider serves, `ERR_ABORTED`,
 * `ERR_TIMEOUT`
 */
export async function openPvbus(options: OpenOptions = {}): Promise<Bus> {
  const call = new Call(options);
  const host = options.host ?? nodeHost({ sysroot: options.sysroot, logger: options.logger });
  return call.within(openOn(host, options), "the opening of the bus");
}

async function openOn(host: Host, options: OpenOptions): Promise<Bus> {
  const [{ detect, detectSnapshot }, { createRegistry }] = await Promise.all([
    import("./detect/detect.js"),
    import("./container.js"),
  ]);
  const report =
    options.snapshot === undefined ? await detect(host, options) : detectSnapshot(options.snapshot, options);
  const registry = createRegistry(host, options.providers ?? []);
  const { wanted, primary } = await chooseInterfaces(report, host, registry, options);
  return new Bus(report, await Promise.all(wanted.map((each) => createInterface(each, registry, primary))));
}

interface Wanted {
  readonly detected: DetectedInterface;
  readonly target: StoreTarget;
}

/**
 * Joins what detection found with what the caller named. Below a sysroot that shows no interface, the stores that
 * lie there are taken as named: a bare pool directory is examined in place.
 */
async function chooseInterfaces(
  report: DetectionReport,
  host: Host,
  registry: ProviderRegistry,
  options: OpenOptions,
): Promise<{ wanted: Wanted[]; primary: string | null }> {
  const settings = (id: string): StoreTarget => ({ options: ownEntry(options.providerOptions, id) });
  const wanted: Wanted[] = report.interfaces.map((detected) => ({ detected, target: settings(detected.id) }));
  let chosen: string | undefined;
  const taken = new Set<DetectedInterface>();
  // The first store named of a type takes the detected interface's place, further ones come behind.
  const name = (id: string, target: StoreTarget): void => {
    const at = wanted.findIndex(({ detected }) => detected.id === id && !taken.has(detected));
    const detected = wanted[at]?.detected ?? namedInterface(id, registry.typeOf(id), wanted.length);
    wanted.splice(at < 0 ? wanted.length : at, 1, { detected, target });
    taken.add(detected);
    chosen ??= detected.name;
  };
  for (const { type, channel, options: own } of options.interfaces ?? []) {
    const id = registry.idOf(type);
    if (id === undefined) {
      const known = registry.ids.map((each) => registry.typeOf(each)).join(", ");
      throw pvbusError("ERR_NOT_SUPPORTED", `no provider serves type "${type}"; there is one for: ${known}`);
    }
    name(id, { channel, options: { ...ownEntry(options.providerOptions, id), ...own } });
  }
  if (host.sysroot !== undefined && wanted.length === 0) {
    // A bare copy of a store is one provider's: the others need not even be loaded.
    for (const id of registry.ids) {
      if (!(await registry.provider(id)).locate()) continue;
      name(id, settings(id));
      break;
    }
  }
  return { wanted, primary: chosen ?? report.primaryName };
}

function namedInterface(id: string, type: string, unit: number): DetectedInterface {
  return {
    unit,
    name: `pvbus${unit}`,
    id,
    type,
    role: "guest",
    base: null,
    emulated: false,
    evidence: [],
    details: {},
  };
}

async function createInterface(
  { detected, target }: Wanted,
  registry: ProviderRegistry,
  primary: string | null,
): Promise<PvInterface> {
  const provider =
    registry.idOf(detected.id) === undefined ? undefined : await registry.provider(detected.id);
  return new PvInterface({
    detected,
    target,
    provider,
    primary: detected.name === primary,
    capabilities: provider?.capabilities(target),
  });
}
