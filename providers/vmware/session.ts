import { PvbusError, pvbusError } from "../../src/base/errors.js";
import { Backoff } from "../../src/base/flow/backoff.js";
import { Call } from "../../src/base/flow/call.js";
import { monotonicMs } from "../../src/base/flow/monotonic.js";
import { SerialQueue } from "../../src/base/flow/queues.js";
import type { Logger } from "../../src/base/host/host.js";
import { decodeReply, type RpciReply, type RpciRequest, refusal } from "./protocol/rpci.js";
import { ExchangeFailure, type RpcTransport } from "./transport/rpc-transport.js";

/** The transports of a session. */
export interface SessionParts {
  /** The transport that is used while it works: vsock, or what the caller named. */
  readonly first?: RpcTransport | undefined;
  /** Opens the transport that is used when the first one is not there; it is opened once. */
  readonly second?: ((call: Call) => Promise<RpcTransport>) | undefined;
  /** No command goes over a transport that is not privileged. */
  readonly requirePrivilege?: boolean | undefined;
  /** Receives what was worked around. */
  readonly logger: Logger;
  /** Monotonic milliseconds. */
  readonly now?: (() => number) | undefined;
}

/** After a failed start the first transport is left alone for so long, and twice as long each time. */
const REST = { firstMs: 4_000, longestMs: 300_000, jitter: 0 };
/** A transport that worked before is started two more times at once. */
const RESTARTS = 2;
const RESTART_PAUSE_MS = 100;

/**
 * Commands to the host in the order of the calls: chooses the transport, repeats what may be repeated, and takes replies apart. A
 * command that needs privilege never goes over a transport that has none.
 */
export class RpciSession {
  readonly #parts: SessionParts;
  readonly #now: () => number;
  #second: RpcTransport | undefined;
  #over = "";
  #firstWorked = false;
  #firstFailure: ExchangeFailure | undefined;
  #restUntil = 0;
  readonly #rests = new Backoff(REST);
  readonly #queue = new SerialQueue();
  #closed = false;

  /** @param parts one transport at least */
  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#now = parts.now ?? monotonicMs;
  }

  /** Names the transport of the last command. */
  get over(): string {
    return this.#over;
  }

  /**
   * Sends the host a command.
   * @returns what it answers, also where it refuses
   * @throws PvbusError `ERR_PERMISSION` where privilege is needed and cannot be had, `ERR_UNAVAILABLE`, `ERR_DISCONNECTED`,
   *   `ERR_PROTOCOL`, `ERR_BUSY`, `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  async ask(request: RpciRequest, call: Call): Promise<RpciReply> {
    return decodeReply(await this.#inTurn(request, call));
  }

  /** Sends the host a command and returns its value. @throws PvbusError as {@link RpciSession.ask}, and the refusal's own code */
  async value(request: RpciRequest, call: Call): Promise<Uint8Array> {
    const reply = await this.ask(request, call);
    if (reply.accepted) return reply.value;
    throw this.refusal(request, reply.words);
  }

  /** Makes the error of a refusal. */
  refusal(request: RpciRequest, words: string): PvbusError {
    const failed = this.#firstFailure === undefined ? "" : `, since ${this.#firstFailure.message}`;
    return refusal(request, words, `${this.#over}${failed}`);
  }

  /** Closes every transport after the command that is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#parts.first?.close();
    await this.#queue.run(Call.endless(), "the last command", async () => this.#second?.close());
  }

  /** One command at a time; one whose call ends early still holds the others until its transport is free. */
  #inTurn(request: RpciRequest, call: Call): Promise<Uint8Array> {
    const { name } = request;
    return this.#queue.runWithin(call, `the turn of ${name}`, `the reply to ${name}`, async () => {
      if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
      try {
        return await this.#exchange(request, call);
      } catch (error) {
        throw error instanceof ExchangeFailure ? plain(error) : error;
      }
    });
  }

  async #exchange(request: RpciRequest, call: Call): Promise<Uint8Array> {
    const needsPrivilege = this.#needsPrivilege(request);
    const { first, second } = this.#parts;
    // The first transport, unless it rests; a command that needs it does not wait for the end of that.
    if (first && (needsPrivilege || second === undefined || this.#now() >= this.#restUntil)) {
      try {
        const reply = await this.#insist(first, request, call);
        this.#firstWorked = true;
        this.#firstFailure = undefined;
        this.#rests.reset();
        return reply;
      } catch (error) {
        if (!(error instanceof ExchangeFailure && error.connecting)) throw error;
        this.#rest(error);
        if (second === undefined) throw error;
      }
    }
    if (needsPrivilege) throw this.#noPrivilege(request);
    return this.#repeated(await this.#openSecond(call), request, call);
  }

  async #insist(first: RpcTransport, request: RpciRequest, call: Call): Promise<Uint8Array> {
    for (let restarts = 0; ; restarts++) {
      try {
        return await this.#repeated(first, request, call);
      } catch (error) {
        const again =
          error instanceof ExchangeFailure && error.connecting && this.#firstWorked && restarts < RESTARTS;
        if (!again) throw error;
        await call.sleep(RESTART_PAUSE_MS, `the connection to ${first.name}`);
      }
    }
  }

  /** Once more after a failure, where the host cannot have carried it out or may do so twice. */
  async #repeated(transport: RpcTransport, request: RpciRequest, call: Call): Promise<Uint8Array> {
    for (let fresh = 0; ; ) {
      call.check(request.name);
      try {
        await transport.prepare?.(call);
        if (this.#needsPrivilege(request) && transport.privileged === false) throw this.#noPrivilege(request);
        return await transport.exchange(request.bytes, call, request);
      } catch (error) {
        if (!(error instanceof ExchangeFailure) || error.connecting) throw error;
        // A kept connection that the host had dropped is no failure: only fresh ones count.
        if (!error.stale) fresh++;
        if (fresh > 1 || (error.executed && !request.repeatable)) throw error;
      } finally {
        this.#over = transport.name;
      }
    }
  }

  #needsPrivilege(request: RpciRequest): boolean {
    return request.privileged || this.#parts.requirePrivilege === true;
  }

  async #openSecond(call: Call): Promise<RpcTransport> {
    if (this.#second !== undefined) return this.#second;
    if (this.#parts.second === undefined) throw pvbusError("ERR_UNAVAILABLE", "there is no way to the host");
    try {
      this.#second = await this.#parts.second(call);
    } catch (error) {
      if (!PvbusError.is(error) || this.#firstFailure === undefined) throw error;
      throw pvbusError(error.code, `${error.message}; and before that ${this.#firstFailure.message}`, {
        cause: error,
      });
    }
    return this.#second;
  }

  #rest(failure: ExchangeFailure): void {
    this.#firstFailure = failure;
    const ms = this.#rests.next();
    this.#restUntil = this.#now() + ms;
    if (this.#parts.second !== undefined)
      this.#parts.logger.warn("vsock cannot be used; commands go over the backdoor, without privilege", {
        why: failure.message,
        again: `in ${ms / 1000} s`,
      });
  }

  #noPrivilege(request: RpciRequest): PvbusError {
    const why = this.#firstFailure?.message ?? "this program may not have a vsock port below 1024";
    return pvbusError(
      "ERR_PERMISSION",
      `${request.name} needs a privileged channel and nothing was sent: ${why}; run as root on a machine with VMware's vsock`,
    );
  }
}

function plain({ code, message, executed, cause }: ExchangeFailure): PvbusError {
  const done = executed ? "; the host may have carried it out" : "";
  return pvbusError(code, `${message}${done}`, { cause });
}
