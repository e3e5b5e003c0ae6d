import { createHash } from "node:crypto";
import { PvbusError } from "../base/errors.js";
import { Call } from "../base/flow/call.js";
import type { Bus } from "../bus/bus.js";
import type { BootDataKind } from "../contract/boot-data.js";
import { chosenInterfaces } from "./interfaces.js";
import { untilSettled } from "./settling.js";
import { fieldOf, withInstanceId } from "./userdata/metadata.js";
import { type SeedOutcome, writeSeedDirectory } from "./userdata/seed-directory.js";
import { lookFor, type UserdataOptions } from "./userdata.js";

/** How a seed is written. */
export interface NoCloudOptions extends UserdataOptions {
  /** Wait until the host has given all that it has. Default false. */
  readonly wait?: boolean | undefined;
}

/** What a seed was made of. */
export interface NoCloudSeed {
  /** Whether it was written; `nothing` where the host gives no data: then an old seed stays as it is. */
  readonly outcome: SeedOutcome | "nothing";
  /** The instance's id: its own, else one that stays the same for this machine and these data. */
  readonly instanceId?: string;
  /** The files, in their order. */
  readonly files: readonly string[];
}

/** What cloud-init's NoCloud reads. */
const KINDS: readonly BootDataKind[] = ["meta-data", "user-data", "vendor-data", "network-config"];
const ID_DIGITS = 16;

/**
 * Writes a seed for cloud-init's NoCloud from whatever the host gives, for stores of which cloud-init knows nothing.
 * @throws PvbusError those of {@link getBootData}; `ERR_CONFLICT` for a seed that is not ours, `ERR_PERMISSION`, `ERR_NO_SPACE`
 */
export async function writeNoCloudSeed(
  bus: Bus,
  directory: string,
  options: NoCloudOptions = {},
): Promise<NoCloudSeed> {
  const { wait = false, ...search } = options;
  // Where there is no hypervisor nobody will say anything, however long one waits.
  if (wait && bus.interfaces.length === 0) return { outcome: "nothing", files: [] };
  const data = wait
    ? await untilSettled(bus, search, () => collect(bus, search))
    : await collect(bus, search);
  if (data.size === 0) return { outcome: "nothing", files: [] };
  const metadata = Buffer.from(data.get("meta-data") ?? []).toString("utf8");
  const text = withInstanceId(metadata, await instanceIdOf(bus, data, options));
  const own = fieldOf(text, "instance-id");
  const files: Record<string, Uint8Array> = { "meta-data": Buffer.from(text), "user-data": new Uint8Array() };
  for (const kind of KINDS) {
    const value = data.get(kind);
    if (value !== undefined && kind !== "meta-data") files[kind] = value;
  }
  const outcome = await writeSeedDirectory(directory, files);
  return {
    outcome,
    ...(own !== undefined && "text" in own ? { instanceId: own.text } : {}),
    files: Object.keys(files),
  };
}

async function collect(bus: Bus, options: UserdataOptions): Promise<ReadonlyMap<BootDataKind, Uint8Array>> {
  const data = new Map<BootDataKind, Uint8Array>();
  for (const kind of KINDS) {
    const { found } = await lookFor(bus, kind, options);
    if (found !== undefined) data.set(kind, found.value);
  }
  return data;
}

/** The machine's id, where the host tells one, and the data: the same data are the same instance. */
async function instanceIdOf(
  bus: Bus,
  data: ReadonlyMap<BootDataKind, Uint8Array>,
  options: UserdataOptions,
): Promise<string> {
  const sum = createHash("sha256");
  for (const [kind, value] of data) sum.update(`${kind} ${value.length}\n`).update(value);
  const digits = sum.digest("hex").slice(0, ID_DIGITS);
  const { signal, timeoutMs } = options;
  const call = new Call({ signal, timeoutMs });
  for (const each of chosenInterfaces(bus, options)) {
    try {
      const { vmId } = await each.facts({ signal, timeoutMs: call.remainingMs });
      if (vmId !== undefined && /^[A-Za-z0-9-]{1,64}$/.test(vmId)) return `${vmId.toLowerCase()}-${digits}`;
    } catch (error) {
      // Without the machine's id the data alone make one.
      if (!PvbusError.is(error) || error.code === "ERR_ABORTED") throw error;
    }
  }
  return `pvbus-${digits}`;
}
