import type { Call } from "../../../src/base/flow/call.js";

/** What a link tells its owner; nothing more after `onDown`. */
export interface LinkEvents {
  /** Bytes arrived; valid during the call only. */
  readonly onData: (chunk: Buffer) => void;
  /** It is broken: the peer closed it (undefined) or it failed. */
  readonly onDown: (error: Error | undefined) => void;
}

/** An open way to a XenStore daemon that moves bytes and knows no meaning. */
export interface Link {
  /**
   * Sends whole messages.
   * @returns undefined when the bytes are taken; else a promise until which they belong to the link. It rejects where
   *   the driver refuses the message by the error of the write; what breaks the link comes through `onDown`.
   */
  write(bytes: Buffer): Promise<void> | undefined;
  /** Keeps the process alive. */
  ref(): void;
  /** Lets the process end, as at the beginning. */
  unref(): void;
  /** Closes it; no event comes any more. May be called twice. */
  close(): Promise<void>;
}

/** What a connection is for: the two differ where registering a watch holds the writer up. */
export type LinkPurpose = "requests" | "watches";

/** A way to reach a XenStore daemon. */
export interface Transport {
  /** Names it in messages: the path. */
  readonly name: string;
  /** Connections for requests: more than one where each takes one request at a time. */
  readonly lines: number;
  /** Whether watches need a connection of their own, since registering one holds it up. */
  readonly ownWatchLine: boolean;
  /** Requests that may be under way on one connection, 1 to 256. */
  readonly window: number;
  /** Largest payload of a request, in bytes. */
  readonly maxRequest: number;
  /** Largest payload of a reply, in bytes. */
  readonly maxReply: number;
  /**
   * Milliseconds for which answers that nobody waits for any more may block a connection, all of its {@link window}, before
   * it is given up.
   */
  readonly overdueMs: number;
  /** Whether whoever connects is the controlling domain. */
  readonly privileged: boolean;
  /**
   * Connects.
   * @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, …
   */
  connect(events: LinkEvents, call: Call, purpose: LinkPurpose): Promise<Link>;
}
