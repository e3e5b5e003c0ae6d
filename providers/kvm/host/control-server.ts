import type { Socket } from "node:net";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Logger } from "../../../src/base/host/host.js";
import { base64Length } from "../../../src/mdata/base64.js";
import { LineReader } from "../../../src/mdata/line-reader.js";
import type { GuestTurns } from "../../../src/mdata/server/turns.js";
import { type Administration, LocalAdministration } from "./administration.js";
import { decodeOrder, encodeReport, type Order, type Report } from "./control-messages.js";
import { listen, type OpenEndpoint } from "./endpoints.js";
import { ADMINISTRATOR_LIMITS } from "./limits.js";
import type { Presences } from "./presence.js";
import { checkGuestName, controlPath, type StateDirectory } from "./state-directory.js";

/** What stands around key and value in an order; keys may be escaped to six times their length. */
const OVERHEAD_BYTES = 16 * 1024;
/** An order that does not come to its end is given up. */
const IDLE_MS = 60_000;

/**
 * Takes orders for the keys of all guests, at the socket in the state directory.
 * @param presences which guests are there
 * @param turns those of the administrators, all together
 */
export function openControl(
  state: StateDirectory,
  presences: Presences,
  turns: GuestTurns,
  logger: Logger,
): Promise<OpenEndpoint> {
  const administration = new LocalAdministration(state, presences);
  const sockets = new Set<Socket>();
  const endpoint = listen(controlPath(state.path), {
    onConnection: async (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.once("error", () => socket.destroy());
      socket.setTimeout(IDLE_MS, () => socket.destroy());
      try {
        await converse(socket, { administration, turns, logger });
      } catch (error) {
        logger.debug("an order was given up", { reason: (error as Error).message });
        socket.destroy();
      }
    },
  });
  return endpoint.then(({ close }) => ({
    close: async () => {
      const closing = close();
      for (const socket of sockets) socket.destroy();
      await closing;
    },
  }));
}

interface Desk {
  readonly administration: Administration;
  readonly turns: GuestTurns;
  readonly logger: Logger;
}

async function converse(socket: Socket, { administration, turns, logger }: Desk): Promise<void> {
  const line = await firstLine(socket);
  // Whoever only looks whether a host runs sends nothing.
  if (line === undefined) return;
  const order = decodeOrder(line);
  try {
    if (order === undefined)
      throw pvbusError("ERR_PROTOCOL", "the host does not know this order; update both");
    if ("guest" in order) checkName(order.guest);
    for await (const report of carryOut(order, administration, untilClosed(socket, order))) {
      await send(socket, report);
      await turns.next();
    }
  } catch (error) {
    if (!PvbusError.is(error)) logger.error("an order failed", { reason: (error as Error).message });
    const known = PvbusError.is(error)
      ? error
      : pvbusError("ERR_UNAVAILABLE", "internal error; see the host's log");
    await send(socket, { error: known });
  }
  socket.end();
}

/** Who follows a key says nothing more, and ends by going away: that has to be heard, and may take for ever. */
function untilClosed(socket: Socket, order: Order): AbortSignal {
  const ending = new AbortController();
  if (order.do === "follow") {
    socket.once("close", () => ending.abort());
    socket.setTimeout(0).resume();
    if (socket.destroyed) ending.abort();
  }
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

async function* carryOut(
  order: Order,
  administration: Administration,
  signal: AbortSignal,
): AsyncGenerator<Report> {
  let outcome = true;
  switch (order.do) {
    case "guests":
      for (const name of await administration.guests()) yield { name };
      break;
    case "damages":
      yield* await administration.damages();
      break;
    case "get": {
      const value = await administration.get(order.guest, order.key);
      outcome = value !== undefined;
      if (value !== undefined) yield { key: order.key, value };
      break;
    }
    case "set":
      await administration.set(order.guest, order.key, order.value);
      break;
    case "delete":
      outcome = await administration.delete(order.guest, order.key);
      break;
    case "follow":
      for await (const { presence = "never", value } of administration.follow(order.guest, order.key, {
        signal,
      }))
        yield value === undefined ? { presence } : { presence, value };
      break;
    case "list":
      yield* administration.list(order.guest, order.prefix);
      break;
  }
  yield { done: outcome };
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

async function send(socket: Socket, report: Report): Promise<void> {
  if (socket.destroyed) throw new Error("the connection is gone");
  if (socket.write(encodeReport(report))) return;
  await new Promise<void>((resolve, reject) => {
    const gone = (): void => reject(new Error("the connection is gone"));
    socket.once("close", gone);
    socket.once("drain", () => {
      socket.off("close", gone);
      resolve();
    });
  });
}
