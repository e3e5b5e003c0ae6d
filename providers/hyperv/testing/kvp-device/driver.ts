import { KvpOperation, LINUX_KVP } from "../../protocol/messages.js";
import { KvpStatus } from "../../protocol/status.js";

/** errno values of Linux that the driver returns. */
export const Errno = { EINTR: 4, EBADF: 9, EFAULT: 14, EBUSY: 16, EINVAL: 22 } as const;

/** Bits of poll(2) that the driver returns (Linux include/uapi/asm-generic/poll.h). */
export const Poll = { in: 0x0041, error: 0x0018 } as const;

const MESSAGE_BYTES = LINUX_KVP.messageBytes;
const VERSION_AT = 4;

/** What the host learns: the reply's bytes, or the status that the driver answered by itself. */
export type HostResult = { readonly reply: Buffer } | { readonly status: number; readonly why: HostFailure };

/** Why the driver answered by itself. */
export type HostFailure = "timeout" | "closed" | "unread" | "removed" | "not registered";

type State = "init" | "ready" | "busy";

interface Waiting {
  readonly size: number;
  /** Gets the bytes of a message, or an errno. */
  readonly done: (result: Buffer | number) => void;
}

/**
 * Linux's KVP driver between a host and one agent, as a pure state machine (drivers/hv/hv_kvp.c and
 * hv_utils_transport.c): one opener; registration; one request at a time; reads sleep and give whole messages; a close ends
 * what is pending and forgets the agent.
 */
export class KvpDriver {
  /** Called when a message can be read, or the device went away. */
  onReadable: () => void = () => undefined;
  /** Called when the agent has taken the answer to its registration. */
  onRegistered: () => void = () => undefined;
  readonly #version: string;
  #open = false;
  #removed = false;
  /** The opener outlived a removal: for it the device stays gone. */
  #orphaned = false;
  #state: State = "init";
  #registering = false;
  #outgoing: Buffer | undefined;
  #reader: Waiting | undefined;
  #host: { readonly done: (result: HostResult) => void; taken: boolean } | undefined;
  #unread = false;

  /** @param version text of the answer to the registration; the real driver says 3.1 */
  constructor(version = "3.1") {
    this.#version = version;
  }

  /** Opens the device. @returns 0 or an errno */
  open(): number {
    if (this.#removed) return Errno.EBADF;
    if (this.#open) return Errno.EBUSY;
    this.#open = true;
    return 0;
  }

  /** Reads one message; `done` is called at once or when there is one. */
  read(size: number, done: Waiting["done"]): void {
    if (this.#gone) done(Errno.EBADF);
    else if (this.#outgoing === undefined) this.#reader = { size, done };
    else this.#deliver({ size, done });
  }

  /** A signal came to the sleeping reader. */
  interrupt(): void {
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.done(Errno.EINTR);
  }

  /** What poll(2) says. */
  poll(): number {
    if (this.#gone) return Poll.error;
    return this.#outgoing === undefined ? 0 : Poll.in;
  }

  /** Writes one message. @returns 0 or an errno */
  write(message: Buffer): number {
    if (this.#gone) return Errno.EBADF;
    if (message.length < MESSAGE_BYTES) return Errno.EINVAL;
    if (this.#state === "init") return this.#register(message);
    if (this.#state !== "busy" || this.#host?.taken !== true) return Errno.EINVAL;
    const { done } = this.#host;
    this.#host = undefined;
    this.#state = "ready";
    done({ reply: Buffer.from(message.subarray(0, MESSAGE_BYTES)) });
    return 0;
  }

  /** Closes the device: the driver forgets the agent. */
  release(): void {
    this.#open = false;
    this.#orphaned = false;
    this.#forget();
    this.#fail("closed");
  }

  /** The host asks; `done` gets the agent's reply, or what the driver says in its place. */
  request(message: Buffer, done: (result: HostResult) => void): void {
    const refused = this.#refusal();
    if (refused !== undefined) {
      done({ status: KvpStatus.fail, why: refused });
      return;
    }
    this.#unread = false;
    this.#host = { done, taken: false };
    this.#state = "busy";
    this.#queue(Buffer.from(message));
  }

  /** The driver's patience is at its end: the host gets an answer, a late reply will be refused. */
  expire(): void {
    if (this.#host === undefined) return;
    this.#unread = !this.#host.taken;
    this.#state = "ready";
    this.#fail("timeout");
  }

  /** The driver goes away: readers get EBADF, poll reports an error. */
  remove(): void {
    this.#removed = true;
    this.#orphaned = this.#open;
    const reader = this.#reader;
    this.#forget();
    this.#fail("removed");
    reader?.done(Errno.EBADF);
    this.onReadable();
  }

  /** The driver is back. An agent must open the device again. */
  restore(): void {
    this.#removed = false;
  }

  get #gone(): boolean {
    return this.#removed || this.#orphaned;
  }

  #refusal(): HostFailure | undefined {
    if (this.#removed) return "removed";
    if (this.#state === "init") return "not registered";
    return this.#unread && this.#outgoing !== undefined ? "unread" : undefined;
  }

  #register(message: Buffer): number {
    const operation = message[0];
    if (operation !== KvpOperation.register && operation !== KvpOperation.register1) return Errno.EINVAL;
    if (this.#registering) return Errno.EFAULT;
    this.#registering = true;
    const answer = Buffer.alloc(MESSAGE_BYTES);
    answer[0] = operation;
    answer.write(this.#version, VERSION_AT, "utf8");
    this.#queue(answer);
    return 0;
  }

  #queue(message: Buffer): void {
    this.#outgoing = message;
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader !== undefined) this.#deliver(reader);
    else this.onReadable();
  }

  #deliver({ size, done }: Waiting): void {
    const message = this.#outgoing as Buffer;
    if (size < message.length) {
      done(Errno.EINVAL);
      return;
    }
    this.#outgoing = undefined;
    if (this.#state === "init") {
      this.#registering = false;
      this.#state = "ready";
      done(message);
      this.onRegistered();
      return;
    }
    if (this.#host !== undefined) this.#host.taken = true;
    done(message);
  }

  #forget(): void {
    this.#outgoing = undefined;
    this.#reader = undefined;
    this.#registering = false;
    this.#unread = false;
    this.#state = "init";
  }

  #fail(why: HostFailure): void {
    const host = this.#host;
    this.#host = undefined;
    host?.done({ status: KvpStatus.fail, why });
  }
}
