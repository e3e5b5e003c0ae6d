import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import { Backoff } from "../../../src/base/flow/backoff.js";
import { Call } from "../../../src/base/flow/call.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import type { Logger } from "../../../src/base/host/host.js";
import { decodeRegistrationReply, encodeRegistration, type KvpLayout } from "../protocol/messages.js";
import type { KvpDevice, OpenKvpDevice } from "./device.js";

/** FreeBSD's driver names no version; this is the text that its own daemon reports. */
const FREEBSD_VERSION = "BSD Pre-Release version";
/** Pauses before a lost device is opened again. */
const PAUSES = { firstMs: 100, longestMs: 10_000 };
/** Serving for so long counts as success: the next pause is the first one again. */
const SOUND_MS = 60_000;
/** How much earlier than the driver the daemon gives up on a request: at most so long, and no more than that part of its limit. */
const HEAD_START_MS = 2_000;
const HEAD_START_PART = 0.2;

/** Returns how long a request may take: the driver must have the refusal before it answers the host by itself. */
export function requestLimitMs(driverLimitMs: number): number {
  return driverLimitMs - Math.min(HEAD_START_MS, driverLimitMs * HEAD_START_PART);
}

/** What the daemon works with. */
export interface KvpDaemonParts {
  /** Opens the device, again whenever it was lost. */
  readonly openDevice: OpenKvpDevice;
  readonly layout: KvpLayout;
  /** How long the driver waits for a reply, in milliseconds. */
  readonly timeLimitMs: number;
  /** Gets ready, once: the device is ours, and the driver does not know of us yet. Rejects when there can be no service. */
  readonly prepare?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Makes a message the reply to itself if that takes no waiting, and reports whether it did. Never throws. */
  readonly answerNow?: ((message: Buffer) => boolean) | undefined;
  /** Makes a message the reply to itself; never rejects. */
  readonly answer: (message: Buffer, call: Call) => Promise<void>;
  /** Called at every registration, with the driver's version text. */
  readonly onRegistered?: ((version: string) => void) | undefined;
  readonly logger: Logger;
}

/**
 * Serves the kernel's KVP requests until the signal fires: registers, answers one request after the other, the one at hand finished
 * first, and registers again when the device fails (time-out on the host's side, hibernation, live migration, driver reloaded).
 * @throws PvbusError when the device cannot be opened the first time: `ERR_UNAVAILABLE`, `ERR_BUSY`, `ERR_PERMISSION`; and
 *   what the preparation throws. Later failures are logged and tried again.
 */
export async function serveKvp(parts: KvpDaemonParts, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff(PAUSES);
  for (let first = true; !signal.aborted; first = false) {
    const began = monotonicMs();
    let session: Session;
    try {
      session = new Session(parts, signal);
    } catch (error) {
      if (first || !PvbusError.is(error)) throw error;
      parts.logger.warn(`cannot register again: ${error.message}`);
      await backoff.rest(signal);
      continue;
    }
    try {
      if (first) await parts.prepare?.(signal);
    } catch (error) {
      session.stop();
      await session.ended;
      throw error;
    }
    session.register();
    const failure = await session.ended;
    if (signal.aborted) return;
    const why = failure instanceof Error ? failure.message : "the device is at its end";
    parts.logger.warn(`registering again: ${why}`);
    if (monotonicMs() - began > SOUND_MS) backoff.reset();
    await backoff.rest(signal);
  }
}

/** One opening of the device: from there over the registration to losing it. */
class Session {
  /** Resolves when it is over and the device is closed; with the failure, if it was one. */
  readonly ended: Promise<unknown>;
  readonly #parts: KvpDaemonParts;
  readonly #device: KvpDevice;
  readonly #waiting: Buffer[] = [];
  /** The one request at hand, as the driver knows no second: a copy for each would be garbage of megabytes. */
  readonly #request: Buffer;
  readonly #call = new AbortController();
  #busy = false;
  #registered = false;
  #over = false;
  #end: (failure: unknown) => void = () => undefined;

  constructor(parts: KvpDaemonParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#request = Buffer.alloc(parts.layout.messageBytes);
    const over = new Promise<unknown>((resolve) => {
      this.#end = resolve;
    });
    this.#device = parts.openDevice({
      tryMessage: (message) => this.#tryNow(message),
      onMessage: (message) => this.#receive(message),
      onEnd: (error) => this.#fail(error),
    });
    const forget = onAbort(signal, () => this.stop());
    this.ended = over.finally(async () => {
      forget();
      this.#call.abort();
      await this.#device.close();
    });
  }

  /** Registers with the driver: requests may come. */
  register(): void {
    if (this.#over) return;
    this.#send(encodeRegistration(this.#parts.layout));
    if (!this.#parts.layout.answersRegistration) this.#welcome(FREEBSD_VERSION);
  }

  /** Ends after the request at hand. */
  stop(): void {
    this.#over = true;
    this.#waiting.length = 0;
    if (!this.#busy) this.#end(undefined);
  }

  #fail(error: unknown): void {
    this.#over = true;
    this.#waiting.length = 0;
    this.#call.abort();
    this.#end(error);
  }

  #welcome(version: string): void {
    this.#registered = true;
    this.#parts.onRegistered?.(version);
  }

  /** Most of the host's requests are for the next record: they are answered without a turn of the event loop. */
  #tryNow(message: Buffer): boolean | "next" {
    if (!this.#registered || this.#busy || this.#over || message.length < this.#parts.layout.messageBytes) {
      return false;
    }
    if (this.#parts.answerNow?.(message) !== true) {
      message.copy(this.#request);
      this.#busy = true;
      // Not from within the event, where no promise goes on.
      setImmediate(() => void this.#serve(this.#request));
      return true;
    }
    try {
      this.#device.send(message);
    } catch (error) {
      setImmediate(() => this.#fail(error));
      return true;
    }
    return "next";
  }

  #receive(message: Buffer): void {
    if (this.#over) return;
    if (!this.#registered) {
      const version = decodeRegistrationReply(message, this.#parts.layout);
      if (version !== undefined) this.#welcome(version);
      else this.#fail(protocolError(`the driver answered the registration with operation ${message[0]}`));
      return;
    }
    const { messageBytes } = this.#parts.layout;
    if (message.length < messageBytes)
      this.#fail(protocolError(`a message of ${message.length} bytes instead of ${messageBytes}`));
    else if (this.#busy) this.#waiting.push(message);
    else void this.#serve(message);
  }

  /** Answers a request and what comes meanwhile, one after the other. */
  async #serve(first: Buffer): Promise<void> {
    this.#busy = true;
    for (let message: Buffer | undefined = first; message !== undefined && !this.#call.signal.aborted; ) {
      const call = new Call({
        signal: this.#call.signal,
        timeoutMs: requestLimitMs(this.#parts.timeLimitMs),
      });
      await this.#parts.answer(message, call);
      if (this.#call.signal.aborted) break;
      this.#send(message);
      message = this.#waiting.shift();
    }
    this.#busy = false;
    if (this.#over) this.#end(undefined);
  }

  #send(message: Buffer): void {
    try {
      this.#device.send(message);
    } catch (error) {
      this.#fail(error);
    }
  }
}

function protocolError(message: string): Error {
  return pvbusError("ERR_PROTOCOL", message);
}
