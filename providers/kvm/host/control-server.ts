import type { Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Logger } from "../../../src/base/host/host.js";
import { base64Length } from "../../../src/mdata/base64.js";
import { LineReader } from "../../../src/mdata/line-reader.js";
import type { GuestTurns } from "../../../src/mdata/server/turns.js";
import { carryOut, type ServingHost } from "./administration.js";
import { decodeOrder, encodeReport } from "./control-messages.js";
import { listen } from "./endpoints.js";
import { ADMINISTRATOR_LIMITS } from "./limits.js";
import type { Presences } from "./presence.js";
import { checkGuestName, controlPath, type StateDirectory } from "./state-directory.js";

/** What stands around key and value in an order; keys may be escaped to six times their length. */
const OVERHEAD_BYTES = 16 * 1024;
/** An order that does not come to its end is given up. */
const IDLE_MS = 60_000;

/** Takes orders at the socket in the state directory. @param turns of all administrators together @returns what ends that */
export async function openControl(
  state: StateDirectory,
  presences: Presences,
  turns: GuestTurns,
  logger: Logger,
): Promise<() => Promise<void>> {
  const sockets = new Set<Socket>();
  const close = await listen(controlPath(state.path), {
    onConnection: async (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.once("error", () => socket.destroy());
      socket.setTimeout(IDLE_MS, () => socket.destroy());
      try {
        const line = await firstLine(socket);
        // Whoever only looks whether a host runs sends nothing.
        const host = { presences, gone: untilClosed(socket, line) };
        if (line !== undefined) await pipeline(answer(line, state, host, turns, logger), socket);
      } catch (error) {
        logger.debug("an order was given up", { reason: (error as Error).message });
        socket.destroy();
      }
    },
  });
  return async () => {
    const closing = close();
    for (const socket of sockets) socket.destroy();
    await closing;
  };
}

async function* answer(
  line: string,
  state: StateDirectory,
  host: ServingHost,
  turns: GuestTurns,
  logger: Logger,
): AsyncGenerator<string> {
  const order = decodeOrder(line);
  try {
    if (order === undefined)
      throw pvbusError("ERR_PROTOCOL", "the host does not know this order; update both");
    if ("guest" in order) checkName(order.guest);
    for await (const report of carryOut(order, state, host)) {
      yield encodeReport(report);
      await turns.next();
    }
  } catch (error) {
    if (!PvbusError.is(error)) logger.error("an order failed", { reason: (error as Error).message });
    const known = PvbusError.is(error)
      ? error
      : pvbusError("ERR_UNAVAILABLE", "internal error; see the host's log");
    yield encodeReport({ error: known });
  }
}

/** Who follows a key says nothing more, and ends by going away: that has to be heard, and may take for ever. */
function untilClosed(socket: Socket, line: string | undefined): AbortSignal {
  const ending = new AbortController();
  socket.once("close", () => ending.abort());
  if (line !== undefined && decodeOrder(line)?.do === "follow") socket.setTimeout(0).resume();
  if (socket.destroyed) ending.abort();
  return ending.signal;
}

/** A client of ours has looked before; whoever else speaks is told too. */
function checkName(guest: string): void {
  try {
    checkGuestName(guest);
  } catch (error) {
    throw pvbusError("ERR_UNAVAILABLE", (error as Error).message);
  }
}

/** Returns the one line that a connection sends; undefined when it ends before, or sends more than an order can have. */
async function firstLine(socket: Socket): Promise<string | undefined> {
  const reader = new LineReader(base64Length(ADMINISTRATOR_LIMITS.maxValueBytes) + OVERHEAD_BYTES);
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    reader.push(chunk);
    const line = reader.next();
    if (line !== undefined) return reader.isTooLong(line) ? "" : line.bytes.toString("utf8");
  }
  return undefined;
}
