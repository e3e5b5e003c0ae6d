import type { PvbusErrorCode } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";

/** What is known of a command beside its bytes. */
export interface ExchangeHints {
  /** The host answers it from memory, so that a transport without threads of its own may wait for it on this one. */
  readonly quick?: boolean;
}

/** Moves one command and one reply at a time to and from the host, and knows no meaning. */
export interface RpcTransport {
  /** Names it in messages: `vsock:0:976 from a privileged port`. */
  readonly name: string;
  /** Whether it proves to the host that a privileged program speaks; undefined: that cannot be known here. */
  readonly privileged: boolean | undefined;
  /**
   * Connects where that is due: only then {@link RpcTransport.privileged} is known. Left out where each exchange connects.
   * @throws as {@link RpcTransport.exchange}
   */
  prepare?(call: Call): Promise<void>;
  /**
   * Sends a command and returns the reply. Calls do not overlap. Whatever it throws, the next call starts afresh.
   * @throws ExchangeFailure for what a second try may fix; PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_PROTOCOL`
   */
  exchange(request: Uint8Array, call: Call, hints?: ExchangeHints): Promise<Uint8Array>;
  /** Gives everything back; nothing is under way then. May be called twice. */
  close(): Promise<void>;
}

/** An exchange that broke off. */
export class ExchangeFailure extends Error {
  /** Code of the error that it becomes when nothing fixes it. */
  readonly code: PvbusErrorCode;
  /** Whether the host may have carried out the command. */
  readonly executed: boolean;
  /** It broke in a connection that was kept from before: that is no failure of the host, which drops idle ones. */
  readonly stale: boolean;
  /** No connection came about. */
  readonly connecting: boolean;

  /** @param message what broke, and what to do */
  constructor(
    code: PvbusErrorCode,
    message: string,
    details: {
      readonly executed: boolean;
      readonly stale?: boolean;
      readonly connecting?: boolean;
      readonly cause?: unknown;
    },
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "ExchangeFailure";
    this.code = code;
    this.executed = details.executed;
    this.stale = details.stale ?? false;
    this.connecting = details.connecting ?? false;
  }
}
