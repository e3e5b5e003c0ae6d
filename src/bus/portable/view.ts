import { type PvbusError, pvbusError } from "../../base/errors.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import { fairly } from "../../base/flow/turn.js";
import type { TakeOptions, WatchOptions } from "../../contract/key-values.js";
import type { PortableChange, PortableEntry, PortableListOptions } from "../../contract/portable.js";
import type { MachineFacts, PortableLayout, TakenValue } from "../../contract/store.js";
import { textOf } from "../interface/arguments.js";
import type { PvInterface } from "../interface/interface.js";
import { checkName, checkNamespace, MAX_PORTABLE_BYTES } from "./layout.js";
import { guestPlace, hostPlaces, type PortablePlace } from "./place.js";
import { firstPlace, type PortableTarget, PortableTargets } from "./targets.js";

/**
 * View of all interfaces of a bus, or of one, with directions instead of native key syntax: what the host gives, what the guest
 * publishes. The primary interface is asked first and the first value counts; see docs/portable-keys.md for the whole rule.
 * Names consist of 1 to 100 letters, digits, dots, dashes and underscores, the first a letter or digit, without `__`;
 * never let two names differ only in case, some hosts do not tell them apart. Values longer than a native key takes
 * are split and joined as docs/portable-keys.md says.
 *
 * Publishers of one process take turns. Let one process publish a name: of several at the same moment the last wins,
 * and a reader may see `ERR_CONFLICT` meanwhile, but never a mixture.
 * @example
 * const agent = bus.portable("com.example.agent");
 * const config = await agent.wait("config");
 * await agent.publish("status", "ready");
 */
export class PortableView {
  /** The program's namespace. */
  readonly namespace: string;
  readonly #targets: PortableTargets;

  /**
   * @internal Use `bus.portable()`.
   * @param targets an interface to look at; a bus gives all of its own
   * @param namespace reverse domain name of the program; the alphabet is that of names, `__` included
   * @throws PvbusError `ERR_KEY_INVALID` for a namespace out of that alphabet
   */
  constructor(targets: PvInterface | PortableTargets, namespace: string) {
    checkNamespace(namespace);
    this.namespace = namespace;
    this.#targets = targets instanceof PortableTargets ? targets : new PortableTargets([targets]);
  }

  /**
   * Returns what the host gave the guest under a name, as text.
   * @returns undefined when the host gave nothing
   * @throws PvbusError `ERR_KEY_INVALID`, `ERR_CONFLICT` for a torn set, `ERR_CORRUPT` for a broken head record,
   * `ERR_NOT_SUPPORTED` where no store has a place for portable keys, and those of {@link PvInterface.read}
   */
  async get(name: string, options?: CallOptions): Promise<string | undefined> {
    const bytes = await this.getBytes(name, options);
    return bytes === undefined ? undefined : textOf(bytes);
  }

  /** Returns the same as {@link PortableView.get} as bytes, for hosts that give files. */
  async getBytes(name: string, options?: CallOptions): Promise<Uint8Array | undefined> {
    return fairly(async () => {
      checkName(name);
      return this.#first(name, new Call(options), (place) => place.readWhole());
    });
  }

  /**
   * Waits until the host has given a value and resolves with it as text, without `timeoutMs` for ever. Not there yet are also a
   * transport that is missing, slow or lost, and a set that is torn; a store without watch is read every second.
   * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_PERMISSION` when nobody else answers, `ERR_KEY_INVALID`;
   * `ERR_NOT_SUPPORTED` where nothing can change while the machine runs
   */
  async wait(name: string, options?: CallOptions): Promise<string> {
    return textOf(await this.waitBytes(name, options));
  }

  /** Resolves with the same as {@link PortableView.wait} as bytes. */
  async waitBytes(name: string, options?: CallOptions): Promise<Uint8Array> {
    return fairly(async () => {
      checkName(name);
      const { waitOnHostSide } = await import("./watching.js");
      return waitOnHostSide(
        { targets: this.#targets, namespace: this.namespace, name },
        (look) => this.#first(name, look, (place) => place.readWhole()),
        new Call(options, Number.POSITIVE_INFINITY),
      );
    });
  }

  /**
   * Lists what the host gave and what the guest published; sets are joined, their chunks hidden. `timeoutMs` is for the time
   * until the next entry. A set that is torn, and a place that cannot be asked, are an error when the rest is through.
   * @throws PvbusError `ERR_NOT_SUPPORTED` where a store cannot list, and those of {@link PortableView.get}, while iterating
   */
  async *list(options: PortableListOptions = {}): AsyncGenerator<PortableEntry, void, undefined> {
    const { listNamespace } = await import("./listing.js");
    yield* listNamespace(this.#targets, this.namespace, options);
  }

  /**
   * Follows what the host gives: one value, or the whole namespace. Of changes in quick succession the last is told. A set is
   * read when its head record has changed, whatever its chunks do. The loop ends without an error when the signal fires or
   * `timeoutMs` (default: none) has passed.
   * @throws PvbusError `ERR_NOT_SUPPORTED` where a store cannot list and no name is given, or nothing can change; `ERR_DISCONNECTED`
   * when the bus is closed or a transport lost; those of {@link PortableView.get}, while iterating
   */
  async *watch(name?: string, options: WatchOptions = {}): AsyncGenerator<PortableChange, void, undefined> {
    if (name !== undefined) checkName(name);
    const { ready } = options;
    if (ready !== undefined && typeof ready !== "function") throw new TypeError("ready must be a function");
    const { watchHostSide } = await import("./watching.js");
    yield* watchHostSide({ targets: this.#targets, namespace: this.namespace, name }, options);
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
      const { inTurn, publishValue } = await import("./publisher.js");
      await this.#targets.publish(this.namespace, call, async (target) => {
        checkSizes(target, name, bytes);
        const place = guestPlace(target, this.namespace, name, call);
        await inTurn(target.face, place.key, call, () =>
          publishValue(place, bytes, target.layout.chunkBytes),
        );
      });
    });
  }

  /**
   * Tells the host a value unless there is one under the name: of several who try at the same time, one does.
   * @returns false, and nothing was changed, when there is one
   * @throws PvbusError `ERR_NOT_SUPPORTED` where the store cannot insert in one step, and those of {@link PortableView.publish}
   */
  async insert(name: string, value: string, options?: CallOptions): Promise<boolean> {
    return fairly(async () => {
      checkName(name);
      const bytes = textBytes(value);
      const call = new Call(options);
      const { inTurn, insertValue } = await import("./publisher.js");
      return this.#targets.publish(this.namespace, call, async (target) => {
        checkSizes(target, name, bytes);
        const place = guestPlace(target, this.namespace, name, call);
        return inTurn(target.face, place.key, call, () =>
          insertValue(place, bytes, target.layout.chunkBytes),
        );
      });
    });
  }

  /** Gives back what the guest published under a name; undefined when nothing. Errors are those of {@link PortableView.get}. */
  async published(name: string, options?: CallOptions): Promise<string | undefined> {
    const bytes = await this.publishedBytes(name, options);
    return bytes === undefined ? undefined : textOf(bytes);
  }

  /** Gives back the same as {@link PortableView.published} as bytes. */
  async publishedBytes(name: string, options?: CallOptions): Promise<Uint8Array | undefined> {
    return fairly(async () => {
      checkName(name);
      const call = new Call(options);
      return this.#targets.firstPublisher(this.namespace, call, (target) =>
        guestPlace(target, this.namespace, name, call).readWhole(),
      );
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
      const { inTurn, removeValue } = await import("./publisher.js");
      let wasThere = false;
      await this.#targets.firstPublisher(this.namespace, call, async (target) => {
        const place = guestPlace(target, this.namespace, name, call);
        if (await inTurn(target.face, place.key, call, () => removeValue(place))) wasThere = true;
        // The next one may have it too, from a time when this one took nothing.
        return undefined;
      });
      return wasThere;
    });
  }

  /**
   * Reads what the host gave under a name and erases it, its chunks too, for secrets that are to be read once.
   * @returns the value and what became of it; undefined when the host gave nothing
   * @throws PvbusError `ERR_READ_ONLY` with `requireErase` where the host would keep it, `ERR_CONFLICT` when it was changed
   * meanwhile, and those of {@link PortableView.get}; then it may have been delivered
   */
  async take(name: string, options: TakeOptions = {}): Promise<TakenValue | undefined> {
    return fairly(async () => {
      checkName(name);
      const { erase, requireErase, deliver, ...callOptions } = options;
      const call = new Call(callOptions);
      const found = await this.#first(name, call, async (place) =>
        (await place.read(place.key)) === undefined ? undefined : place,
      );
      if (found === undefined) return undefined;
      const { takeWhole } = await import("./taking.js");
      return takeWhole(found, { erase, requireErase, deliver });
    });
  }

  /** Returns what the host tells about this machine (VM name, VM id, host name, where known): of the first that tells anything. */
  async facts(options?: CallOptions): Promise<MachineFacts> {
    const call = new Call(options);
    const found = await this.#targets.firstFace(call, async (face) => {
      const facts = await face.facts({ signal: call.signal, timeoutMs: call.remainingMs });
      return Object.keys(facts).length > 0 ? facts : undefined;
    });
    return found ?? {};
  }

  /** Asks the places where the host may have put a value, over all interfaces, for the first answer. */
  #first<T>(
    name: string,
    call: Call,
    ask: (place: PortablePlace) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    return this.#targets.first(call, (target) =>
      firstPlace(hostPlaces(target, this.namespace, name, call), ask),
    );
  }
}

/** @throws PvbusError for what the store's layout says it does not take, before anything is written */
function checkSizes({ face, layout }: PortableTarget, name: string, { length }: Uint8Array): void {
  const { maxNameBytes = Number.POSITIVE_INFINITY, maxValueBytes = MAX_PORTABLE_BYTES }: PortableLayout =
    layout;
  if (name.length > maxNameBytes)
    throw pvbusError(
      "ERR_KEY_TOO_LONG",
      `the name has ${name.length} bytes, ${face.type} takes ${maxNameBytes} at most; shorten it`,
    );
  if (length > maxValueBytes)
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the value has ${length} bytes, ${face.type} takes ${maxValueBytes} at most; publish a link to it`,
    );
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
