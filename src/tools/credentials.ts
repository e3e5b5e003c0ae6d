import { PvbusError, pvbusError } from "../base/errors.js";
import type { CallOptions } from "../base/flow/call.js";
import type { Host } from "../base/host/host.js";
import { nodeHost } from "../base/host/node-host.js";
import { fromSystemError, isSystemError } from "../base/system-error.js";
import type { Bus } from "../bus/bus.js";
import type { PvInterface } from "../bus/interface/interface.js";
import type { CredentialPlace } from "../contract/boot-data.js";
import type { PortableChoice } from "../contract/portable.js";
import { commandLineCredentials } from "./creds/command-line.js";
import { isCredentialName, MAX_CREDENTIAL_BYTES } from "./creds/names.js";
import { chosenInterfaces } from "./interfaces.js";
import { checkTrust, type TrustOptions } from "./trust.js";

/** How credentials are looked for. */
export interface CredentialOptions extends CallOptions, TrustOptions, PortableChoice {
  /** The machine; default: the real one. */
  readonly host?: Host | undefined;
}

/** Where a credential was found. */
export interface CredentialSource {
  /** Short name of the source: `fw_cfg`, `SMBIOS`, `command line`, `initrd`, `CREDENTIALS_DIRECTORY`, `system`. */
  readonly source: string;
  /** The native key, the path, or the option. */
  readonly place: string;
  /** Name of the interface; undefined where it is none's. */
  readonly interface?: string | undefined;
}

/** A credential: the first source of a name counts. */
export interface Credential extends CredentialSource {
  /** Its name. */
  readonly name: string;
  /** Its value. */
  readonly value: Uint8Array;
  /** Later sources of the same name, which do not count. */
  readonly shadowed: readonly CredentialSource[];
}

/** What is no credential though it looks like one. */
export interface SkippedCredential extends CredentialSource {
  /** Why it is none. */
  readonly why: string;
}

/** A source that could not be read. */
export interface UnreadableSource {
  /** Short name of the source. */
  readonly source: string;
  /** Name of the interface; undefined where it is none's. */
  readonly interface?: string | undefined;
  /** Why not. */
  readonly error: PvbusError;
}

/** What there is, and what is not taken. */
export interface CredentialReport {
  /** The credentials in the order in which they are found. */
  readonly credentials: readonly Credential[];
  /** What is no credential though it looks like one. */
  readonly skipped: readonly SkippedCredential[];
  /** Sources that could not be read. */
  readonly unreadable: readonly UnreadableSource[];
}

/** Something under a name, its value only where it is one. */
interface Found extends CredentialSource {
  readonly name: string;
  readonly value: Uint8Array | undefined;
  /** Why it has no value. */
  readonly why?: string;
}

interface Source {
  readonly source: string;
  readonly interface?: string | undefined;
  read(): AsyncIterable<Found>;
}

const COMMAND_LINE = "/proc/cmdline";
const MAX_COMMAND_LINE_BYTES = 64 * 1024;

/**
 * Finds systemd's credentials in every source, in the order in which systemd imports them; then in this program's own directory of
 * credentials and in the system's. Encrypted ones are not among them.
 * @throws PvbusError `ERR_PERMISSION` in a confidential machine, see {@link checkTrust}; `ERR_ABORTED`
 */
export async function listCredentials(bus: Bus, options: CredentialOptions = {}): Promise<CredentialReport> {
  checkTrust(bus.detection, options);
  const credentials = new Map<string, Credential & { readonly shadowed: CredentialSource[] }>();
  const skipped: SkippedCredential[] = [];
  const unreadable: UnreadableSource[] = [];
  let total = 0;
  for (const { read, ...source } of sourcesOf(bus, options)) {
    try {
      for await (const { name, value, why, ...where } of read()) {
        const known = credentials.get(name);
        const fault = faultOf(name, value, why, known === undefined ? total : 0);
        if (fault !== undefined || value === undefined)
          skipped.push({ ...where, why: fault ?? "it has no value" });
        else if (known !== undefined) known.shadowed.push(where);
        else {
          total += value.length;
          credentials.set(name, { ...where, name, value, shadowed: [] });
        }
      }
    } catch (error) {
      if (!PvbusError.is(error) || error.code === "ERR_ABORTED") throw error;
      unreadable.push({ ...source, error });
    }
  }
  return { credentials: [...credentials.values()], skipped, unreadable };
}

/**
 * Returns a credential's bytes; undefined when no source has it.
 * @throws PvbusError `ERR_KEY_INVALID` for what is no name; the error of a source that could not be read when the others do not have
 *   it; and those of {@link listCredentials}
 */
export async function getCredential(
  bus: Bus,
  name: string,
  options: CredentialOptions = {},
): Promise<Uint8Array | undefined> {
  if (!isCredentialName(name))
    throw pvbusError(
      "ERR_KEY_INVALID",
      "that is no name of a credential; it has up to 255 printable ASCII characters without / and :",
    );
  const { credentials, unreadable } = await listCredentials(bus, options);
  const found = credentials.find((each) => each.name === name);
  if (found !== undefined) return found.value;
  const [refused] = unreadable;
  if (refused !== undefined) throw refused.error;
  return undefined;
}

function faultOf(
  name: string,
  value: Uint8Array | undefined,
  why: string | undefined,
  total: number,
): string | undefined {
  if (!isCredentialName(name)) return "its name can be no credential's";
  if (value === undefined) return why;
  const most = `${MAX_CREDENTIAL_BYTES} bytes`;
  if (value.length > MAX_CREDENTIAL_BYTES) return `it has more than ${most}`;
  return total + value.length > MAX_CREDENTIAL_BYTES
    ? `all credentials together would have more than ${most}`
    : undefined;
}

function* sourcesOf(bus: Bus, options: CredentialOptions): Generator<Source> {
  const { host = nodeHost(), signal, timeoutMs } = options;
  for (const target of chosenInterfaces(bus, options))
    for (const place of target.bootData?.credentials ?? [])
      yield {
        source: place.source,
        interface: target.name,
        read: () => storedCredentials(target, place, { signal, timeoutMs }),
      };
  yield { source: "command line", read: () => commandLine(host) };
  yield { source: "initrd", read: () => directoryCredentials(host, "initrd", "/run/credentials/@initrd") };
  const own = host.env["CREDENTIALS_DIRECTORY"];
  if (own)
    yield {
      source: "CREDENTIALS_DIRECTORY",
      read: () => directoryCredentials(host, "CREDENTIALS_DIRECTORY", own),
    };
  yield { source: "system", read: () => directoryCredentials(host, "system", "/run/credentials/@system") };
}

async function* storedCredentials(
  target: PvInterface,
  { source, prefix, brokenPrefix }: CredentialPlace,
  limits: CallOptions,
): AsyncGenerator<Found, void, undefined> {
  for (const each of brokenPrefix === undefined ? [prefix] : [prefix, brokenPrefix])
    for await (const { key } of target.list(each, limits)) {
      const [name, where] = [key.slice(each.length), { source, place: key, interface: target.name }];
      if (each !== prefix) yield { ...where, name, value: undefined, why: "its value is no base64" };
      else if (!isCredentialName(name)) yield { ...where, name, value: undefined };
      else yield { ...where, name, value: await target.readBytes(key, limits) };
    }
}

async function* commandLine(host: Host): AsyncGenerator<Found, void, undefined> {
  const line = host.files.read(COMMAND_LINE, MAX_COMMAND_LINE_BYTES)?.toString("utf8") ?? "";
  for (const { name, value } of commandLineCredentials(line))
    yield { source: "command line", place: COMMAND_LINE, name, value, why: "its value is no base64" };
}

async function* directoryCredentials(
  { files }: Host,
  source: string,
  directory: string,
): AsyncGenerator<Found, void, undefined> {
  const failed = (error: unknown): unknown =>
    fromSystemError(error, { doing: `cannot read ${directory}`, advice: { EACCES: "run as root" } });
  let names: readonly string[];
  try {
    names = files.names(directory);
  } catch (error) {
    // It is root's, and says so to all others.
    if (isSystemError(error) && error.code === "ENOENT") return;
    throw failed(error);
  }
  for (const name of names) {
    try {
      const value = files.read(`${directory}/${name}`, MAX_CREDENTIAL_BYTES + 1);
      yield { source, place: `${directory}/${name}`, name, value, why: "it is no file" };
    } catch (error) {
      throw failed(error);
    }
  }
}
