import { PvbusError, type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import { fairly } from "../../base/flow/turn.js";
import type { MachineFacts, PortableLayout } from "../../contract/store.js";
import type { PvInterface } from "../interface/interface.js";
import { checkName, checkNamespace, MAX_PORTABLE_BYTES, MIN_CHUNK_BYTES } from "./layout.js";
import { PortablePlace } from "./place.js";
import { inTurn, publishValue, removeValue } from "./publisher.js";

/** A place that cannot hold such a key holds no such value. */
const NOT_THERE: readonly PvbusErrorCode[] = ["ERR_KEY_INVALID", "ERR_KEY_TOO_LONG"];
/** A place that cannot be asked; the next one may still answer. */
const NOT_ASKED: readonly PvbusErrorCode[] = ["ERR_UNAVAILABLE", "ERR_PERMISSION"];

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * View of one interface with directions instead of native key syntax: what the host gives, what the guest publishes.
 * Names consist of 1 to 100 letters, digits, dots, dashes and underscores, the first a letter or digit, without `__`;
 * never let two names differ only in case, some hosts do not tell them apart. Values longer than a native key takes
 * are split and joined as docs/portable-keys.md says.
 *
 * Publishers of one process take turns. Let one process publish a name: of several at the same moment the last wins,
 * and a reader may see `ERR_CONFLICT` meanwhile, but never a mixture.
 * @example
 * const agent = bus.portable("com.example.agent");
 * const config = await agent.get("config");
 * await agent.publish("status", "ready");
 */
export class PortableView {
  /** The program's namespace. */
  readonly namespace: string;
  readonly #target: PvInterface;

  /**
   * @param target the interface to look at
   * @param namespace reverse domain name of the program; the alphabet is that of names, `__` included
   * @throws PvbusError `ERR_KEY_INVALID` for a namespace out of that alphabet
   */
  constructor(target: PvInterface, namespace: string) {
    checkNamespace(namespace);
    this.namespace = namespace;
    this.#target = target;
  }

  /**
   * Returns what the host gave the guest under a name, as text.
   * @returns undefined when the host gave nothing
   * @throws PvbusError `ERR_KEY_INVALID`, `ERR_CONFLICT` for a torn set, `ERR_CORRUPT` for a broken head record,
   * `ERR_NOT_SUPPORTED` where the store has no place for portable keys, and those of {@link PvInterface.read}
   */
  async get(name: string, options?: CallOptions): Promise<string | undefined> {
    const bytes = await this.getBytes(name, options);
    return bytes === undefined ? undefined : decoder.decode(bytes);
  }

  /** Returns the same as {@link PortableView.get} as bytes, for hosts that give files. */
  async getBytes(name: string, options?: CallOptions): Promise<Uint8Array | undefined> {
    return fairly(async () => {
      checkName(name);
      const call = new Call(options);
      const layout = await this.#layout(call);
      let notAsked: unknown;
      for (const at of layout.hostKeys(this.namespace, name).keys()) {
        const keyOf = (each: string): string => layout.hostKeys(this.namespace, each)[at] ?? "";
        try {
          const value = await new PortablePlace(this.#target, call, name, keyOf).readWhole();
          if (value !== undefined) return value;
        } catch (error) {
          if (!PvbusError.is(error)) throw error;
          if (NOT_ASKED.includes(error.code)) notAsked ??= error;
          else if (!NOT_THERE.includes(error.code)) throw error;
        }
      }
      if (notAsked !== undefined) throw notAsked;
      return undefined;
    });
  }

  /**
   * Tells the host a value; resolves when it is whole in the store.
   * @param value text of at most 1 MiB in UTF-8, without NUL
   * @throws PvbusError `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`, `ERR_NOT_SUPPORTED` where the guest cannot tell the
   * host anything, `ERR_CONFLICT` when others publish the name all the time, and those of {@link PvInterface.write};
   * the value of before stays readable
   */
  async publish(name: string, value: string, options?: CallOptions): Promise<void> {
    return fairly(async () => {
      checkName(name);
      const bytes = textBytes(value);
      const call = new Call(options);
      const { chunkBytes, place } = await this.#guestPlace(name, call);
      await inTurn(this.#target, place.key, call, () => publishValue(place, bytes, chunkBytes));
    });
  }

  /** Gives back what the guest published under a name; undefined when nothing. Errors are those of {@link PortableView.get}. */
  async published(name: string, options?: CallOptions): Promise<string | undefined> {
    return fairly(async () => {
      checkName(name);
      const { place } = await this.#guestPlace(name, new Call(options));
      const bytes = await place.readWhole();
      return bytes === undefined ? undefined : decoder.decode(bytes);
    });
  }

  /**
   * Takes a published value back, with whatever a stopped publisher left; emptied where the store cannot delete.
   * @returns whether there was one
   */
  async unpublish(name: string, options?: CallOptions): Promise<boolean> {
    return fairly(async () => {
      checkName(name);
      const call = new Call(options);
      const { place } = await this.#guestPlace(name, call);
      return inTurn(this.#target, place.key, call, () => removeValue(place));
    });
  }

  /** Returns what the host tells about this machine: VM name, VM id, host name, where known. */
  async facts(options?: CallOptions): Promise<MachineFacts> {
    return this.#target.facts(options);
  }

  async #layout(call: Call): Promise<PortableLayout> {
    const store = await this.#target.store({ signal: call.signal, timeoutMs: call.remainingMs });
    if (store.portable === undefined)
      throw this.#unsupported("has no place for portable keys; use its native keys");
    return store.portable;
  }

  async #guestPlace(name: string, call: Call): Promise<{ place: PortablePlace; chunkBytes: number }> {
    const layout = await this.#layout(call);
    const { chunkBytes } = layout;
    if (!(chunkBytes >= MIN_CHUNK_BYTES)) {
      throw this.#unsupported(`takes ${chunkBytes} bytes a key, portable keys need ${MIN_CHUNK_BYTES}`);
    }
    if (layout.guestKey(this.namespace, name) === undefined)
      throw this.#unsupported("takes nothing from the guest");
    const keyOf = (each: string): string => layout.guestKey(this.namespace, each) ?? "";
    return { place: new PortablePlace(this.#target, call, name, keyOf), chunkBytes };
  }

  #unsupported(why: string): PvbusError {
    return pvbusError("ERR_NOT_SUPPORTED", `the ${this.#target.type} store ${why}`, {
      interface: this.#target.name,
    });
  }
}

function textBytes(value: string): Uint8Array {
  if (typeof value !== "string") throw new TypeError("a portable value must be a string");
  // A character is one byte at least: what is far too long is not even looked through.
  if (value.length > MAX_PORTABLE_BYTES) throw tooLong(`${value.length} characters`);
  if (!value.isWellFormed() || value.includes("\0")) {
    throw pvbusError("ERR_VALUE_INVALID", "the value holds a NUL or a lone surrogate; encode it (base64)");
  }
  const bytes = new TextEncoder().encode(value);
  if (bytes.length > MAX_PORTABLE_BYTES) throw tooLong(`${bytes.length} bytes`);
  return bytes;
}

function tooLong(size: string): PvbusError {
  return pvbusError(
    "ERR_VALUE_TOO_LONG",
    `the value has ${size}, portable values have ${MAX_PORTABLE_BYTES} bytes at most; publish a link to it`,
  );
}
