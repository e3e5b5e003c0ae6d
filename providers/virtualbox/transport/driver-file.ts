import type { Host } from "../../../src/base/host/host.js";
import type { StoreTarget } from "../../../src/contract/provider.js";
import type { Token } from "../../../src/contract/tokens.js";
import type { DriverSystem, PointerBits } from "../protocol/ioctl.js";

/** Memory that a request's structure lies in, with all that it points to. */
export interface DriverMemory {
  /** Where it is, for the structure's own pointers. */
  readonly address: bigint;
  /** The memory itself. */
  readonly bytes: Buffer;
  /** Gives it back. */
  free(): void;
}

/** The request that ends a wait. */
export interface DriverEnding {
  /** Its number. */
  readonly request: number;
  /** Its structure. */
  readonly memory: DriverMemory;
  /** Whether the wait is seen to have ended. */
  isDone(): boolean;
}

/**
 * The driver, opened once: its requests come back with the structure filled, or with the name of an error and the structure as it
 * was. Each opened file has clients of its own.
 */
export interface DriverFile {
  /** What is open, for messages: `/dev/vboxguest`. */
  readonly name: string;
  /** Size of pointers in its structures. */
  readonly bits: PointerBits;
  /** Whose numbers requests have. */
  readonly system: DriverSystem;
  /** Returns memory for a request; to be freed after it. */
  allocate(size: number): DriverMemory;
  /** Sends a request that ends soon. @returns the name of an error, `EINVAL`; undefined: it was delivered */
  request(number: number, memory: DriverMemory, size: number): Promise<string | undefined>;
  /** Sends one that waits a second at most. */
  wait(number: number, memory: DriverMemory, size: number, ending: DriverEnding): Promise<string | undefined>;
  /** Closes it when what is under way has ended. */
  close(): Promise<void>;
}

/** Opens the driver. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, `ERR_NOT_SUPPORTED` */
export type OpenDriverFile = (host: Host, target: StoreTarget) => DriverFile;

/** Token of the function that opens the driver. */
export const VIRTUALBOX_DRIVER: Token<OpenDriverFile> = Symbol.for("pvbus.virtualbox.Driver");
