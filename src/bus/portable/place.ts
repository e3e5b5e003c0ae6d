import { pvbusError } from "../../base/errors.js";
import { Backoff } from "../../base/flow/backoff.js";
import type { Call, CallOptions } from "../../base/flow/call.js";
import type { TakeOptions } from "../../contract/key-values.js";
import type { TakenValue } from "../../contract/store.js";
import type { PvInterface } from "../interface/interface.js";
import { checksum, chunkName, decodeHead, isMarked, joinSet, type SetHead } from "./layout.js";
import type { PortableTarget } from "./targets.js";

/** How often one head record is tried before its set counts as torn for good. */
const TORN_ATTEMPTS = 6;
const PAUSES = { firstMs: 5, longestMs: 80 };

/** A value as it lies in a store. */
export interface StoredValue {
  /** What the name's own key holds: the value itself, or a head record. */
  readonly stored: Uint8Array;
  /** The whole value. */
  readonly whole: Uint8Array;
}

/** The native keys of one portable name in one direction, and the call on whose time they are used. */
export class PortablePlace {
  readonly #target: PvInterface;
  readonly #call: Call;
  readonly #name: string;
  readonly #keyOf: (name: string) => string;

  /** @param keyOf gives the native key of a name or of a chunk's name */
  constructor(target: PvInterface, call: Call, name: string, keyOf: (name: string) => string) {
    this.#target = target;
    this.#call = call;
    this.#name = name;
    this.#keyOf = keyOf;
  }

  /** Native key of the plain value or of the head record. */
  get key(): string {
    return this.#keyOf(this.#name);
  }

  /** Native key of a chunk. */
  chunkKey(slot: SetHead["slot"], index: number): string {
    return this.#keyOf(chunkName(this.#name, slot, index));
  }

  /** Reads a native key. Where a store cannot delete, an empty value stands for none. */
  async read(key: string): Promise<Uint8Array | undefined> {
    const bytes = await this.#target.readBytes(key, this.#options);
    return bytes?.length === 0 && !this.#target.capabilities.delete ? undefined : bytes;
  }

  /** Writes a native key. */
  async write(key: string, value: Uint8Array | string): Promise<void> {
    await this.#target.write(key, value, this.#options);
  }

  /** Writes a native key where there is none; resolves with false when there is. */
  async insert(key: string, value: Uint8Array | string): Promise<boolean> {
    return this.#target.insert(key, value, this.#options);
  }

  /** Takes a native key's value; see {@link PvInterface.take}. */
  async take(key: string, options: Omit<TakeOptions, keyof CallOptions>): Promise<TakenValue | undefined> {
    return this.#target.take(key, { ...options, ...this.#options });
  }

  /** Removes a native key, or empties it where the store cannot delete. */
  async remove(key: string): Promise<void> {
    if (this.#target.capabilities.delete) await this.#target.delete(key, this.#options);
    else await this.#target.write(key, "", this.#options);
  }

  /**
   * Reads the whole value, whether plain or a set. A publisher may be at work: a set that does not fit its head record
   * is read again, for as long as head records change, a few times when they do not.
   * @throws PvbusError `ERR_CONFLICT` for a set that stays torn, `ERR_CORRUPT` for a head record that is none
   */
  async readWhole(): Promise<Uint8Array | undefined> {
    return (await this.readStored())?.whole;
  }

  /** Reads the same, with what the name's own key holds. Throws as {@link PortablePlace.readWhole}. */
  async readStored(): Promise<StoredValue | undefined> {
    let last = "";
    const pauses = new Backoff(PAUSES);
    for (;;) {
      const stored = await this.read(this.key);
      if (stored === undefined) return undefined;
      if (!isMarked(stored)) return { stored, whole: stored };
      const head = decodeHead(stored) ?? this.notAHead();
      const whole = await this.readSet(head);
      if (whole !== undefined) return { stored, whole };
      if (head.sum + head.slot !== last) {
        last = head.sum + head.slot;
        pauses.reset();
      }
      if (pauses.attempts + 1 >= TORN_ATTEMPTS) throw this.torn();
      await pauses.sleep(this.#call, `a whole value of "${this.key}"`);
    }
  }

  /** Reads the chunks that a head record names, never more bytes than it tells; undefined when they do not fit it. */
  readSet(head: SetHead): Promise<Uint8Array | undefined> {
    return joinSet(
      head,
      (index) => this.read(this.chunkKey(head.slot, index)),
      (whole) => this.checksum(whole),
    );
  }

  /** Returns the checksum of a whole value, in pieces that leave time for others. */
  checksum(whole: Uint8Array): Promise<string> {
    return checksum(whole, () => this.#call.turn(`the checksum of "${this.key}"`));
  }

  /** The error of a set whose parts do not belong together. */
  torn(): Error {
    return pvbusError(
      "ERR_CONFLICT",
      `the parts of the value under "${this.key}" do not belong together: a publisher is at work or was stopped; ` +
        "try again, or publish the value again",
      { interface: this.#target.name, key: this.key },
    );
  }

  /** Waits a moment of the call. */
  async pause(pauses: Backoff): Promise<void> {
    await pauses.sleep(this.#call, `the turn to publish "${this.key}"`);
  }

  /** @throws PvbusError `ERR_CORRUPT`: what is stored is no head record that this version knows */
  notAHead(): never {
    throw pvbusError(
      "ERR_CORRUPT",
      `the value under "${this.key}" begins as a head record of portable keys but is none of version 1; ` +
        "see docs/portable-keys.md, and update pvbus if its publisher is newer",
      { interface: this.#target.name, key: this.key },
    );
  }

  get #options(): CallOptions {
    return { signal: this.#call.signal, timeoutMs: this.#call.remainingMs };
  }
}

/** Returns the places where the host may have put a value, the strongest first. */
export function hostPlaces(
  { face, layout }: PortableTarget,
  namespace: string,
  name: string,
  call: Call,
): PortablePlace[] {
  return [...layout.hostKeys(namespace, name).keys()].map(
    (at) => new PortablePlace(face, call, name, (each) => layout.hostKeys(namespace, each)[at] ?? ""),
  );
}

/** Returns the place of what the guest publishes. */
export function guestPlace(
  { face, layout }: PortableTarget,
  namespace: string,
  name: string,
  call: Call,
): PortablePlace {
  return new PortablePlace(face, call, name, (each) => layout.guestKey(namespace, each) ?? "");
}
