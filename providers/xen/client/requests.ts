import { pvbusError } from "../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { checkNodePath, checkPath, checkRemovable } from "../protocol/keys.js";
import * as operations from "../protocol/operations.js";
import { formatPermission, type Permission } from "../protocol/permissions.js";
import { isRefusal } from "../protocol/refusals.js";
import { decodeDirectoryPart, XENSTORE_PAYLOAD_MAX } from "../protocol/wire.js";
import { PendingRequest } from "./pending.js";

/** What each operation accepts: a running call, or the options of one. */
export type CallLike = Call | CallOptions;

/** Returns the running call. */
export function callOf(call: CallLike | undefined): Call {
  return call instanceof Call ? call : new Call(call);
}

/** How often a long listing is begun again when the directory changes meanwhile, before it takes another way. */
const PLAIN_LISTINGS = 3;
/** Bytes of the longest listing that is taken in parts. */
const LONGEST_LISTING = 1 << 20;

/**
 * Reading and changing nodes, outside a transaction or in one. Paths are XenStore's own: `/absolute`, or relative to the
 * domain's directory; of A-Z a-z 0-9 - _ @ and single slashes. They, and all sizes, are checked before anything is sent.
 *
 * Every operation may reject with `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`, `ERR_PERMISSION`, `ERR_TIMEOUT`, `ERR_ABORTED`,
 * `ERR_UNAVAILABLE`, `ERR_DISCONNECTED`, `ERR_PROTOCOL`; a refusal's cause is a {@link XenStoreRefusal}. A change whose call
 * ended early may still have been made.
 */
export abstract class XenStoreRequests {
  /** @internal Sends one request. */
  protected abstract ask<T>(request: PendingRequest<T>, call: Call): Promise<T>;

  /** Reads a value, which may be any bytes; undefined when there is no such node. The array belongs to the caller. */
  read(path: string, call?: CallLike): Promise<Buffer | undefined> {
    return this.#ask(operations.READ, path, call);
  }

  /** Reads a value as UTF-8 text; undefined when there is no such node. */
  readText(path: string, call?: CallLike): Promise<string | undefined> {
    return this.#ask(operations.READ_TEXT, path, call);
  }

  /**
   * Writes a value; creates the node, and its parents with empty values.
   * @param value any bytes; path and value have 4095 bytes at most (4079 through a Linux or FreeBSD device), and a guest's
   *   quotas may be smaller
   * @throws PvbusError also `ERR_VALUE_TOO_LONG`, `ERR_NO_SPACE`
   */
  async write(path: string, value: string | Uint8Array, call?: CallLike): Promise<void> {
    checkNodePath(path);
    // The caller may use its array again while the request waits for its turn; what is too long is never sent.
    const bytes =
      value.length > XENSTORE_PAYLOAD_MAX && typeof value !== "string" ? value : Buffer.from(value as string);
    await this.ask(new PendingRequest(operations.WRITE, path, bytes), callOf(call));
  }

  /** Creates a node with an empty value, and its parents; nothing changes when it is there. */
  async mkdir(path: string, call?: CallLike): Promise<void> {
    checkNodePath(path);
    await this.ask(new PendingRequest(operations.MKDIR, path), callOf(call));
  }

  /**
   * Removes a node with all that is below it.
   * @returns false when neither it nor its parent was there; true does not say that it was there
   * @throws PvbusError `ERR_NOT_SUPPORTED` for `/`: oxenstored would empty the whole store
   */
  async rm(path: string, call?: CallLike): Promise<boolean> {
    checkRemovable(path);
    return this.ask(new PendingRequest(operations.RM, path), callOf(call));
  }

  /**
   * Returns the names of a node's children, of any number; undefined when there is no such node. More than 4096 bytes of them
   * come in parts, which are asked for again, until the call is over, when the directory changes meanwhile.
   * @throws PvbusError `ERR_NOT_SUPPORTED` when they have more than 4096 bytes and the daemon cannot give them in parts
   */
  async directory(path: string, call?: CallLike): Promise<string[] | undefined> {
    checkPath(path);
    const running = callOf(call);
    try {
      return await this.ask(new PendingRequest(operations.DIRECTORY, path), running);
    } catch (error) {
      if (!isRefusal(error, "E2BIG")) throw error;
    }
    for (let attempt = 0; ; attempt++) {
      const steady = attempt < PLAIN_LISTINGS ? undefined : this.steadyDirectory;
      if (steady !== undefined) return steady.call(this, path, running);
      const names = await this.#longDirectory(path, running);
      if (names !== "changed") return names;
    }
  }

  /** @internal Lists a long directory that changes all the time; undefined where there is no better way. */
  protected steadyDirectory?(path: string, call: Call): Promise<string[] | undefined>;

  /** Returns a node's permissions, its owner first; undefined when there is no such node. */
  permissions(path: string, call?: CallLike): Promise<Permission[] | undefined> {
    return this.#ask(operations.GET_PERMS, path, call);
  }

  /**
   * Replaces a node's permissions; only its owner may.
   * @param permissions the owner first; guests may have 4 entries on every daemon
   * @returns false when there is no such node
   */
  async setPermissions(path: string, permissions: readonly Permission[], call?: CallLike): Promise<boolean> {
    checkPath(path);
    if (permissions.length === 0)
      throw new RangeError("a node has one permission at least, that of its owner");
    const text = [path, ...permissions.map(formatPermission)].join("\0");
    return this.ask(new PendingRequest(operations.SET_PERMS, text), callOf(call));
  }

  async #longDirectory(path: string, call: Call): Promise<string[] | undefined | "changed"> {
    const names: string[] = [];
    let generation: string | undefined;
    for (let offset = 0; ; ) {
      const request = new PendingRequest(operations.DIRECTORY_PART, `${path}\0${offset}`);
      const payload = await this.ask(request, call);
      if (payload === undefined) return generation === undefined ? undefined : "changed";
      const part = decodeDirectoryPart(payload, offset);
      if (part === undefined)
        throw pvbusError("ERR_PROTOCOL", "the XenStore daemon's answer to DIRECTORY_PART is malformed");
      if (generation !== undefined && part.generation !== generation) return "changed";
      generation = part.generation;
      for (const name of part.names) names.push(name);
      if (part.next === undefined) return names;
      if (part.next > LONGEST_LISTING)
        throw pvbusError("ERR_PROTOCOL", "the XenStore daemon lists names without end");
      offset = part.next;
    }
  }

  /** Not async: a read costs one promise. */
  #ask<T>(operation: operations.Operation<T>, path: string, call: CallLike | undefined): Promise<T> {
    try {
      checkPath(path);
      return this.ask(new PendingRequest(operation, path), callOf(call));
    } catch (error) {
      return Promise.reject(error);
    }
  }
}
