import { randomBytes } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import type { Server } from "node:net";
import { basename, dirname, join, resolve } from "node:path";
import { type PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { foreignHand, nameOf, ourselves } from "../../../src/base/host/ownership.js";
import {
  type Held,
  type HeldName,
  hasDescriptors,
  holdBelow,
  type Look,
  watchfulWalker,
} from "../../../src/base/host/tree.js";
import { isServed } from "../../../src/base/host/unix-stream.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import { checkSocketPath, type SocketOwner } from "./settings/endpoint.js";

/*
 * A socket may lie in a directory of the user who it is for, and that user may put anything in the place of any name there, at any
 * moment. So a name is only ever looked up in a directory that is held, links are not followed, and what is changed (mode, owner)
 * is what was bound, held by a descriptor as well.
 */

const PRIVATE = 0o077;

/**
 * Holds the socket that a path leads to, over links of root and of this process's user alone: who owns the directory may be the
 * one who serves there, but he does not send us elsewhere. @throws PvbusError `ERR_PERMISSION`
 */
export function holdSocket(path: string): Held | undefined {
  const walker = watchfulWalker("/", ({ path: at, stats }, directory) => {
    const why = faultOfLink(stats, directory);
    if (why !== undefined) throw pvbusError("ERR_PERMISSION", `${nameOf(at)} ${why}; name what it leads to`);
  });
  return holdBelow("/", resolve(path), walker);
}

/** Returns a name that stays what it is, since nobody else can change its directory. */
export function nameOnly(path: string): HeldName {
  return { path, [Symbol.dispose]: () => undefined };
}

class ListeningSocket {
  readonly #path: string;
  readonly #name: string;
  readonly #directory: Held;
  readonly #owner: SocketOwner | undefined;
  #room: Held | undefined;
  #bound: fs.Stats | undefined;

  private constructor(path: string, directory: Held, owner: SocketOwner | undefined) {
    this.#path = path;
    this.#name = basename(resolve(path));
    this.#directory = directory;
    this.#owner = owner;
  }

  /** @throws PvbusError `ERR_PERMISSION` when others than root, this process's user and `owner` can change the directory or the way to it */
  static open(path: string, owner: SocketOwner | undefined): ListeningSocket {
    checkSocketPath(path);
    const look = guard(path, owner);
    const directory = holdBelow("/", dirname(resolve(path)), watchfulWalker("/", look.onTheWay));
    if (directory === undefined)
      throw pvbusError(
        "ERR_UNAVAILABLE",
        `cannot listen at ${path}: its directory is not there; make it first`,
      );
    try {
      look.atTheEnd(directory);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
    return new ListeningSocket(path, directory, owner);
  }

  /** Takes away the socket of a server of ours that is gone, and nothing else. */
  async clear(): Promise<void> {
    using found = this.#entry(this.#directory, this.#name);
    if (found === undefined) return;
    if (!found.stats.isSocket()) throw this.#failure("ERR_UNAVAILABLE", "is no socket");
    if (await isServed(() => nameOnly(found.path), new Call())) {
      const advice = "end it, or write connect:PATH where that is the hypervisor";
      throw pvbusError("ERR_BUSY", `another program serves at ${this.#path}; ${advice}`);
    }
    const { uid } = found.stats;
    if (!ourselves().has(uid) && uid !== this.#owner?.uid)
      throw this.#failure("ERR_PERMISSION", `is a socket of user ${uid}`);
    this.#remove(found.stats);
  }

  /**
   * Has a server listen here. The socket is born in a directory of its own, which only we may enter, gets its mode there, and comes
   * to its place when it has it: a mask would do for the mode, but is the whole process's and not to be had in worker threads.
   */
  async bind(server: Server): Promise<void> {
    const made = fs.mkdtempSync(join(this.#directory.path, ".pvbus-"));
    try {
      this.#room = this.#entry(this.#directory, basename(made));
      const room = this.#room;
      if (!room?.stats.isDirectory() || !isOurs(room.stats) || (room.stats.mode & PRIVATE) !== 0)
        throw this.#failure("ERR_PERMISSION", "lies in a directory that somebody is changing");
      // Node removes this name when the server is closed, whatever the descriptor stands for by then: nothing else may have it.
      const name = randomBytes(8).toString("hex");
      const inside = join(room.path, name);
      checkSocketPath(inside);
      server.listen(inside);
      await once(server, "listening");
      try {
        this.#settle(inside, room, name);
      } finally {
        unlink(inside);
      }
    } finally {
      try {
        fs.rmdirSync(made);
      } catch {
        // Who owns the directory may have moved it away, and has an empty directory then.
      }
    }
  }

  /** Takes the socket's name away, where it is still the one that was bound. Before the server is closed: an inode may come again. */
  remove(): void {
    try {
      if (this.#bound !== undefined) this.#remove(this.#bound);
    } catch {
      // Who owns the directory may have made something else of it: his affair.
    }
    this.#bound = undefined;
  }

  close(): void {
    this.#room?.[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }

  #settle(inside: string, room: Held, name: string): void {
    using socket = this.#entry(room, name);
    const { stats } = socket ?? {};
    if (socket === undefined || !stats?.isSocket() || !isOurs(stats) || stats.nlink !== 1)
      throw this.#failure("ERR_PERMISSION", "is not what was bound; somebody is changing its directory");
    fs.chmodSync(socket.path, 0o600);
    // Unlike a rename it replaces nothing. Before the change of owner: others' files are not to be linked (protected_hardlinks).
    fs.linkSync(inside, join(this.#directory.path, this.#name));
    this.#bound = stats;
    if (this.#owner === undefined) return;
    const { uid, gid } = this.#owner;
    // Through the descriptor's own link; where there are none the directory is root's or ours.
    if (hasDescriptors()) fs.chownSync(socket.path, uid, gid);
    else fs.lchownSync(inside, uid, gid);
  }

  #remove({ ino, dev }: fs.Stats): void {
    const path = join(this.#directory.path, this.#name);
    const found = fs.lstatSync(path, { throwIfNoEntry: false });
    if (found?.ino === ino && found.dev === dev) unlink(path);
  }

  #entry(directory: Held, name: string): Held | undefined {
    const walker = watchfulWalker(directory.path, ({ stats }) => {
      if (stats.isSymbolicLink()) throw this.#failure("ERR_UNAVAILABLE", "is no socket");
    });
    return holdBelow(directory.path, name, walker);
  }

  #failure(code: "ERR_UNAVAILABLE" | "ERR_PERMISSION", what: string): PvbusError {
    return pvbusError(
      code,
      `cannot listen at ${this.#path}: it ${what}; choose another path or move it away`,
    );
  }
}

/**
 * Refuses what others than root, this process's user and the socket's owner can change. On the way a sticky directory will do, where
 * all may make names and take nobody's; at its end only for a socket that stays ours.
 */
function guard(path: string, owner: SocketOwner | undefined): { onTheWay: Look; atTheEnd: Look } {
  const us = ourselves();
  // Without descriptors names are all there is, and they hold only where nobody else can change them.
  const trusted = owner === undefined || !hasDescriptors() ? us : new Set([...us, owner.uid]);
  const look =
    (sticky: boolean): Look =>
    ({ path: at, stats }, directory) => {
      const why = foreignHand(stats, { trusted, sticky }) ?? faultOfLink(stats, directory);
      if (why === undefined) return;
      const who = owner === undefined ? "" : ` and socketOwner (${owner.uid})`;
      const rule = `only root, the host's user${who} may write where it listens`;
      const advice = "chmod go-w or chown it, or choose another directory";
      throw pvbusError(
        "ERR_PERMISSION",
        `cannot listen at ${path}: ${nameOf(at)} ${why}; ${rule}: ${advice}`,
      );
    };
  return { onTheWay: look(true), atTheEnd: look(owner === undefined) };
}

/** Says why a link is not followed: somebody else made it, or can put another in its place. */
function faultOfLink(stats: fs.Stats, directory: fs.Stats | undefined): string | undefined {
  if (!stats.isSymbolicLink() || directory === undefined) return undefined;
  const rule = { trusted: ourselves(), sticky: true };
  const why = foreignHand(stats, rule) ?? foreignHand(directory, rule);
  return why && `is a link, and it or its directory ${why}`;
}

function isOurs({ uid }: fs.Stats): boolean {
  const us = ourselves();
  return us.size === 0 || us.has(uid);
}

function unlink(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Has a server listen at a path, as a socket that only its owner may use. @returns what ends it; connections stay */
export async function listenAt(
  server: Server,
  path: string,
  owner: SocketOwner | undefined,
): Promise<() => Promise<void>> {
  let socket: ListeningSocket | undefined;
  const close = async (): Promise<void> => {
    socket?.remove();
    if (server.listening) await new Promise<void>((done) => void server.close(() => done()));
    socket?.close();
  };
  try {
    socket = ListeningSocket.open(path, owner);
    await socket.clear();
    await socket.bind(server);
    return close;
  } catch (error) {
    await close();
    throw fromSystemError(error, {
      doing: `cannot listen at ${path}`,
      codes: { EEXIST: "ERR_BUSY", EADDRINUSE: "ERR_BUSY" },
    });
  }
}
