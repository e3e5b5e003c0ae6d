import { pvbusError } from "../base/errors.js";
import { Call, type CallOptions } from "../base/flow/call.js";
import type { Host, Logger } from "../base/host/host.js";
import { nodeHost } from "../base/host/node-host.js";
import { ownEntry } from "../base/own.js";
import { INTERFACE_KINDS, typeOfId } from "../contract/interfaces.js";
import type { ProviderManifest } from "../contract/manifest.js";
import type { Provider, StoreTarget } from "../contract/provider.js";
import type { DetectedInterface, DetectionReport } from "../contract/report.js";
import { Bus } from "./bus.js";
import { PvInterface } from "./interface/interface.js";
import { idOf, manifestOf } from "./manifests.js";
import { type LoadProvider, Providers } from "./providers.js";

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
  /** Manifests of further providers; one with the id of a built-in provider takes its place. */
  readonly providers?: readonly ProviderManifest[] | undefined;
  /** Settings by provider id: `{ hyperv: { durable: true } }`; each provider's schema documents and validates its own. */
  readonly providerOptions?: Readonly<Record<string, Readonly<Record<string, unknown>>>> | undefined;
  /** Receives messages; default: nobody. */
  readonly logger?: Logger | undefined;
  /** Look at all 256 CPUID bases of hypervisors instead of stopping at the first unprintable one. Default false. */
  readonly fullScan?: boolean | undefined;
  /** A recorded machine to decide from instead of this one: a document of `pvbus snapshot`. */
  readonly snapshot?: unknown;
  /**
   * Whether detection runs. Without it the bus has the interfaces that are named in `interfaces` alone, and opens sooner.
   * Default true.
   */
  readonly detect?: boolean | undefined;
  /** Stands in for the real machine altogether; then sysroot and logger are the host's. */
  readonly host?: Host | undefined;
}

/** Opens a bus with these manifests. */
export async function openBus(
  options: OpenOptions,
  builtIn: readonly ProviderManifest[],
  load: LoadProvider,
): Promise<Bus> {
  const call = new Call(options);
  const host = options.host ?? nodeHost({ sysroot: options.sysroot, logger: options.logger });
  const providers = new Providers(await joined(builtIn, options.providers), host, load);
  try {
    return await call.within(open(host, providers, options, call), "the opening of the bus");
  } catch (error) {
    await providers.close();
    throw error;
  }
}

async function joined(
  builtIn: readonly ProviderManifest[],
  strangers: readonly ProviderManifest[] = [],
): Promise<readonly ProviderManifest[]> {
  if (strangers.length === 0) return builtIn;
  const { joinManifests } = await import("./manifest-rules.js");
  return joinManifests(builtIn, strangers);
}

async function open(host: Host, providers: Providers, options: OpenOptions, call: Call): Promise<Bus> {
  const report = await reportOn(host, options, providers);
  const { wanted, primary } = await chooseInterfaces(report, host, providers.manifests, options);
  const interfaces = await Promise.all(wanted.map((each) => createInterface(each, providers, primary, call)));
  return new Bus(report, interfaces, providers);
}

/** What a bus without detection reports. */
const NOTHING: DetectionReport = Object.freeze({
  virtual: false,
  primary: null,
  primaryName: null,
  interfaces: [],
  platform: null,
  container: null,
  confidential: null,
  nested: false,
  unreadable: [],
});

async function reportOn(
  host: Host,
  { detect: wanted, fullScan, snapshot }: OpenOptions,
  { manifests }: Providers,
): Promise<DetectionReport> {
  if (wanted === false) return NOTHING;
  const strangers = manifests.flatMap(({ id, type, detection }) =>
    detection === undefined ? [] : [{ id, type, detection }],
  );
  const { detect, detectSnapshot } = await import("../detect/detect.js");
  const rules = { fullScan, strangers };
  return snapshot === undefined ? detect(host, rules) : detectSnapshot(snapshot, rules);
}

interface Wanted {
  readonly detected: DetectedInterface;
  readonly target: StoreTarget;
}

/** Joins what detection found with what lies at its usual place, and with what the caller named. */
async function chooseInterfaces(
  report: DetectionReport,
  host: Host,
  manifests: readonly ProviderManifest[],
  options: OpenOptions,
): Promise<{ wanted: Wanted[]; primary: string | null }> {
  const settings = (id: string): StoreTarget => ({ options: ownEntry(options.providerOptions, id) });
  const wanted: Wanted[] = report.interfaces.map((detected) => ({ detected, target: settings(detected.id) }));
  const isBare = host.sysroot !== undefined && wanted.length === 0;
  for (const manifest of options.detect === false ? [] : manifests) {
    const { id, type } = manifest;
    // What detection knows it has found itself, but for a bare copy of a store, which is examined in place.
    if (!isBare && INTERFACE_KINDS.some((kind) => kind.id === id)) continue;
    if (wanted.some(({ detected }) => detected.id === id)) continue;
    const located = (await manifest.locate?.(host)) ?? false;
    if (located === false) continue;
    const evidence = [{ source: "path", detail: `the store of ${type} is at its usual place` }] as const;
    const seen = located === true ? { evidence } : located;
    const detected = { ...namedInterface(id, type, wanted.length), role: "guest-api", ...seen } as const;
    wanted.push({ detected, target: settings(id) });
  }
  const taken = new Set<DetectedInterface>();
  for (const { type, channel, options: own } of options.interfaces ?? []) {
    const id = idOf(manifests, type);
    if (id === undefined) {
      const known = manifests.map((each) => each.type).join(", ");
      throw pvbusError("ERR_NOT_SUPPORTED", `no provider serves type "${type}"; there is one for: ${known}`);
    }
    // The first store named of a type takes the detected interface's place, further ones come behind.
    const at = wanted.findIndex(({ detected }) => detected.id === id && !taken.has(detected));
    const typeOf = manifests.find((each) => each.id === id)?.type ?? typeOfId(id);
    const detected = wanted[at]?.detected ?? namedInterface(id, typeOf, wanted.length);
    const target = { channel, options: { ...settings(id).options, ...own } };
    wanted.splice(at < 0 ? wanted.length : at, 1, { detected, target });
    taken.add(detected);
  }
  const [chosen] = taken;
  const bare = isBare ? wanted[0]?.detected.name : undefined;
  return { wanted, primary: chosen?.name ?? report.primaryName ?? bare ?? null };
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
  providers: Providers,
  primary: string | null,
  call: Call,
): Promise<PvInterface> {
  const manifest = manifestOf(providers.manifests, detected.id);
  const parts = { detected, target, primary: detected.name === primary };
  if (manifest === undefined) return new PvInterface(parts);
  const load = (within: Call): Promise<Provider> => providers.provider(manifest, within);
  const provider = await load(call).catch((error: unknown) => {
    if (call.isOver) throw error;
    // Whoever uses the interface hears it, and has it loaded again; the other interfaces are as they would be.
    return undefined;
  });
  const { bootData } = manifest;
  return new PvInterface({
    ...parts,
    provider,
    load,
    bootData,
    capabilities: provider?.capabilities(target),
  });
}
