import {
  type CallParameter,
  callBytes,
  decodeClient,
  decodeNumber,
  decodeStatus,
  encodeCall,
  encodeConnect,
  encodeDisconnect,
  requestNumber,
} from "./protocol/ioctl.js";
import { errnoError, isLost, isLostErrno, Status, statusError } from "./protocol/status.js";
import type { DriverFile } from "./transport/driver-file.js";

/** What a call is given: bytes to read, room to fill, numbers. */
export type Given =
  | Uint8Array
  | { readonly room: number }
  | { readonly u32: number }
  | { readonly u64: bigint };

/** What became of a call: delivered, with a status, or refused by the driver. */
export type Answer = Delivered | { readonly errno: string };

/** A call that reached the host. */
export interface Delivered {
  /** VirtualBox' status: negative where it failed. */
  readonly status: number;
  /** Returns the number in a parameter. */
  number(index: number): bigint;
  /** Returns the first bytes of a filled room, as many as the host says, no more than there are. */
  filled(index: number, bytes: number): Buffer;
}

const ALIGNMENT = 8;

/** Whether an answer means that the client is gone, and with it the session. */
export function isGone(answer: Answer): boolean {
  return "errno" in answer ? isLostErrno(answer.errno) : isLost(answer.status);
}

/** Whether a call ended because its time was up; both drivers' ways of saying so. */
export function isTimedOut(answer: Answer): boolean {
  return "errno" in answer ? answer.errno === "ETIMEDOUT" : answer.status === Status.timeout;
}

/** Makes the error of an answer that is no success. */
export function errorOf(answer: Answer): Error {
  return "errno" in answer ? errnoError(answer.errno) : statusError(answer.status);
}

/** One client of the host's service of guest properties, on an open driver of its own. */
export class PropertyClient {
  readonly #open: () => DriverFile;
  #file: DriverFile | undefined;
  #id: number | undefined;

  /** @param open opens the driver; called with the first use, and again after {@link PropertyClient.drop} */
  constructor(open: () => DriverFile) {
    this.#open = open;
  }

  /** What is open, for messages; undefined: nothing. */
  get over(): string | undefined {
    return this.#file?.name;
  }

  /** Whether it is connected. */
  get isConnected(): boolean {
    return this.#id !== undefined;
  }

  /** Connects where it is not. @throws PvbusError of the opening, the driver or the host */
  async connect(): Promise<void> {
    if (this.#id !== undefined) return;
    this.#file ??= this.#open();
    const message = encodeConnect();
    const memory = this.#file.allocate(message.length);
    try {
      message.copy(memory.bytes);
      const errno = await this.#file.request(this.#number("connect", message.length), memory, message.length);
      if (errno !== undefined) throw errnoError(errno);
      const status = decodeStatus(memory.bytes);
      if (status < 0) throw statusError(status);
      this.#id = decodeClient(memory.bytes);
    } finally {
      memory.free();
    }
  }

  /** Calls a function of the service. It must be connected. */
  call(fn: number, given: readonly Given[], timeoutMs: number): Promise<Answer> {
    return this.#call(fn, given, timeoutMs, (file, number, memory, size) =>
      file.request(number, memory, size),
    );
  }

  /** Calls a function that waits. {@link PropertyClient.disconnect} ends it. */
  async wait(fn: number, given: readonly Given[], timeoutMs: number): Promise<Answer> {
    const [file, id] = [this.#file, this.#id];
    if (file === undefined || id === undefined) return { errno: "EBADF" };
    const message = encodeDisconnect(id);
    const end = file.allocate(message.length);
    message.copy(end.bytes);
    const request = this.#number("disconnect", message.length);
    try {
      return await this.#call(fn, given, timeoutMs, (open, number, memory, size) => {
        // A driver may say that the client is gone and keep its wait all the same: the wait's own end counts.
        const isDone = (): boolean => decodeStatus(memory.bytes) !== Status.done;
        return open.wait(number, memory, size, { request, memory: end, isDone });
      });
    } finally {
      end.free();
    }
  }

  /** Ends the client and what it waits for; what the driver says is nobody's business. */
  async disconnect(): Promise<void> {
    const [file, id] = [this.#file, this.#id];
    this.#id = undefined;
    if (file === undefined || id === undefined) return;
    const message = encodeDisconnect(id);
    const memory = file.allocate(message.length);
    try {
      message.copy(memory.bytes);
      await file.request(this.#number("disconnect", message.length), memory, message.length);
    } finally {
      memory.free();
    }
  }

  /** Ends the client and closes the driver, when what is under way has ended. */
  async drop(): Promise<void> {
    const file = this.#file;
    await this.disconnect();
    if (this.#file === file) this.#file = undefined;
    await file?.close();
  }

  #number(request: "connect" | "disconnect" | "call", bytes: number): number {
    return requestNumber(request, bytes, this.#file?.bits, this.#file?.system);
  }

  async #call(
    fn: number,
    given: readonly Given[],
    timeoutMs: number,
    send: (
      file: DriverFile,
      number: number,
      memory: ReturnType<DriverFile["allocate"]>,
      size: number,
    ) => Promise<string | undefined>,
  ): Promise<Answer> {
    const [file, client] = [this.#file, this.#id];
    if (file === undefined || client === undefined) return { errno: "EBADF" };
    const { bits } = file;
    const size = callBytes(given.length, bits);
    const places = given.map((each) => roomOf(each));
    const memory = file.allocate(places.reduce((sum, room) => sum + aligned(room), aligned(size)));
    try {
      let at = aligned(size);
      const starts: number[] = [];
      const parameters = given.map((each, index): CallParameter => {
        if ("u32" in each) return { kind: "u32", value: BigInt(each.u32) };
        if ("u64" in each) return { kind: "u64", value: each.u64 };
        const room = places[index] ?? 0;
        const address = memory.address + BigInt(at);
        starts[index] = at;
        if (each instanceof Uint8Array) memory.bytes.set(each, at);
        at += aligned(room);
        return { kind: each instanceof Uint8Array ? "in" : "out", size: room, address };
      });
      encodeCall({ client, function: fn, timeoutMs, parameters }, bits).copy(memory.bytes);
      const errno = await send(file, this.#number("call", size), memory, size);
      if (errno !== undefined) return { errno };
      const answer = Buffer.from(memory.bytes);
      return {
        status: decodeStatus(answer),
        number: (index) => decodeNumber(answer, index, bits),
        filled: (index, bytes) => {
          const start = starts[index] ?? 0;
          return answer.subarray(start, start + Math.min(bytes, places[index] ?? 0));
        },
      };
    } finally {
      memory.free();
    }
  }
}

function roomOf(given: Given): number {
  if (given instanceof Uint8Array) return given.length;
  return "room" in given ? given.room : 0;
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
