import { decodeBase64 } from "../../../../src/mdata/base64.js";
import { type Endpoint, type Fields, objectOf, parseEndpoint } from "../settings/endpoint.js";

/** Bytes that go with the arguments. */
export interface LaunchBytes {
  /** Which of the two. */
  readonly kind: "bytes";
  /** The value. */
  readonly bytes: Uint8Array;
}

/** A file that the hypervisor reads: nobody sees its content among the arguments of processes. */
export interface LaunchFile {
  /** Which of the two. */
  readonly kind: "file";
  /** Absolute path. */
  readonly path: string;
}

/** A value that a machine gets at its start. */
export type LaunchValue = LaunchBytes | LaunchFile;

/** The static source that carries a key. */
export type LaunchSource = "smbios" | "fwcfg";

/** One key that a machine gets at its start. */
export interface LaunchKey {
  /** The plain key. */
  readonly key: string;
  /** Its value. */
  readonly value: LaunchValue;
  /** What carries it; undefined where the description leaves it open. */
  readonly source: LaunchSource | undefined;
}

/** The metadata channel of a machine. */
export interface LaunchChannel {
  /** Where the host meets the guest. */
  readonly endpoint: Endpoint;
  /** What the guest sees: a virtio-serial port, or the next ISA serial port. Without meaning for vsock. */
  readonly device: "virtio-serial" | "serial";
  /** Name of the virtio-serial port. */
  readonly portName: string;
  /** The firmware says that this is a SmartOS host, so that cloud-init and the mdata tools use the serial port. */
  readonly smartos: boolean;
  /** Context id of the guest, for vsock. */
  readonly cid: number;
}

/** What a machine is to find. */
export interface LaunchDescription {
  /** Reverse domain name under which the keys lie. */
  readonly namespace: string;
  /** The keys. */
  readonly keys: readonly LaunchKey[];
  /** The channel; undefined for none. */
  readonly channel: LaunchChannel | undefined;
}

const FIELDS = ["namespace", "source", "keys", "channel"];
const VALUE_FIELDS = ["text", "base64", "file", "source"];
const CHANNEL_FIELDS = ["endpoint", "device", "portName", "smartos", "cid"];
const NAMESPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$/;
const FIRST_CID = 3;
const MAX_U32 = 0xffff_ffff;

/** Reads what a machine is to find, as the file's JSON gives it. @throws TypeError that says where the mistake is */
export function parseDescription(document: unknown): LaunchDescription {
  const fields = objectOf(document, "the description", FIELDS);
  const { namespace = "org.pvbus", channel } = fields;
  // The guest takes that ending for the mark of base64.
  if (typeof namespace !== "string" || !NAMESPACE.test(namespace) || namespace.endsWith(".binary"))
    throw new TypeError("namespace must be a reverse domain name, such as org.pvbus");
  const source = sourceOf(fields["source"], "source");
  const keys = Object.entries(objectOf(fields["keys"] ?? {}, "keys"));
  return {
    namespace,
    keys: keys.map(([key, value]) => keyOf(key, value, source)),
    channel: channel === undefined ? undefined : channelOf(channel),
  };
}

function keyOf(key: string, document: unknown, common: LaunchSource | undefined): LaunchKey {
  const where = `keys[${JSON.stringify(key)}]`;
  if (key === "" || /\p{Cc}/u.test(key) || key.trim() !== key || !key.isWellFormed())
    throw new TypeError(`${where}: a key is text without control characters or blanks at its ends`);
  const fields: Fields =
    typeof document === "string" ? { text: document } : objectOf(document, where, VALUE_FIELDS);
  const source = sourceOf(fields["source"], `${where}.source`) ?? common;
  return { key, value: valueIn(fields, where), source };
}

function valueIn({ text, base64, file }: Fields, where: string): LaunchValue {
  const [value, ...others] = [text, base64, file].filter((each) => each !== undefined);
  if (others.length > 0 || typeof value !== "string")
    throw new TypeError(`${where} takes one of text, base64 and file`);
  if (file !== undefined) {
    if (value.startsWith("/") && !value.includes("\0")) return { kind: "file", path: value };
    throw new TypeError(`${where}.file must be an absolute path: the hypervisor opens it`);
  }
  const bytes = text === undefined ? decodeBase64(value) : Buffer.from(value);
  if (bytes === undefined) throw new TypeError(`${where}.base64 is no padded base64`);
  return { kind: "bytes", bytes };
}

function sourceOf(value: unknown, where: string): LaunchSource | undefined {
  if (value === undefined || value === "smbios" || value === "fwcfg") return value;
  throw new TypeError(`${where} is smbios or fwcfg`);
}

function channelOf(document: unknown): LaunchChannel {
  const fields = objectOf(document, "channel", CHANNEL_FIELDS);
  const { endpoint, device = "virtio-serial", portName = "org.pvbus.mdata.0", smartos = false } = fields;
  const { cid = FIRST_CID } = fields;
  if (typeof endpoint !== "string")
    throw new TypeError("channel.endpoint says where the host meets the guest");
  if (device !== "virtio-serial" && device !== "serial")
    throw new TypeError("channel.device is virtio-serial or serial");
  if (typeof portName !== "string" || !/^[\x21-\x7e]{1,100}$/.test(portName) || portName.includes("/"))
    throw new TypeError("channel.portName must be a name, such as org.pvbus.mdata.0");
  if (typeof smartos !== "boolean") throw new TypeError("channel.smartos is true or false");
  if (smartos && device !== "serial") throw new TypeError("channel.smartos needs the device serial");
  if (!Number.isInteger(cid) || (cid as number) < FIRST_CID || (cid as number) >= MAX_U32)
    throw new TypeError(`channel.cid must be a number from ${FIRST_CID}`);
  return { endpoint: parseEndpoint(endpoint), device, portName, smartos, cid: cid as number };
}
