import type { PvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import type { HostFiles } from "../../../src/base/host/files.js";

/** Who hears of a link. */
export interface LinkEvents {
  /** Receives bytes as they come. */
  readonly onData: (data: Buffer) => void;
  /** Hears once that no more comes: undefined when the other end closed, else why. */
  readonly onEnd: (error: Error | undefined) => void;
  /** Hears that another program has the line and it is waited for: what there is to say of that; undefined when that is over. */
  readonly onBusy?: ((busy: (() => PvbusError) | undefined) => void) | undefined;
}

/** A line that another program has. */
export interface TakenLine {
  /** The error that says who has it; not when the waiting is over. */
  busy(): PvbusError;
  /**
   * Waits until it is free, and takes it. To be called once; whatever happens, nothing stays open but the link.
   * @throws PvbusError `ERR_BUSY` at the end of the call, `ERR_ABORTED`
   */
  wait(call: Call): Promise<Link>;
}

/** An open two-way stream of bytes to the host. */
export interface Link {
  /** Another program has the line and lets us have a part of it. */
  readonly isPart?: boolean | undefined;
  /** Writes all bytes after those of earlier calls. A call that ends while it waits may leave the stream useless. */
  write(data: Uint8Array, call: Call): Promise<void>;
  /** Asks for no more bytes for the moment, where the link can; some may come all the same. */
  pause?(): void;
  /** Takes that back. */
  resume?(): void;
  /** Keeps the process alive, as at the beginning. */
  ref(): void;
  /** Lets the process end. */
  unref(): void;
  /** Returns everything back; no listener is called any more. May be called twice. */
  close(): Promise<void>;
}

/** Where a program that keeps a line lets others in: a socket in a directory of its user's own. */
export interface SharingPlace {
  /** The machine's files. */
  readonly files: HostFiles;
  /** The directory. */
  readonly directory: string;
  /** The socket's name in it. */
  readonly name: string;
}

/** Where the host is met. */
export interface Endpoint {
  /** As the user names it: `unix:/run/x.sock`. */
  readonly name: string;
  /**
   * One line for everybody, used before and after us: what an earlier program left in it must be cleared away, and it is given
   * back as soon as it is not needed. Otherwise every link is a fresh connection.
   */
  readonly isShared: boolean;
  /** Socket at which a program that keeps such a line lets others in. */
  readonly sharing?: (() => SharingPlace) | undefined;
  /** Returns the id of this boot of the machine; undefined where it is not known. */
  readonly boot?: (() => string | undefined) | undefined;
  /**
   * Opens a link; it does not wait for a host that is not there.
   * @throws PvbusError `ERR_BUSY` while another program has it: at the end of the call, or at once where that cannot be waited for;
   *   `ERR_UNAVAILABLE`, `ERR_PERMISSION`
   */
  open(events: LinkEvents, call: Call): Promise<Link>;
}
