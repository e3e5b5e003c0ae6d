import { pvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { OvfEnvironment } from "../../src/base/ovf-environment.js";
import { putEntry } from "../../src/base/own.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  WatchHooks,
} from "../../src/contract/store.js";
import { guestinfoCapabilities } from "./capabilities.js";
import { VmwareDataSets } from "./data-set-store.js";
import { VmwareNamespace } from "./namespace.js";
import type { VmwareOptions } from "./options.js";
import { guestinfoLayout } from "./portable.js";
import { decodeValue } from "./protocol/encoded-value.js";
import { KEY_PREFIX, MAX_VALUE_BYTES, wellKnownBelow } from "./protocol/keys.js";
import { command, infoGet, infoSet, NO_VALUE_FOUND, type RpciReply } from "./protocol/rpci.js";
import type { RpciSession } from "./session.js";
import { watchByLooking } from "./watch.js";

/** What became of a key that {@link VmwareStore.clear} was called on. */
export type ClearOutcome = "removed" | "emptied" | "blanked";

/** Settings for cloud-init, decoded as its key `….encoding` says. */
export interface CloudInitData {
  /** `guestinfo.metadata`. */
  readonly metadata?: Uint8Array;
  /** `guestinfo.userdata`. */
  readonly userdata?: Uint8Array;
  /** `guestinfo.vendordata`. */
  readonly vendordata?: Uint8Array;
}

/** Keys that say what the machine is. */
const FACT_KEYS = ["guestinfo.hostname", "guestinfo.ip", "guestinfo.vmtools.description"];
const PACE = { firstMs: 250, longestMs: 5_000 };
const LOOK_MS = 10_000;

/**
 * VMware's guestinfo: text by key, shared by host and guest. Native keys begin with `guestinfo.`, in any case; keys with a
 * slash are the host's. The host does not list, and a key cannot be removed: {@link VmwareStore.known} looks for the keys
 * that programs agree on, {@link VmwareStore.clear} comes as near to a removal as the host allows.
 */
export class VmwareStore implements ProviderStore {
  /** What can be done. */
  readonly capabilities: Capabilities;
  /** Where portable keys live. */
  readonly portable: PortableLayout;
  /** The machine's DataSets (vSphere 8 and later), which list and remove. */
  readonly dataSets: VmwareDataSets;
  readonly #session: RpciSession;
  readonly #options: VmwareOptions;
  readonly #closing: Closing;

  /** @internal Opened by the provider. */
  constructor(
    session: RpciSession,
    options: VmwareOptions = {},
    maxValueBytes: number = MAX_VALUE_BYTES,
    closing?: AbortSignal,
  ) {
    this.#closing = new Closing(closing);
    this.#session = session;
    this.#options = options;
    this.dataSets = new VmwareDataSets(session);
    this.capabilities = guestinfoCapabilities(maxValueBytes);
    this.portable = guestinfoLayout(maxValueBytes);
  }

  /** Names the transport of the last command: `vsock:0:976 from a privileged port`. */
  get over(): string {
    return this.#session.over;
  }

  /** Reads a value's bytes, NULs included. @throws PvbusError `ERR_KEY_INVALID`, `ERR_PERMISSION`, `ERR_PROTOCOL`, … */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    this.#closing.check();
    const request = infoGet(key);
    const reply = await this.#session.ask(request, call);
    if (reply.accepted) return reply.value;
    if (reply.words === NO_VALUE_FOUND) return undefined;
    throw this.#session.refusal(request, reply.words);
  }

  /**
   * Sets a value. Nothing is sent unless key and value fit; with the option `verify` it is read back.
   * @throws PvbusError `ERR_KEY_INVALID`, `ERR_READ_ONLY`, `ERR_VALUE_INVALID`, `ERR_VALUE_TOO_LONG` before anything is sent;
   *   `ERR_PERMISSION` where the host refuses; `ERR_CONFLICT` where another value is read back
   */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    this.#closing.check();
    const { maxValueBytes = MAX_VALUE_BYTES } = this.capabilities.limits ?? {};
    const request = infoSet(key, value);
    if (value.length > maxValueBytes)
      throw pvbusError(
        "ERR_VALUE_TOO_LONG",
        `the value has ${value.length} bytes, the driver takes ${maxValueBytes}`,
      );
    await this.#session.value(request, call);
    if (this.#options.verify !== true) return;
    const kept = await this.read(key, call);
    if (kept !== undefined && Buffer.compare(kept, value) === 0) return;
    throw pvbusError(
      "ERR_CONFLICT",
      `the host took ${value.length} bytes and gives ${kept?.length ?? "none"} back: it cut them, or another program wrote; try again`,
    );
  }

  /**
   * Follows a key and the well-known keys below it by looking, at first soon, then ever more seldom: the host reports no
   * change.
   */
  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    const keys = followedBy(prefix);
    const look = async () => {
      const found = new Map<string, Uint8Array>();
      for (const key of keys) {
        const one = new Call({ signal: call.signal, timeoutMs: Math.min(call.remainingMs, LOOK_MS) });
        const value = await this.read(key, one);
        if (value !== undefined) found.set(key, value);
      }
      return found;
    };
    const [options, { signal: closing }] = [this.#options, this.#closing];
    yield* watchByLooking({ ...hooks, look, closing, options, usual: PACE }, call);
  }

  /** Returns what guestinfo says of the machine: its OVF environment's ids, its name and address. */
  async facts(call: Call): Promise<MachineFacts> {
    const { id, vCenterId, platform = {} } = (await this.ovfEnvironment(call)) ?? {};
    const other: Record<string, string> = {};
    for (const key of FACT_KEYS) {
      const value = await this.#textOf(key, call);
      if (value !== undefined && value !== "") putEntry(other, key, value);
    }
    if (id !== undefined) other["ovf.id"] = id;
    if (vCenterId !== undefined) other["ovf.vCenterId"] = vCenterId;
    for (const [name, value] of Object.entries(platform)) putEntry(other, `ovf.${name}`, value);
    return {
      ...(vCenterId === undefined ? {} : { vmId: vCenterId }),
      ...(Object.keys(other).length === 0 ? {} : { other }),
    };
  }

  /** Yields those of the well-known keys below a prefix that have a value; there may be others that nobody can find. */
  async *known(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    for (const key of wellKnownBelow(prefix)) {
      const value = await this.read(key, call);
      if (value !== undefined) yield { key, value };
    }
  }

  /**
   * Takes a value away as far as the host allows: sets it empty, and to one space where that leaves the old value, as
   * cloud-init does.
   * @returns `removed`: there is no such key now; `emptied` or `blanked`: it is there with an empty value or a space
   * @throws PvbusError as {@link VmwareStore.write}
   */
  async clear(key: string, call: Call): Promise<ClearOutcome> {
    this.#closing.check();
    const reply = await this.#session.ask(infoSet(key, new Uint8Array(0)), call);
    const left = await this.read(key, call);
    if (left === undefined) return "removed";
    if (left.length === 0 && reply.accepted) return "emptied";
    await this.write(key, Buffer.from(" "), call);
    return "blanked";
  }

  /**
   * Erases a value as {@link VmwareStore.clear} does. A key with a slash is the host's and stays.
   * @throws PvbusError `ERR_CONFLICT` when it is not the expected value
   */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    const value = await this.read(key, call);
    if (value === undefined) return "host";
    if (key.includes("/")) return "no";
    if (expected !== undefined && Buffer.compare(value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", "the key has another value by now; read it again");
    return (await this.clear(key, call)) === "removed" ? "host" : "overwritten";
  }

  /**
   * Reads a value and unpacks it as its key `….encoding` says: base64, gzip in base64, else plain.
   * @throws PvbusError `ERR_CORRUPT` when it is not what it is said to be, and those of {@link VmwareStore.read}
   */
  async readEncoded(key: string, call: Call): Promise<Uint8Array | undefined> {
    const value = await this.read(key, call);
    if (value === undefined) return undefined;
    return decodeValue(value, (await this.#textOf(`${key}.encoding`, call)) ?? "");
  }

  /** Returns cloud-init's metadata, userdata and vendordata, unpacked. @throws as {@link VmwareStore.readEncoded} */
  async cloudInit(call: Call): Promise<CloudInitData> {
    const data: Record<string, Uint8Array> = {};
    for (const name of ["metadata", "userdata", "vendordata"]) {
      const value = await this.readEncoded(`${KEY_PREFIX}${name}`, call);
      if (value !== undefined) putEntry(data, name, value);
    }
    return data;
  }

  /**
   * Returns the OVF environment; undefined when the machine was not deployed with one. Properties of an appliance are here
   * and nowhere else in guestinfo.
   * @throws PvbusError `ERR_CORRUPT` for a malformed one, and those of {@link VmwareStore.read}
   */
  async ovfEnvironment(call: Call): Promise<OvfEnvironment | undefined> {
    const xml = (await this.#textOf("guestinfo.ovfEnv", call))?.trim();
    if (xml === undefined || xml === "") return undefined;
    return (await import("../../src/base/ovf-environment.js")).parseOvfEnvironment(xml);
  }

  /** Returns a namespace of the host's namespace database, which compares and swaps. @throws PvbusError `ERR_KEY_INVALID` */
  namespace(name: string): VmwareNamespace {
    return new VmwareNamespace(this.#session, name);
  }

  /**
   * Sends the host any command, once.
   * @param args what follows the name and a space
   * @returns what the host answers, also where it refuses
   * @throws PvbusError `ERR_VALUE_TOO_LONG` beyond 65536 bytes in all, before anything is sent
   */
  async rpc(name: string, args: Uint8Array | string, call: Call): Promise<RpciReply> {
    this.#closing.check();
    return this.#session.ask(command(name, args), call);
  }

  /** Ends watches and the connection. */
  async close(): Promise<void> {
    this.#closing.close();
    await this.#session.close();
  }

  async #textOf(key: string, call: Call): Promise<string | undefined> {
    const value = await this.read(key, call);
    return value === undefined ? undefined : Buffer.from(value).toString("utf8");
  }
}

/** The key itself, where it is one, and the well-known ones below it. */
function followedBy(prefix: string): readonly string[] {
  const below = wellKnownBelow(prefix);
  const isFront = prefix === "" || prefix.endsWith(".") || prefix.toLowerCase() === KEY_PREFIX.slice(0, -1);
  if (isFront) return below;
  infoGet(prefix);
  return [prefix, ...below.filter((key) => key.toLowerCase() !== prefix.toLowerCase())];
}
