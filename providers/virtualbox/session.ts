import { type PvbusError, pvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import { SerialQueue } from "../../src/base/flow/queues.js";
import { type Delivered, errorOf, type Given, isGone, PropertyClient } from "./client.js";
import {
  decodeProperties,
  decodeValueAndFlags,
  encodeFlags,
  encodeName,
  encodePattern,
  encodeValue,
  MAX_PROPERTIES,
  OLD_VALUE_BYTES,
  type Property,
  PropertyFunction,
} from "./protocol/properties.js";
import { Status } from "./protocol/status.js";
import type { DriverFile } from "./transport/driver-file.js";

/** Longest time that one call of the driver takes. */
const LONGEST_CALL_MS = 5_000;
const LONGEST_CLOSE_MS = 2_000;
/** More than any property takes with its flags. */
const VALUE_ROOM = 2_048;
const FIRST_ROOM = 16 * 1024;
const SPARE_ROOM = 4 * 1024;
const LARGEST_ROOM = 300_000;
const ROOM_TURNS = 8;

/** Calls of the service in the order in which they came; connects again once where the host has forgotten the client. */
export class PropertySession {
  readonly #client: PropertyClient;
  readonly #queue = new SerialQueue();
  #isClosed = false;

  /** @param open opens the driver, with the first call */
  constructor(open: () => DriverFile) {
    this.#client = new PropertyClient(open);
  }

  /** The open driver's name. */
  get over(): string | undefined {
    return this.#client.over;
  }

  /** Connects, so that whoever opens a store hears what is missing. @throws PvbusError */
  async connect(call: Call): Promise<void> {
    await this.#inTurn(call, () => this.#client.connect());
  }

  /** Returns a property; undefined when there is none. @throws PvbusError */
  async get(name: string, call: Call): Promise<Property | undefined> {
    const bytes = encodeName(name);
    for (let room = VALUE_ROOM, turn = 0; ; turn++) {
      const given = [bytes, { room }, { u64: 0n }, { u32: 0 }];
      const answer = await this.#ask(PropertyFunction.get, given, call);
      if (answer.status === Status.notFound) return undefined;
      const size = Number(answer.number(3));
      if (answer.status === Status.bufferOverflow) room = larger(size, room, turn);
      else if (answer.status === Status.done) {
        const filled = answer.filled(1, checked(size, room));
        return { name, timestamp: answer.number(2), ...decodeValueAndFlags(filled) };
      } else throw errorOf(answer);
    }
  }

  /**
   * Sets a property.
   * @param flags undefined: it has none afterwards
   * @throws PvbusError; nothing is sent unless it can be kept
   */
  async set(name: string, value: Uint8Array, flags: readonly string[], call: Call): Promise<void> {
    const texts = [encodeName(name), encodeValue(value)];
    const isPlain = flags.length === 0;
    const fn = isPlain ? PropertyFunction.setValue : PropertyFunction.set;
    const answer = await this.#ask(fn, isPlain ? texts : [...texts, encodeFlags(flags)], call);
    if (answer.status === Status.done) return;
    if (answer.status === Status.tooMuchData) throw await this.#tooMuch(name, value, call);
    throw errorOf(answer);
  }

  /** Removes a property, also where there is none. @throws PvbusError */
  async delete(name: string, call: Call): Promise<void> {
    const answer = await this.#ask(PropertyFunction.delete, [encodeName(name)], call);
    if (answer.status !== Status.done) throw errorOf(answer);
  }

  /** Returns the properties whose names match a pattern, by name. @throws PvbusError */
  async enumerate(pattern: string, call: Call): Promise<readonly Property[]> {
    const bytes = encodePattern(pattern);
    for (let room = FIRST_ROOM, turn = 0; ; turn++) {
      const answer = await this.#ask(PropertyFunction.enumerate, [bytes, { room }, { u32: 0 }], call);
      const size = Number(answer.number(2));
      if (answer.status === Status.bufferOverflow) room = larger(size, room, turn) + SPARE_ROOM;
      else if (answer.status === Status.done) {
        const found = [...decodeProperties(answer.filled(1, checked(size, room)))];
        return found.sort((one, other) => (one.name < other.name ? -1 : 1));
      } else throw errorOf(answer);
    }
  }

  /** Ends the client. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const call = new Call({ timeoutMs: LONGEST_CLOSE_MS });
    try {
      await this.#queue.runWithin(call, "the last call", "the end of the connection", () =>
        this.#client.drop(),
      );
    } catch (error) {
      // A driver that does not answer is left alone.
      if (!call.isEnd(error)) throw error;
    }
  }

  async #ask(fn: number, given: readonly Given[], call: Call): Promise<Delivered> {
    const answer = await this.#inTurn(call, async () => {
      for (let connections = 0; ; connections++) {
        await this.#client.connect();
        const timeoutMs = Math.max(1, Math.ceil(Math.min(call.remainingMs, LONGEST_CALL_MS)));
        const answer = await this.#client.call(fn, given, timeoutMs);
        if (!isGone(answer) || connections > 0) return answer;
        await this.#client.drop();
      }
    });
    if ("errno" in answer) throw errorOf(answer);
    return answer;
  }

  #inTurn<T>(call: Call, work: () => Promise<T>): Promise<T> {
    return this.#queue.runWithin(call, "the driver", "the host's answer", () => {
      if (this.#isClosed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
      return work();
    });
  }

  /** The service has one status for a value that is too long and for a store that is full. */
  async #tooMuch(name: string, value: Uint8Array, call: Call): Promise<PvbusError> {
    const all = await this.enumerate("", call);
    if (
      value.length > OLD_VALUE_BYTES &&
      (all.length < MAX_PROPERTIES || all.some((each) => each.name === name))
    )
      return pvbusError(
        "ERR_VALUE_TOO_LONG",
        `the value has ${value.length} bytes, this host takes ${OLD_VALUE_BYTES}; update VirtualBox on the host`,
      );
    return pvbusError(
      "ERR_NO_SPACE",
      `the machine has ${all.length} guest properties, ${MAX_PROPERTIES} are all that VirtualBox keeps; delete some`,
    );
  }
}

/** Checks the size that the host says. @throws PvbusError `ERR_PROTOCOL` for more than there is room for */
export function checked(size: number, room: number): number {
  if (size <= room) return size;
  throw pvbusError("ERR_PROTOCOL", `the host says that it filled ${size} bytes, there was room for ${room}`);
}

/** Returns the larger room that the host asks for. @throws PvbusError `ERR_PROTOCOL` where it asks for none, `ERR_BUSY` for ever new ones */
export function larger(size: number, room: number, turn: number): number {
  if (size <= room || size > LARGEST_ROOM)
    throw pvbusError("ERR_PROTOCOL", `the host asks for ${size} bytes where there was room for ${room}`);
  if (turn >= ROOM_TURNS)
    throw pvbusError("ERR_BUSY", "the host's guest properties grow faster than they can be read; try again");
  return size;
}
