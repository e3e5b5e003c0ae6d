import type { CallOptions } from "../base/flow/call.js";
import type { StoreEntry } from "./store.js";

/** Which interfaces a portable view has: all of them, or one that is named. */
export interface PortableChoice {
  /** Name of the only one, `pvbus1`. */
  readonly interface?: string | undefined;
  /** Type (`Xen`) or id (`xen`) of the only one, without regard to case. */
  readonly type?: string | undefined;
}

/** Who has put a value there: the host, the guest, or either, where both share one key. */
export type PortableDirection = "host" | "guest" | "both";

/** What of a namespace is listed. */
export interface PortableListOptions extends CallOptions {
  /** Only what the host gave, or may have given; what the guest published is not looked at. Default: both. */
  readonly only?: "host" | undefined;
}

/** One value of a namespace. */
export interface PortableEntry extends Omit<StoreEntry, "key"> {
  /** Its portable name. */
  readonly name: string;
  /** Who has put it there. */
  readonly direction: PortableDirection;
}

/** One change of what the host gave. */
export interface PortableChange {
  /** Portable name. */
  readonly name: string;
  /** The whole value as text; undefined when it is gone. */
  readonly value: string | undefined;
  /** Its bytes, present only when they are not valid UTF-8. */
  readonly bytes?: Uint8Array;
}
