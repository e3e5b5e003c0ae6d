import { pvbusError } from "../errors.js";
import type { Host } from "./host.js";

/*
 * Channels as users name them. One rule below a sysroot: a path is one of the machine, and is opened through `host.files`
 * alone, which never leads outside; a device that was named is opened though its node stands for one of this very machine
 * (`isNamed`); a vsock address is this machine's all the same.
 */

/** A place of the file system: a socket that others serve or that we do, a port, a serial line, a kernel's device. */
export interface PathChannel {
  /** `port` may also be a port's name, which has no slash. */
  readonly kind: "unix" | "connect" | "port" | "serial" | "device";
  readonly text: string;
  readonly path: string;
}

/** An address of vsock. */
export interface VsockChannel {
  readonly kind: "vsock";
  readonly text: string;
  readonly cid: number;
  readonly port: number;
}

/** The socket that stands for a guest's vsock on its host (Firecracker, Cloud Hypervisor). */
interface VsockSocketChannel {
  readonly kind: "vsock-socket";
  readonly text: string;
  /** Path that the hypervisor was given. */
  readonly path: string;
  /** Port that the guest connects to. */
  readonly port: number;
}

/** A channel, taken apart; `text` is how it was named. */
export type Channel = PathChannel | VsockChannel | VsockSocketChannel;

/** The kinds that there are. */
export type ChannelKind = Channel["kind"];

/** The channel of some kinds. */
export type ChannelOf<K extends ChannelKind> = K extends PathChannel["kind"]
  ? PathChannel & { readonly kind: K }
  : Extract<Channel, { kind: K }>;

const FORMS: Readonly<Record<ChannelKind, string>> = {
  unix: "unix:PATH",
  connect: "connect:PATH",
  port: "port:PATH",
  serial: "serial:PATH",
  device: "device:PATH",
  vsock: "vsock:CID:PORT",
  "vsock-socket": "vsock:PATH:PORT",
};
const MAX_U32 = 0xffff_ffff;
/** What sun_path holds without its NUL: 108 bytes on Linux, 104 elsewhere. Longer ones were cut silently in the past. */
export const MAX_PATH_BYTES = process.platform === "linux" ? 107 : 103;
/** Characters of a channel that a message repeats. */
const LONGEST_SHOWN = 200;

/** Reports whether a path is too long for a socket. */
export function isTooLong(path: string): boolean {
  return Buffer.byteLength(path) > MAX_PATH_BYTES;
}

/** What a provider takes for a channel. */
export interface ChannelGrammar<K extends ChannelKind> {
  /** Whose channels they are, in messages: `KVM`. */
  readonly of: string;
  /** Kinds that there are, each with its form for messages where that says more than the usual one. */
  readonly kinds: Readonly<Record<K, string | true>>;
}

/** Takes a channel apart; undefined where it is none of these kinds. */
export function readChannel<K extends ChannelKind>(
  text: string,
  kinds: Readonly<Record<K, unknown>>,
): ChannelOf<K> | undefined {
  const at = text.indexOf(":");
  const rest = text.slice(at + 1);
  if (at < 1 || rest === "" || rest.includes("\0")) return undefined;
  for (const kind of Object.keys(kinds) as K[]) {
    const channel = FORMS[kind].startsWith(text.slice(0, at + 1)) ? channelOf(kind, text, rest) : undefined;
    if (channel !== undefined) return channel as ChannelOf<K>;
  }
  return undefined;
}

/**
 * Takes apart a channel that the user named.
 * @throws PvbusError `ERR_NOT_SUPPORTED`, naming the forms, for one that the provider does not know; `ERR_UNAVAILABLE` for a
 *   socket whose path is longer than the system takes
 */
export function parseChannel<K extends ChannelKind>(
  text: string,
  { of, kinds }: ChannelGrammar<K>,
  { sysroot }: Pick<Host, "sysroot">,
): ChannelOf<K> {
  const channel = readChannel(text, kinds);
  if (channel === undefined) {
    const shown = text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
    throw pvbusError("ERR_NOT_SUPPORTED", `${of} has no channel "${shown}"; name one as ${formsOf(kinds)}`);
  }
  // Below a sysroot the way to it is another one, and short.
  if (channel.kind === "unix" && sysroot === undefined && isTooLong(channel.path))
    throw pvbusError("ERR_UNAVAILABLE", "the path of the socket is longer than the system takes; shorten it");
  return channel;
}

/** Names the forms of some kinds: `unix:PATH, port:PATH or vsock:CID:PORT`. */
export function formsOf(kinds: Readonly<Partial<Record<ChannelKind, unknown>>>): string {
  const forms = (Object.entries(kinds) as [ChannelKind, unknown][]).map(([kind, form]) =>
    typeof form === "string" ? form : FORMS[kind],
  );
  const last = forms.pop();
  return forms.length === 0 ? `${last}` : `${forms.join(", ")} or ${last}`;
}

function channelOf(kind: ChannelKind, text: string, rest: string): Channel | undefined {
  if (kind === "vsock") {
    const [, cid, port] = /^(\d{1,10}):(\d{1,10})$/.exec(rest) ?? [];
    if (cid === undefined || Number(cid) > MAX_U32 || Number(port) > MAX_U32) return undefined;
    return { kind, text, cid: Number(cid), port: Number(port) };
  }
  if (kind === "vsock-socket") {
    const at = rest.lastIndexOf(":");
    const port = rest.slice(at + 1);
    if (at < 1 || !/^\d{1,10}$/.test(port) || Number(port) > MAX_U32) return undefined;
    return { kind, text, path: rest.slice(0, at), port: Number(port) };
  }
  return { kind, text, path: rest };
}
