import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import type { Call } from "../../../src/base/flow/call.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import type { Operation } from "../protocol/operations.js";
import { refusalError } from "../protocol/refusals.js";
import type { Timed } from "./deadlines.js";

/** Ids of requests are the slot that the request waits in, in the lower bits, and a serial number. */
const MOST_SLOTS = 256;
const SLOT_MASK = MOST_SLOTS - 1;
const SERIALS = 2 ** 32 / MOST_SLOTS;
const NOTHING = new Uint8Array(0);
const told = (): void => undefined;

/** One request: what is sent, who waits, and until when. */
export class PendingRequest<T = unknown> implements Timed {
  readonly operation: Operation<T>;
  /** First part of the payload, without its last NUL; ASCII. */
  readonly text: string;
  /** The rest of the payload, without a NUL of its own. */
  readonly value: Uint8Array;
  /** Transaction it belongs to; 0 for none. */
  transactionId = 0;
  /** Its id while it is under way. */
  id = -1;
  /** When it times out, in the time of {@link monotonicMs}. */
  deadline = Number.POSITIVE_INFINITY;
  /** False once it is settled, also when its reply is still owed. */
  live = true;
  /** Its call or its connection is over, and it will be told in its turn. */
  isEnding = false;
  /** It is sent though its call is over. */
  binding = false;
  #resolve!: (value: unknown) => void;
  #reject!: (error: unknown) => void;
  #call: Call | undefined;
  #forget: (() => void) | undefined;

  /** @param text ASCII; strings are separated by NULs, the last one is added */
  constructor(operation: Operation<T>, text: string, value: Uint8Array = NOTHING) {
    this.operation = operation;
    this.text = text;
    this.value = value;
  }

  get size(): number {
    return this.text.length + (this.operation.bare === true ? 0 : 1) + this.value.length;
  }

  /**
   * Called once, when the daemon is done with it or never will be, also when nobody waits any more.
   * @param answer undefined: nothing, or a refusal
   */
  done?(answer: T | undefined): void;

  /** Whether its call is over, though it may not have been told yet. */
  get isOver(): boolean {
    return this.#call?.signal?.aborted === true || this.deadline <= monotonicMs();
  }

  /** Begins the waiting. @param over called when the signal fires before a reply came */
  begin(call: Call, over: (request: PendingRequest) => void): Promise<T> {
    const promise = new Promise<T>((resolve, reject) => {
      this.#resolve = resolve as (value: unknown) => void;
      this.#reject = reject;
    });
    this.#call = call;
    this.deadline = call.expiresAt;
    if (call.signal !== undefined) this.#forget = onAbort(call.signal, () => over(this));
    return promise;
  }

  reply(bytes: Buffer, start: number, end: number): void {
    if (!this.live && this.done === undefined) return;
    let answer: T | undefined;
    try {
      answer = this.operation.decode(bytes, start, end);
      this.#settle(this.#resolve, answer);
    } catch (error) {
      this.#settle(this.#reject, error);
    }
    this.finish(answer);
  }

  refuse(name: string): void {
    const { type, missing } = this.operation;
    if (this.live) {
      if (name === "ENOENT" && missing !== undefined) this.#settle(this.#resolve, missing.value);
      else this.#settle(this.#reject, refusalError(type, name, this.text.split("\0", 1)[0] ?? ""));
    }
    this.finish(undefined);
  }

  fail(error: unknown): void {
    this.#settle(this.#reject, error);
  }

  expire(): void {
    try {
      this.#call?.check("XenStore's answer");
      // A timer may fire a fraction too early.
      this.fail(
        pvbusError("ERR_TIMEOUT", "no answer from XenStore in time; try again or allow a longer timeoutMs"),
      );
    } catch (error) {
      if (!PvbusError.is(error)) throw error;
      this.fail(error);
    }
  }

  finish(answer: T | undefined): void {
    const { done } = this;
    if (done === undefined) return;
    this.done = told;
    done(answer);
  }

  #settle(settle: (outcome: unknown) => void, outcome: unknown): void {
    if (!this.live) return;
    this.live = false;
    this.#forget?.();
    settle(outcome);
  }
}

/** The requests that wait for their replies on one connection, by the ids that the replies bring back. */
export class Slots {
  readonly #slots: (PendingRequest | undefined)[];
  readonly #free: number[];
  #serial = 0;
  /** How many of them nobody waits for any more, though their replies have not come. */
  #owed = 0;

  /** @param size how many may wait, 256 at most */
  constructor(size: number) {
    this.#slots = new Array(size).fill(undefined);
    this.#free = Array.from({ length: size }, (_, at) => size - 1 - at);
  }

  get used(): number {
    return this.#slots.length - this.#free.length;
  }

  get isFull(): boolean {
    return this.#free.length === 0;
  }

  /** Whether nobody waits for the replies that keep all slots taken, or whoever does would wait for ever. */
  get isStuck(): boolean {
    return (
      this.isFull &&
      this.#owed > 0 &&
      this.#slots.every((each) => each?.live === false || each?.deadline === Number.POSITIVE_INFINITY)
    );
  }

  /** The only one that waits, where there is one slot. */
  get only(): PendingRequest | undefined {
    return this.#slots.length === 1 ? this.#slots[0] : undefined;
  }

  /** Takes a request in and gives it its id; not to be called when it is full. */
  take(request: PendingRequest): void {
    const slot = this.#free.pop() as number;
    this.#serial = (this.#serial + 1) % SERIALS;
    // The serial number keeps a late reply apart from the slot's next request.
    request.id = this.#serial * MOST_SLOTS + slot;
    this.#slots[slot] = request;
    if (!request.live) this.#owed++;
  }

  /** Notes that nobody waits for a request any more; it keeps its slot until its reply comes. */
  abandon(request: PendingRequest): void {
    if (this.find(request.id) === request) this.#owed++;
  }

  find(id: number): PendingRequest | undefined {
    const request = this.#slots[id & SLOT_MASK];
    return request?.id === id ? request : undefined;
  }

  /** Frees the slot of a request whose reply has come. */
  free({ id, live }: PendingRequest): void {
    const slot = id & SLOT_MASK;
    this.#slots[slot] = undefined;
    this.#free.push(slot);
    if (!live) this.#owed--;
  }

  /** Returns all that wait, which wait here no more; nothing can be taken afterwards. */
  clear(): PendingRequest[] {
    const waiting = this.#slots.filter((each) => each !== undefined);
    this.#slots.fill(undefined);
    return waiting;
  }
}
