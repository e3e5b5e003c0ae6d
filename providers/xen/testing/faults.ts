import type { XsMessage } from "../protocol/wire.js";

export type { XsMessage } from "../protocol/wire.js";

/** What the simulated daemon does wrong; may be changed at any time. */
export interface XenStoreFaults {
  /** So many commits of transactions are refused with EAGAIN; counts down. */
  conflicts?: number | undefined;
  /** Returns the error that a request is refused with, by its type's name (`WRITE`) and path; undefined: none. */
  refuse?: ((request: string, path: string) => string | undefined) | undefined;
  /** Milliseconds before each message that is sent. */
  delayMs?: number | undefined;
  /** Bytes of each piece that a message is sent in. */
  chunkBytes?: number | undefined;
  /** Returns what is sent in place of a message; undefined: nothing is. */
  mangle?: ((message: XsMessage) => Uint8Array | undefined) | undefined;
}
