import type { Stats } from "node:fs";
import { PvbusError } from "../../../src/base/errors.js";
import { onAbort, pause } from "../../../src/base/flow/abort.js";
import { Call } from "../../../src/base/flow/call.js";
import type { HostFiles } from "../../../src/base/host/files.js";
import type { Held } from "../../../src/base/host/tree.js";
import { UnixStream } from "../../../src/base/host/unix-stream.js";
import type { Connection, ConnectionEvents, TakenLine } from "../../../src/mdata/client/transport.js";

/** Where a program that keeps a line lets others in: a socket in a directory of its user's own. */
export interface SharedSocket {
  readonly files: HostFiles;
  readonly directory: string;
  readonly name: string;
}

/** So often whoever waits for a line looks whether it is shared by now. */
const LOOK_MS = 200;
/** Rights of others to put something into a directory. */
const OTHERS_WRITE = 0o022;

/** Opens a line; where another program has it and shares it, a part of it. @throws as the opening of the line */
export async function openOrJoin(
  shared: SharedSocket,
  open: () => Promise<Connection | TakenLine>,
  events: ConnectionEvents,
  call: Call,
): Promise<Connection> {
  let opened: Connection | TakenLine;
  try {
    opened = await open();
  } catch (error) {
    if (!PvbusError.is(error) || error.code !== "ERR_BUSY") throw error;
    const part = await joinLine(shared, events, call);
    if (part !== undefined) return part;
    throw error;
  }
  return "wait" in opened ? waitOrJoin(opened, shared, events, call) : opened;
}

/** Waits until a line is free, or until the program that has it shares it. */
async function waitOrJoin(
  taken: TakenLine,
  shared: SharedSocket,
  events: ConnectionEvents,
  { signal, remainingMs }: Call,
): Promise<Connection> {
  const stop = new AbortController();
  const forget = onAbort(signal, () => stop.abort(signal?.reason));
  const call = new Call({ signal: stop.signal, timeoutMs: remainingMs });
  const over = new AbortController();
  events.onBusy?.(() => taken.busy());
  const waiting = taken.wait(call).finally(() => {
    events.onBusy?.(undefined);
    over.abort();
  });
  // It may be given up before it settles.
  waiting.catch(() => undefined);
  try {
    while (!over.signal.aborted) {
      const part = await joinLine(shared, events, call);
      if (part !== undefined) {
        stop.abort();
        // Where both come at once, what shared the line is about to end.
        const own = await waiting.catch(() => undefined);
        if (own === undefined) return part;
        await part.close();
        break;
      }
      await pause(LOOK_MS, over.signal);
    }
    return await waiting;
  } finally {
    forget();
  }
}

/** Returns a part of a line that another program shares; undefined where nobody does. */
async function joinLine(
  shared: SharedSocket,
  events: ConnectionEvents,
  call: Call,
): Promise<Connection | undefined> {
  const name = `unix:${shared.directory}/${shared.name}`;
  try {
    const stream = await UnixStream.connect(() => holdShared(shared), { name, ...events }, call);
    return Object.assign(stream, { isPart: true });
  } catch {
    return undefined;
  }
}

/** Holds the socket of a program that may be trusted with a line. @throws an error for any other */
function holdShared({ files, directory, name }: SharedSocket): Held {
  using held = files.hold(directory);
  if (held === undefined || !isSafe(held.stats)) throw new Error("no directory that is safe");
  const socket = files.hold(`${directory}/${name}`);
  // The directory may have been replaced meanwhile: then the socket is not ours either.
  if (socket?.stats.isSocket() && isOurs(socket.stats)) return socket;
  socket?.[Symbol.dispose]();
  throw new Error("no socket that is safe");
}

/** Reports whether what is there is a directory of this user or of root to which others have none of these rights. */
export function isSafe(stats: Stats, rights = OTHERS_WRITE): boolean {
  return stats.isDirectory() && (stats.mode & rights) === 0 && isOurs(stats);
}

function isOurs({ uid }: Stats): boolean {
  return uid === 0 || uid === process.geteuid?.();
}
