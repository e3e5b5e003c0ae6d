import { PvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { type HostctlErrno, HostctlError } from "../../src/base/hostctl-error.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import { XenStoreRefusal } from "./protocol/refusals.js";

/** What hostctl(8) needs of a store; paths are XenStore's own. */
export interface HostctlNodes {
  /** Reads a value; undefined when there is no such node. */
  read(path: string, call: Call): Promise<Uint8Array | undefined>;
  write(path: string, value: Uint8Array, call: Call): Promise<void>;
  /** Returns the names of a node's children; undefined when there is no such node. */
  directory(path: string, call: Call): Promise<readonly string[] | undefined>;
}

/** Largest payload of a request or reply (OpenBSD sys/dev/pv/xenstore.c); a larger one is EIO or EMSGSIZE. */
const MOST = 1024;
/** Errors that the driver knows; all others are EOPNOTSUPP. */
const KNOWN: readonly HostctlErrno[] = [
  "EINVAL",
  "EACCES",
  "EEXIST",
  "EISDIR",
  "ENOENT",
  "ENOMEM",
  "ENOSPC",
  "EIO",
  "ENOTEMPTY",
  "ENOSYS",
  "EROFS",
  "EBUSY",
  "EAGAIN",
  "EISCONN",
];

/**
 * XenStore as OpenBSD's kernel serves it: the key is the path; reading a node without a value lists its children. A
 * difference that is meant: a value longer than 1024 bytes is refused with EMSGSIZE as there, one that holds a NUL is
 * given whole. Source: OpenBSD sys/dev/pv/xenstore.c.
 */
export class XenHostctlStore implements HostctlStore {
  readonly #nodes: HostctlNodes;

  constructor(nodes: HostctlNodes) {
    this.#nodes = nodes;
  }

  /** Reads a value, or the names of the children joined by line ends where it is empty. */
  async read(key: Uint8Array, valueLength: number, call: Call): Promise<Uint8Array> {
    const path = text(key);
    const value = await answer(this.#nodes.read(path, call));
    if (value === undefined) throw new HostctlError("ENOENT");
    if (value.length > MOST) throw new HostctlError("EMSGSIZE");
    const found = value.length > 0 ? value : await this.#names(path, call);
    if (found.length >= valueLength) throw new HostctlError("ERANGE");
    return found;
  }

  /** Writes a value; nothing stays in the buffer. */
  async write(key: Uint8Array, value: Uint8Array, call: Call): Promise<Uint8Array> {
    if (key.length + 1 + value.length > MOST) throw new HostctlError("EIO");
    await answer(this.#nodes.write(text(key), value, call));
    return new Uint8Array(0);
  }

  async #names(path: string, call: Call): Promise<Uint8Array> {
    const names = await answer(this.#nodes.directory(path, call));
    if (names === undefined) throw new HostctlError("ENOENT");
    const joined = Buffer.from(names.join("\n"));
    // On the wire each name has a NUL.
    if (names.length > 0 && joined.length + 1 > MOST) throw new HostctlError("EMSGSIZE");
    return joined;
  }
}

function text(key: Uint8Array): string {
  if (key.length + 1 > MOST) throw new HostctlError("EIO");
  return Buffer.from(key).toString("latin1");
}

async function answer<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    const refused =
      PvbusError.is(error) && error.cause instanceof XenStoreRefusal ? error.cause.code : undefined;
    if (refused === undefined) throw error;
    throw new HostctlError(KNOWN.find((each) => each === refused) ?? "EOPNOTSUPP", error);
  }
}
