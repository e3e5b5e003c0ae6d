import type { Call } from "../../../src/base/flow/call.js";

/** What a stream tells its owner; nothing more after `onDown`. */
export interface StreamEvents {
  /** Bytes arrived; valid during the call only. */
  readonly onData: (chunk: Buffer) => void;
  /** It is broken: the peer closed it (undefined) or it failed. */
  readonly onDown: (error: Error | undefined) => void;
}

/** An open way to a XenStore daemon that moves bytes and knows no meaning. */
export interface TransportStream {
  /**
   * Sends whole messages.
   * @returns undefined when the bytes are taken; else a promise until which they belong to the stream. It rejects where
   *   the driver refuses the message by the error of the write; what breaks the stream comes through `onDown`.
   */
  write(bytes: Buffer): Promise<void> | undefined;
  /** Keeps the process alive. */
  ref(): void;
  /** Lets the process end, as at the beginning. */
  unref(): void;
  /** Closes it; no event comes any more. May be called twice. */
  close(): Promise<void>;
}

/** What a stream is for: the two differ where registering a watch holds the writer up. */
export type StreamPurpose = "requests" | "watches";

/** A way to reach a XenStore daemon. */
export interface Transport {
  /** Names it in messages: the path. */
  readonly name: string;
  /** Connections for requests: more than one where each takes one request at a time. */
  readonly connections: number;
  /** Whether watches need a connection of their own, since registering one holds it up. */
  readonly separateWatches: boolean;
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
  /** Connects. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, … */
  connect(events: StreamEvents, call: Call, purpose: StreamPurpose): Promise<TransportStream>;
}

/** Operating systems whose driver has an interface of its own. */
export type DriverPlatform = "openbsd" | "win32";

/** A node as a driver tells it. */
export interface DriverNode {
  /** Its value. */
  readonly value: Buffer;
  /** Names of its children, as far as they can be told. */
  readonly names: readonly string[];
}

/** A driver that answers one question at a time, in place of the daemon's messages, and knows no transactions and no watches. */
export interface XenStoreDriver {
  /** Whose driver it is. */
  readonly platform: DriverPlatform;
  /** Bytes of a value that it surely takes under a portable key, where that is less than a daemon takes. */
  readonly portableBytes?: number;
  /** Checks what it can pass on. @throws PvbusError `ERR_KEY_TOO_LONG`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID` */
  check(path: string, value: Uint8Array): void;
  /** Returns a node; undefined when there is none. @param children whether its children are asked for too */
  look(path: string, children: boolean, call: Call): Promise<DriverNode | undefined>;
  /** Writes a value. */
  write(path: string, value: Uint8Array, call: Call): Promise<void>;
  /** Removes a node with all below it. */
  remove?(path: string, call: Call): Promise<void>;
  /** Lets go of the driver. */
  close(): Promise<void>;
}
