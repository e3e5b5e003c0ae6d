import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import { Backoff } from "../../../src/base/flow/backoff.js";
import { Call } from "../../../src/base/flow/call.js";
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
  /** Layout of its messages. */
  readonly layout: KvpLayout;
  /** How long the driver waits for a reply, in milliseconds. */
  readonly timeLimitMs: number;
  /**
   * Gets ready to serve, once: the device is there and nobody else has it, and the driver does not know of us yet. Rejects
   * when there can be no service.
   */
  readonly prepare?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Makes a message the reply to itself if that takes no waiting, and reports whether it did. Never throws. */
  readonly answerNow?: ((message: Buffer) => boolean) | undefined;
  /** Makes a message the reply to itself; never rejects. */
  readonly answer: (message: Buffer, call: Call) => Promise<void>;
  /** Called at every registration, with the driver's version text. */
  readonly onRegistered?: ((version: string) => void) | undefined;
  /** Messages. */
  readonly logger: Logger;
}

/**
 * Serves the kernel's KVP requests: registers, answers one request after the other, and registers again when the
 * device fails (time-out on the host's side, hibernation, live migration, driver reloaded).
 */
export class KvpDaemon {
  readonly #parts: KvpDaemonParts;

  /** @param parts what it works with */
  constructor(parts: KvpDaemonParts) {
    this.#parts = parts;
  }

  /**
   * Serves until the signal fires; a request at hand is finished first.
   * @throws PvbusError when the device cannot be opened the first time: `ERR_UNAVAILABLE`, `ERR_BUSY`, `ERR_PERMISSION`; and
   *   what the preparation throws. Later failures are logged and tried again.
   */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(PAUSES);
    for (let first = true; !signal.aborted; first = false) {
      const began = performance.now();
      let session: Session;
      try {
        session = new Session(this.#parts, signal);
      } catch (error) {
        if (first || !PvbusError.is(error)) throw error;
        this.#parts.logger.warn(`cannot register again: ${error.message}`);
        await backoff.rest(signal);
        continue;
      }
      if (first) await this.#prepare(session, signal);
      session.register();
      const failure = await session.ended;
      if (signal.aborted) return;
      this.#parts.logger.warn(`registering again: ${failure?.message ?? "the device is at its end"}`);
      if (performance.now() - began > SOUND_MS) backoff.reset();
      await backoff.rest(signal);
    }
  }

  async #prepare(session: Session, signal: AbortSignal): Promise<void> {
    try {
      await this.#parts.prepare?.(signal);
    } catch (error) {
      session.stop();
      await session.ended;
      throw error;
    }
  }
}

/** One opening of the device: from there over the registration to losing it. */
class Session {
  /** Resolves when it is over and the device is closed; with the failure, if it was one. */
  readonly ended: Promise<Error | undefined>;
  readonly #parts: KvpDaemonParts;
  readonly #device: KvpDevice;
  readonly #waiting: Buffer[] = [];
  /** The one request at hand, as the driver knows no second: a copy for each would be garbage of megabytes. */
  readonly #request: Buffer;
  readonly #call = new AbortController();
  #busy = false;
  #registered = false;
  #over = false;
  #end: (failure: Error | undefined) => void = () => undefined;

  constructor(parts: KvpDaemonParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#request = Buffer.alloc(parts.layout.messageBytes);
    const over = new Promise<Error | undefined>((resolve) => {
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

  #fail(error: Error | undefined): void {
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
  #tryNow(message: Buffer): boolean {
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
      setImmediate(() => this.#fail(asError(error)));
    }
    return true;
  }

  #receive(message: Buffer): void {
    if (this.#over) return;
    if (!this.#registered) {
      const version = decodeRegistrationReply(message, this.#parts.layout);
      if (version === undefined) {
        this.#fail(
          pvbusError("ERR_PROTOCOL", `the driver answered the registration with operation ${message[0]}`),
        );
      } else this.#welcome(version);
      return;
    }
    if (message.length < this.#parts.layout.messageBytes) {
      this.#fail(
        pvbusError(
          "ERR_PROTOCOL",
          `a message of ${message.length} bytes instead of ${this.#parts.layout.messageBytes}`,
        ),
      );
      return;
    }
    if (this.#busy) this.#waiting.push(message);
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
      this.#fail(asError(error));
    }
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
