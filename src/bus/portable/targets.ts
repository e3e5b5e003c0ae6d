import { PvbusError, type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import type { Call } from "../../base/flow/call.js";
import type { PortableLayout } from "../../contract/store.js";
import type { PvInterface } from "../interface/interface.js";
import { MIN_CHUNK_BYTES } from "./layout.js";

/** An interface that was opened, and where portable keys live there. */
export interface PortableTarget {
  /** The interface. */
  readonly face: PvInterface;
  /** Its store's layout. */
  readonly layout: PortableLayout;
}

/** Who cannot be asked is passed over, as long as somebody else answers. */
const PASSED_OVER: readonly PvbusErrorCode[] = ["ERR_NOT_SUPPORTED", "ERR_UNAVAILABLE", "ERR_PERMISSION"];
/** Who takes nothing leads on to the next; whatever else happens is the caller's. */
const LEADS_ON: readonly PvbusErrorCode[] = ["ERR_NOT_SUPPORTED", "ERR_READ_ONLY", "ERR_PERMISSION"];

/** A place that cannot hold such a key holds no such value. */
const NOT_THERE: readonly PvbusErrorCode[] = ["ERR_KEY_INVALID", "ERR_KEY_TOO_LONG"];
/** A place that cannot be asked; the next one may still answer. */
const NOT_ASKED: readonly PvbusErrorCode[] = ["ERR_UNAVAILABLE", "ERR_PERMISSION"];

/** Reports whether an error has one of these codes. */
export function isOneOf(error: unknown, codes: readonly PvbusErrorCode[]): error is PvbusError {
  return PvbusError.is(error) && codes.includes(error.code);
}

/** The interfaces of a bus, or the one that was named, as all portable views share them. */
export class PortableTargets {
  /** In the order in which they are asked. */
  readonly faces: readonly PvInterface[];
  /** Where each namespace is published since something was published there. */
  readonly #chosen = new Map<string, PvInterface>();

  /** @param faces not empty; the primary one is asked first, what another hypervisor emulates last */
  constructor(faces: readonly PvInterface[]) {
    this.faces = [...faces].sort((a, b) => rank(a) - rank(b));
  }

  /** Opens one. @throws PvbusError `ERR_NOT_SUPPORTED` without a place for portable keys, and what the opening throws */
  async open(face: PvInterface, call: Call): Promise<PortableTarget> {
    const { portable } = await face.store({ signal: call.signal, timeoutMs: call.remainingMs });
    if (portable === undefined)
      throw unsupported(face, "has no place for portable keys; use its native keys");
    return { face, layout: portable };
  }

  /** Opens all that can be opened, in their order. @throws what {@link PortableTargets.first} throws when none can */
  async openAll(call: Call): Promise<PortableTarget[]> {
    const opened: PortableTarget[] = [];
    await this.first(call, async (target) => {
      opened.push(target);
      return undefined;
    });
    return opened;
  }

  /**
   * Opens one after the other, asks it, and returns the first answer that is not undefined.
   * @throws PvbusError as {@link PortableTargets.firstFace}
   */
  first<T>(call: Call, ask: (target: PortableTarget) => Promise<T | undefined>): Promise<T | undefined> {
    return this.firstFace(call, async (face) => ask(await this.open(face, call)));
  }

  /**
   * Asks one after the other and returns the first answer that is not undefined.
   * @throws PvbusError when none could be asked: what the strongest said
   */
  async firstFace<T>(call: Call, ask: (face: PvInterface) => Promise<T | undefined>): Promise<T | undefined> {
    let failure: PvbusError | undefined;
    let isAnswered = false;
    for (const face of this.faces) {
      call.check("the portable value");
      try {
        const found = await ask(face);
        if (found !== undefined) return found;
        isAnswered ||= this.isReal(face);
      } catch (error) {
        if (!isOneOf(error, PASSED_OVER)) throw error;
        // That something is not there yet, or refused, says more than that it is not made for this.
        if (failure === undefined || failure.code === "ERR_NOT_SUPPORTED") failure = error;
      }
    }
    if (failure !== undefined && !isAnswered) throw failure;
    return undefined;
  }

  /** Returns where a namespace is published, or may be. */
  publishers(namespace: string): readonly PvInterface[] {
    const chosen = this.#chosen.get(namespace);
    // Nobody listens behind an interface that another hypervisor emulates.
    return chosen === undefined ? this.faces.filter((face) => this.isReal(face)) : [chosen];
  }

  /** Opens one for what the guest publishes. @throws PvbusError `ERR_NOT_SUPPORTED` where it cannot tell the host anything */
  async openForGuest(face: PvInterface, namespace: string, call: Call): Promise<PortableTarget> {
    const target = await this.open(face, call);
    const { chunkBytes } = target.layout;
    if (!(chunkBytes >= MIN_CHUNK_BYTES))
      throw unsupported(face, `takes ${chunkBytes} bytes a key, portable keys need ${MIN_CHUNK_BYTES}`);
    if (target.layout.guestKey(namespace, "name") === undefined)
      throw unsupported(face, "takes nothing from the guest");
    return target;
  }

  /**
   * Publishes where the namespace is published already, else at the first that takes it, which is kept from then on.
   * @throws PvbusError what the first said when none takes it
   */
  async publish<T>(namespace: string, call: Call, work: (target: PortableTarget) => Promise<T>): Promise<T> {
    const result = await this.firstPublisher(namespace, call, async (target) => {
      const done = await work(target);
      this.#chosen.set(namespace, target.face);
      return { done };
    });
    if (result !== undefined) return result.done;
    throw pvbusError("ERR_NO_INTERFACE", "this machine's own hypervisor shows no interface");
  }

  /**
   * Asks where a namespace is published already, else all where it may be, and returns the first answer that is not undefined.
   * @throws PvbusError what the first said when all of them refuse; whatever is no refusal at once
   */
  async firstPublisher<T>(
    namespace: string,
    call: Call,
    ask: (target: PortableTarget) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    let refusal: unknown;
    let isAnswered = false;
    for (const face of this.publishers(namespace)) {
      try {
        const found = await ask(await this.openForGuest(face, namespace, call));
        if (found !== undefined) return found;
        isAnswered = true;
      } catch (error) {
        if (!isOneOf(error, LEADS_ON)) throw error;
        refusal ??= error;
      }
    }
    if (refusal !== undefined && !isAnswered) throw refusal;
    return undefined;
  }

  /** Whether a host can be behind it. The only one of a view was named by its user. */
  isReal(face: PvInterface): boolean {
    return !face.emulated || this.faces.length === 1;
  }
}

function rank({ primary, emulated }: PvInterface): number {
  if (primary) return 0;
  return emulated ? 2 : 1;
}

/** The error of a store that has no such thing. */
export function unsupported(face: PvInterface, why: string): PvbusError {
  return pvbusError("ERR_NOT_SUPPORTED", `the ${face.type} store ${why}`, { interface: face.name });
}

/**
 * Asks one place after the other and returns the first answer that is not undefined.
 * @throws PvbusError when there is none and a place could not be asked, and what ends the asking
 */
export async function firstPlace<P, T>(
  places: readonly P[],
  ask: (place: P) => Promise<T | undefined>,
): Promise<T | undefined> {
  let notAsked: unknown;
  for (const place of places) {
    try {
      const found = await ask(place);
      if (found !== undefined) return found;
    } catch (error) {
      if (isOneOf(error, NOT_ASKED)) notAsked ??= error;
      else if (!isOneOf(error, NOT_THERE)) throw error;
    }
  }
  if (notAsked !== undefined) throw notAsked;
  return undefined;
}

/** Reports whether an error only says that a place cannot be asked. */
export function isNotAsked(error: unknown): error is PvbusError {
  return isOneOf(error, NOT_ASKED);
}
