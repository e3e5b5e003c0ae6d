import { resolve } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { Notifier } from "../../../src/base/flow/notifier.js";
import { isServed, UnixStream } from "../../../src/base/host/unix-stream.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { decodeReport, encodeOrder, type Order, type Report } from "./control-messages.js";
import type { GuestState } from "./guest-state.js";
import { ADMINISTRATOR_LIMITS, checkKey, checkValue } from "./limits.js";
import { nameOnly } from "./listening.js";
import type { GuestPresence, Presences } from "./presence.js";
import { checkSocketPath } from "./settings/endpoint.js";
import {
  checkGuestName,
  checkOurs,
  controlPath,
  type GuestDamage,
  StateDirectory,
} from "./state-directory.js";

/** One key of a guest with its value. */
export interface GuestEntry {
  /** The key. */
  readonly key: string;
  /** The value's bytes. */
  readonly value: Uint8Array;
}

/** One key of a guest at a moment. */
export interface GuestNews {
  /** Whether the guest is there; undefined where no host serves, or an old one does not say. */
  readonly presence: GuestPresence | undefined;
  /** The value's bytes; undefined for no such key. */
  readonly value: Uint8Array | undefined;
}

/** Has an order carried out; yields what is reported of it, the last word included. */
type Clerk = (order: Order, call: Call) => AsyncIterable<Report>;

const RETRY_MS = 20;

/** What the host's administrator does with the keys of guests, whether a host serves them at the time or not. */
export class Administration implements AsyncDisposable {
  readonly #clerk: Clerk;
  /** Gives everything back. */
  readonly close: () => Promise<void>;

  /** @internal See {@link openAdministration}. */
  constructor(clerk: Clerk, close: () => Promise<void>) {
    this.#clerk = clerk;
    this.close = close;
  }

  /** Returns the names of the guests that have keys or are served, sorted. */
  async guests(options?: CallOptions): Promise<string[]> {
    const reports = await this.#reports({ do: "guests" }, options);
    return reports.flatMap((report) => ("name" in report ? [report.name] : []));
  }

  /** Returns a value; undefined for no such key. @throws PvbusError `ERR_UNAVAILABLE` for no such guest */
  async get(guest: string, key: string, options?: CallOptions): Promise<Uint8Array | undefined> {
    const reports = await this.#reports({ do: "get", guest, key }, options);
    return reports.flatMap((report) => ("key" in report ? [report.value] : [])).at(-1);
  }

  /** Stores a value; it is on the disk, and guests that watch the key are told. A guest that is not known yet becomes so. */
  async set(guest: string, key: string, value: Uint8Array, options?: CallOptions): Promise<void> {
    // What the host would refuse is not sent.
    checkKey(key, ADMINISTRATOR_LIMITS);
    checkValue(key, value, ADMINISTRATOR_LIMITS);
    await this.#reports({ do: "set", guest, key, value }, options);
  }

  /** Removes a key; resolves with whether it was there. */
  async delete(guest: string, key: string, options?: CallOptions): Promise<boolean> {
    const reports = await this.#reports({ do: "delete", guest, key }, options);
    return reports.some((report) => "done" in report && report.done);
  }

  /** Yields keys with this beginning and their values, sorted, the host's own facts among them. */
  async *list(
    guest: string,
    prefix = "",
    options?: CallOptions,
  ): AsyncGenerator<GuestEntry, void, undefined> {
    for await (const report of this.#order({ do: "list", guest, prefix }, options))
      if ("key" in report) yield report;
  }

  /**
   * Yields what a key holds and whether its guest is there, and again when either changes, until the call is over. Where nobody
   * tells of changes it ends after the first.
   * @param options without `timeoutMs` it goes on for ever
   * @throws PvbusError `ERR_UNAVAILABLE` for no such guest; `ERR_DISCONNECTED` when the host ends; `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  async *follow(
    guest: string,
    key: string,
    { signal, timeoutMs = Number.POSITIVE_INFINITY }: CallOptions = {},
  ): AsyncGenerator<GuestNews, void, undefined> {
    let value: Uint8Array | undefined;
    try {
      for await (const report of this.#order({ do: "follow", guest, key }, { signal, timeoutMs })) {
        if ("presence" in report) yield { presence: report.presence, value: report.value };
        else if ("key" in report) value = report.value;
        else if ("done" in report) yield { presence: undefined, value };
      }
    } catch (error) {
      // An older host does not know the order; it can be asked again and again.
      if (!PvbusError.is(error) || error.code !== "ERR_PROTOCOL") throw error;
      yield { presence: undefined, value: await this.get(guest, key, { signal }) };
    }
  }

  /**
   * Returns what is wrong with the logs of guests: what was damaged is kept until the administrator removes it. A host that serves is
   * asked for those that it has opened.
   */
  async damages(options?: CallOptions): Promise<GuestDamage[]> {
    try {
      const reports = await this.#reports({ do: "damages" }, options);
      return reports.flatMap((report) => ("guest" in report ? [report] : []));
    } catch (error) {
      // An older host does not know the order, and kept nothing.
      if (PvbusError.is(error) && error.code === "ERR_PROTOCOL") return [];
      throw error;
    }
  }

  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #reports(order: Order, options: CallOptions | undefined): Promise<Report[]> {
    const reports: Report[] = [];
    for await (const report of this.#order(order, options)) reports.push(report);
    return reports;
  }

  #order(order: Order, options: CallOptions | undefined): AsyncIterable<Report> {
    if ("guest" in order) checkGuestName(order.guest);
    return this.#clerk(order, new Call(options));
  }
}

/**
 * Opens the administration of a state directory: through the host that serves it, else on its files.
 * @throws PvbusError `ERR_BUSY` when another process has it and serves no orders within the time
 */
export async function openAdministration(directory: string, options?: CallOptions): Promise<Administration> {
  const call = new Call(options);
  let isBusy = false;
  try {
    for (;;) {
      const path = await runningHost(directory, call);
      // Every order has a connection of its own, which it closes.
      if (path !== undefined)
        return new Administration(
          (order, during) => sent(path, order, during),
          async () => undefined,
        );
      const state = await StateDirectory.tryOpen(directory);
      if (state !== undefined)
        return new Administration(
          (order) => carryOut(order, state),
          () => state.close(),
        );
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

/** @returns the path of its socket @throws PvbusError `ERR_PERMISSION` where somebody else could pretend to be the host */
async function runningHost(directory: string, call: Call): Promise<string | undefined> {
  const path = controlPath(directory);
  try {
    checkOurs(resolve(directory));
    checkSocketPath(path);
    return (await isServed(() => nameOnly(path), call)) ? path : undefined;
  } catch (error) {
    // The directory may not be there yet.
    if (isSystemError(error) && error.code === "ENOENT") return undefined;
    throw fromSystemError(error, { doing: `cannot reach the host at ${path}` });
  }
}

/** Has the running host carry out an order. @throws PvbusError the host's, `ERR_DISCONNECTED` when it ends */
async function* sent(path: string, order: Order, call: Call): AsyncGenerator<Report, void, undefined> {
  const doing = `the host at ${path} did not answer`;
  try {
    await using stream = await UnixStream.connect(() => nameOnly(path), { name: path, doing }, call);
    await stream.write(Buffer.from(encodeOrder(order)), call);
    yield* reports(stream, call);
  } catch (error) {
    throw fromSystemError(error, { doing });
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

/** The host that carries out an order itself. */
export interface ServingHost {
  readonly presences: Presences;
  /** Fires when whoever gave the order is gone. */
  readonly gone: AbortSignal;
}

/**
 * Carries out an order on the files.
 * @param host where a host serves them: logs that nobody has opened are not looked into for damage, and news are told as they come
 */
export async function* carryOut(
  order: Order,
  state: StateDirectory,
  host?: ServingHost,
): AsyncGenerator<Report, void, undefined> {
  let done = true;
  if (order.do === "guests") for (const name of await state.guests()) yield { name };
  if (order.do === "damages") yield* await state.damages({ examine: host === undefined });
  if ("guest" in order) {
    const guest = await state.guest(order.guest, { create: order.do === "set" });
    if (order.do === "follow" && host !== undefined) yield* newsOf(guest, order, host);
    else if (order.do === "list") yield* guest.entries(order.prefix);
    else if (order.do === "set") await guest.put(order.key, order.value, ADMINISTRATOR_LIMITS);
    else if (order.do === "delete") done = await guest.delete(order.key);
    else {
      const value = guest.get(order.key);
      done = value !== undefined;
      if (value !== undefined) yield { key: order.key, value };
    }
  }
  yield { done };
}

/** Reports a key's value and its guest's presence, and again when either changes. It ends by the signal alone. */
async function* newsOf(
  state: GuestState,
  { guest, key }: { readonly guest: string; readonly key: string },
  { presences, gone }: ServingHost,
): AsyncGenerator<Report, void, undefined> {
  const news = new Notifier();
  const stopKeys = state.listen((change) => {
    if (change.key === key) news.notify();
  });
  const stopPresences = presences.listen((each) => {
    if (each === guest) news.notify();
  });
  try {
    for (;;) {
      const { count } = news;
      const [presence, value] = [presences.of(guest), state.get(key)];
      yield value === undefined ? { presence } : { presence, value };
      await news.wait(Call.endless(gone), `news of guest ${guest}`, count);
    }
  } finally {
    stopKeys();
    stopPresences();
  }
}
