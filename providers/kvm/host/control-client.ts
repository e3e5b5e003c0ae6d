import { createConnection, type Socket } from "node:net";
import { resolve } from "node:path";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import type { Administration, GuestEntry } from "./administration.js";
import { decodeReport, encodeOrder, type Order, type Report } from "./control-messages.js";
import { ADMINISTRATOR_LIMITS, checkKey, checkValue } from "./limits.js";
import { checkSocketPath } from "./socket-place.js";
import { checkGuestName, checkOurs, controlPath, type GuestDamage } from "./state-directory.js";

/** Nobody serves there: the host is not running, or was ended without having time to clean up. */
const NOBODY: readonly unknown[] = ["ENOENT", "ECONNREFUSED"];

/**
 * Returns the administration through a running host; undefined when none runs.
 * @throws PvbusError `ERR_PERMISSION` where somebody else could pretend to be the host of that directory
 */
export async function connectControl(directory: string, call: Call): Promise<Administration | undefined> {
  const path = controlPath(directory);
  try {
    checkOurs(resolve(directory));
    checkSocketPath(path);
    (await dial(path, call)).destroy();
    return new RemoteAdministration(path);
  } catch (error) {
    if (NOBODY.includes((error as NodeJS.ErrnoException).code)) return undefined;
    throw fromSystemError(error, { doing: `cannot reach the host at ${path}` });
  }
}

async function dial(path: string, call: Call): Promise<Socket> {
  const socket = createConnection(path);
  const connected = new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  try {
    await call.within(connected, "the host");
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Has a running host do it; each order has a connection of its own. */
class RemoteAdministration implements Administration {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async guests(options?: CallOptions): Promise<string[]> {
    const names: string[] = [];
    for await (const report of this.#order({ do: "guests" }, options))
      if ("name" in report) names.push(report.name);
    return names;
  }

  async get(guest: string, key: string, options?: CallOptions): Promise<Uint8Array | undefined> {
    let found: Uint8Array | undefined;
    for await (const report of this.#order({ do: "get", guest, key }, options))
      if ("value" in report) found = report.value;
    return found;
  }

  async set(guest: string, key: string, value: Uint8Array, options?: CallOptions): Promise<void> {
    // What the host would refuse is not sent.
    checkKey(key, ADMINISTRATOR_LIMITS);
    checkValue(key, value, ADMINISTRATOR_LIMITS);
    await this.#outcome({ do: "set", guest, key, value }, options);
  }

  delete(guest: string, key: string, options?: CallOptions): Promise<boolean> {
    return this.#outcome({ do: "delete", guest, key }, options);
  }

  async *list(
    guest: string,
    prefix = "",
    options?: CallOptions,
  ): AsyncGenerator<GuestEntry, void, undefined> {
    for await (const report of this.#order({ do: "list", guest, prefix }, options))
      if ("value" in report) yield report;
  }

  async damages(options?: CallOptions): Promise<GuestDamage[]> {
    const damages: GuestDamage[] = [];
    try {
      for await (const report of this.#order({ do: "damages" }, options))
        if ("guest" in report) damages.push(report);
      return damages;
    } catch (error) {
      // An older host does not know the order, and kept nothing.
      if (PvbusError.is(error) && error.code === "ERR_PROTOCOL") return [];
      throw error;
    }
  }

  async close(): Promise<void> {
    // Every order has closed its connection.
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #outcome(order: Order, options: CallOptions | undefined): Promise<boolean> {
    let outcome = false;
    for await (const report of this.#order(order, options)) if ("done" in report) outcome = report.done;
    return outcome;
  }

  /** Yields what the host reports, the last word included. @throws PvbusError the host's, `ERR_DISCONNECTED` when it ends */
  async *#order(order: Order, options: CallOptions | undefined): AsyncGenerator<Report, void, undefined> {
    if ("guest" in order) checkGuestName(order.guest);
    const call = new Call(options);
    let socket: Socket | undefined;
    try {
      socket = await dial(this.#path, call);
      socket.write(encodeOrder(order));
      yield* reports(socket, call);
    } catch (error) {
      throw fromSystemError(error, { doing: `the host at ${this.#path} did not answer` });
    } finally {
      socket?.destroy();
    }
  }
}

async function* reports(socket: Socket, call: Call): AsyncGenerator<Report, void, undefined> {
  const chunks = socket.setEncoding("utf8")[Symbol.asyncIterator]();
  let rest: string[] = [];
  for (;;) {
    const { value, done } = await call.within(chunks.next(), "the host's answer");
    if (done === true) throw pvbusError("ERR_DISCONNECTED", "the host ended before it was done; ask again");
    const lines = (value as string).split("\n");
    rest.push(lines[0] as string);
    for (const next of lines.slice(1)) {
      const report = decodeReport(rest.join(""));
      rest = [next];
      if (report === undefined) throw pvbusError("ERR_PROTOCOL", "the host's answer is none of ours");
      if ("error" in report) throw report.error;
      yield report;
      if ("done" in report) return;
    }
  }
}
