import { createHash } from "node:crypto";
import { PvbusError, type PvbusErrorCode, pvbusError } from "../base/errors.js";
import type { CallOptions } from "../base/flow/call.js";
import type { Bus } from "../bus/bus.js";
import type { PvInterface } from "../bus/interface/interface.js";
import type { BootDataKind, BootDataPlace } from "../contract/boot-data.js";
import type { PortableChoice } from "../contract/portable.js";
import { chosenInterfaces } from "./interfaces.js";
import { OWN_NAMESPACE } from "./names.js";
import { checkTrust, type TrustOptions } from "./trust.js";
import { type Decoded, decodePlain } from "./userdata/encodings.js";
import { readPlace, readStored } from "./userdata-places.js";

/** All kinds, in the order in which they are listed. */
export const BOOT_DATA_KINDS: readonly BootDataKind[] = [
  "user-data",
  "meta-data",
  "vendor-data",
  "network-config",
  "ignition",
];

/** How boot configuration is looked for. */
export interface UserdataOptions extends CallOptions, TrustOptions, PortableChoice {
  /**
   * The only store to look at: a short name as reports have it (`guestinfo`, `portable`), or an interface's name, type or id,
   * without regard to case.
   */
  readonly from?: string | undefined;
  /** Take the value as it is stored, whatever its encoding is said to be. Default false. */
  readonly asIs?: boolean | undefined;
}

/** Where boot configuration lies. */
export interface BootDataSource {
  /** What is there. */
  readonly kind: BootDataKind;
  /** Short name of the store. */
  readonly store: string;
  /** Name of the interface. */
  readonly interface: string;
  /** The native key; of a portable value its namespace and name. */
  readonly key: string;
  /** Who reads it by itself. */
  readonly consumer: string;
}

/** Boot configuration and where it came from. */
export interface BootDataValue extends BootDataSource {
  /** How it was encoded: `plain`, or as it was written there. */
  readonly encoding: string;
  /** The decoded bytes. */
  readonly value: Uint8Array;
  /** Their SHA-256 in hex. */
  readonly sha256: string;
  /** What may be wrong with them. */
  readonly warning?: string;
}

/** A place whose value its reader has taken away. */
export interface RemovedBootData extends BootDataSource {
  /** What shows that. */
  readonly absent: string;
}

/** A place that could not be read, or whose value is not as it must be. */
export interface FailedBootData extends BootDataSource {
  /** Why. */
  readonly error: PvbusError;
}

/** One look at a place. */
export type BootDataLook = BootDataValue | RemovedBootData | FailedBootData;

/** A place that cannot be asked, or cannot have it: the next one may still answer. */
const NOT_ASKED: readonly PvbusErrorCode[] = [
  "ERR_UNAVAILABLE",
  "ERR_PERMISSION",
  "ERR_NOT_SUPPORTED",
  "ERR_DISCONNECTED",
  "ERR_BUSY",
  "ERR_KEY_INVALID",
  "ERR_KEY_TOO_LONG",
];

interface Candidate extends BootDataSource {
  look(): Promise<Decoded | undefined>;
}

/**
 * Finds boot configuration of one kind: in the keys of whoever reads the primary interface's store by itself, then in the other
 * interfaces', then under the portable name of the kind.
 * @returns the first that there is; undefined when there is none
 * @throws PvbusError `ERR_UNAVAILABLE` or `ERR_PERMISSION` when there is none and a store could not be asked, `ERR_VALUE_INVALID`,
 *   `ERR_VALUE_TOO_LONG`, `ERR_CORRUPT`; `ERR_PERMISSION` in a confidential machine, see {@link checkTrust}
 */
export async function getBootData(
  bus: Bus,
  kind: BootDataKind,
  options: UserdataOptions = {},
): Promise<BootDataValue | undefined> {
  return (await lookFor(bus, kind, options)).found;
}

/** What a search for one kind has met. */
export interface BootDataSearch {
  /** The first that there is. */
  readonly found: BootDataValue | undefined;
  /** Places whose value was taken away by its reader. */
  readonly removed: readonly RemovedBootData[];
}

/** The same as {@link getBootData}, with what was passed over. @throws as that */
export async function lookFor(
  bus: Bus,
  kind: BootDataKind,
  options: UserdataOptions,
): Promise<BootDataSearch> {
  checkTrust(bus.detection, options);
  const removed: RemovedBootData[] = [];
  let [asked, refused]: [number, PvbusError | undefined] = [0, undefined];
  for (const candidate of candidates(bus, [kind], options)) {
    const look = await lookAt(candidate);
    if (look === undefined) asked++;
    else if ("value" in look) return { found: look, removed };
    else if ("absent" in look) {
      asked++;
      removed.push(look);
    } else if (!NOT_ASKED.includes(look.error.code)) throw look.error;
    else if (refused === undefined || look.error.code === "ERR_PERMISSION") refused = look.error;
  }
  // Where another store was asked, one that is not there does not matter; one that root alone may read does.
  if (refused !== undefined && (asked === 0 || refused.code === "ERR_PERMISSION")) throw refused;
  return { found: undefined, removed };
}

/** Looks at every place of every kind; what there is nothing at is left out. @throws PvbusError `ERR_PERMISSION`, see {@link checkTrust} */
export async function* listBootData(
  bus: Bus,
  options: UserdataOptions = {},
): AsyncGenerator<BootDataLook, void, undefined> {
  checkTrust(bus.detection, options);
  for (const candidate of candidates(bus, BOOT_DATA_KINDS, options)) {
    const look = await lookAt(candidate);
    if (look !== undefined) yield look;
  }
}

async function lookAt({ look, ...source }: Candidate): Promise<BootDataLook | undefined> {
  try {
    const decoded = await look();
    if (decoded === undefined) return undefined;
    if ("absent" in decoded) return { ...source, absent: decoded.absent };
    return { ...source, ...decoded, sha256: createHash("sha256").update(decoded.value).digest("hex") };
  } catch (error) {
    if (!PvbusError.is(error) || error.code === "ERR_ABORTED") throw error;
    error.interface ??= source.interface;
    error.key ??= source.key;
    return { ...source, error };
  }
}

/** Returns all places of some kinds in the order in which they are looked at. @throws PvbusError `ERR_NO_INTERFACE`, `ERR_UNAVAILABLE` for an unknown store */
function candidates(bus: Bus, kinds: readonly BootDataKind[], options: UserdataOptions): Candidate[] {
  const all = chosenInterfaces(bus, options);
  if (all.length === 0)
    throw pvbusError("ERR_NO_INTERFACE", "this machine shows no hypervisor interface; see `pvbus detect`");
  const found: Candidate[] = [];
  for (const kind of kinds) {
    for (const target of all)
      for (const place of target.bootData?.places ?? [])
        if (place.kind === kind) found.push(ownCandidate(target, place, options));
    for (const target of all) found.push(portableCandidate(bus, target, kind, options));
  }
  const { from } = options;
  if (from === undefined) return found;
  const wanted = from.toLowerCase();
  const chosen = found.filter(({ store, interface: name }) =>
    [store, name, bus.interface(name)?.type, bus.interface(name)?.id].some(
      (each) => each?.toLowerCase() === wanted,
    ),
  );
  if (chosen.length > 0) return chosen;
  const known = [...new Set(found.flatMap((each) => [each.store, each.interface]))].join(", ");
  throw pvbusError("ERR_UNAVAILABLE", `there is no store "${from}" here; stores and interfaces: ${known}`);
}

function ownCandidate(
  target: PvInterface,
  place: BootDataPlace,
  { asIs = false, signal, timeoutMs }: UserdataOptions,
): Candidate {
  const { kind, store, key, consumer } = place;
  const read = (each: string): Promise<Uint8Array | undefined> =>
    target.readBytes(each, { signal, timeoutMs });
  return {
    kind,
    store,
    interface: target.name,
    key,
    consumer,
    look: async () => {
      if (!asIs) return readPlace(place, read);
      const value = await readStored(place, read);
      return value && { encoding: "as it is", value };
    },
  };
}

function portableCandidate(
  bus: Bus,
  { name }: PvInterface,
  kind: BootDataKind,
  { signal, timeoutMs }: UserdataOptions,
): Candidate {
  return {
    kind,
    store: "portable",
    interface: name,
    key: `${OWN_NAMESPACE}/${kind}`,
    consumer: "pvbus",
    look: async () => {
      const value = await bus
        .portable(OWN_NAMESPACE, { interface: name })
        .getBytes(kind, { signal, timeoutMs });
      return value && decodePlain(value);
    },
  };
}
