import { resolve } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { isServed, UnixStream } from "../../../src/base/host/unix-stream.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import {
  type Administration,
  type GuestEntry,
  type GuestNews,
  LocalAdministration,
} from "./administration.js";
import { decodeReport, encodeOrder, type Order, type Report } from "./control-messages.js";
import { ADMINISTRATOR_LIMITS, checkKey, checkValue } from "./limits.js";
import { nameOnly } from "./listening.js";
import { checkSocketPath } from "./settings/endpoint.js";
import {
  checkGuestName,
  checkOurs,
  controlPath,
  type GuestDamage,
  StateDirectory,
} from "./state-directory.js";

const RETRY_MS = 20;

/**
 * Opens the administration of a state directory: through the host that serves it, else on its files.
 * @throws PvbusError `ERR_BUSY` when another process has it and serves no orders within the time
 */
export async function openAdministration(directory: string, options?: CallOptions): Promise<Administration> {
  const call = new Call(options);
  let isBusy = false;
  try {
    for (;;) {
      const remote = await connectControl(directory, call);
      if (remote !== undefined) return remote;
      const state = await StateDirectory.tryOpen(directory);
      if (state !== undefined) return new LocalAdministration(state);
      isBusy = true;
      // Another administrator is at it for a moment, or a host is just starting.
      await call.sleep(RETRY_MS, "the state directory");
    }
  } catch (error) {
    // Wherever the time ends, the caller is told why it did not suffice.
    if (!isBusy || !PvbusError.is(error) || error.code !== "ERR_TIMEOUT") throw error;
    const message = `another process works in the state directory ${directory}; try again`;
    throw pvbusError("ERR_BUSY", message, { cause: error });
  }
}

/**
 * Returns the administration through a running host; undefined when none runs.
 * @throws PvbusError `ERR_PERMISSION` where somebody else could pretend to be the host of that directory
 */
async function connectControl(directory: string, call: Call): Promise<Administration | undefined> {
  const path = controlPath(directory);
  try {
    checkOurs(resolve(directory));
    checkSocketPath(path);
    return (await isServed(() => nameOnly(path), call)) ? new RemoteAdministration(path) : undefined;
  } catch (error) {
    // The directory may not be there yet.
    if (isSystemError(error) && error.code === "ENOENT") return undefined;
    throw fromSystemError(error, { doing: `cannot reach the host at ${path}` });
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
      if ("key" in report) yield report;
  }

  async *follow(
    guest: string,
    key: string,
    { signal, timeoutMs = Number.POSITIVE_INFINITY }: CallOptions = {},
  ): AsyncGenerator<GuestNews, void, undefined> {
    try {
      for await (const report of this.#order({ do: "follow", guest, key }, { signal, timeoutMs }))
        if ("presence" in report) yield { presence: report.presence, value: report.value };
    } catch (error) {
      // An older host does not know the order; it can be asked again and again.
      if (!PvbusError.is(error) || error.code !== "ERR_PROTOCOL") throw error;
      yield { presence: undefined, value: await this.get(guest, key, { signal }) };
    }
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
    const doing = `the host at ${this.#path} did not answer`;
    try {
      await using stream = await UnixStream.connect(
        () => nameOnly(this.#path),
        { name: this.#path, doing },
        call,
      );
      await stream.write(Buffer.from(encodeOrder(order)), call);
      yield* reports(stream, call);
    } catch (error) {
      throw fromSystemError(error, { doing });
    }
  }
}

async function* reports(stream: UnixStream, call: Call): AsyncGenerator<Report, void, undefined> {
  const decoder = new StringDecoder("utf8");
  let rest: string[] = [];
  for (;;) {
    const chunk = await stream.read(call, "the host's answer");
    if (chunk === undefined)
      throw pvbusError("ERR_DISCONNECTED", "the host ended before it was done; ask again");
    const lines = decoder.write(chunk).split("\n");
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
