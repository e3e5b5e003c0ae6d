import {
  type DecodedRequest,
  decodeRequest,
  PROPERTY_SERVICE,
  writeClient,
  writeNumber,
  writeStatus,
  writeVersion,
} from "../protocol/ioctl.js";
import { Status } from "../protocol/status.js";
import type { PropertyService, ServiceAnswer, ServiceParameter } from "./service.js";

/** Memory of whoever calls; undefined where there is none at that address. */
export type CallerMemory = (address: bigint, size: number) => Buffer | undefined;

/** A request under way. */
export interface RunningRequest {
  /** Resolves with an error's name, the caller's memory as it was; undefined: it is filled. */
  readonly done: Promise<string | undefined>;
  /** A signal has reached the caller. */
  interrupt(): void;
}

const CLIENTS_OF_A_FILE = 64;
const FOREVER_MS = 0xffff_ffff;
const LARGEST_BUFFER = 24 * 1024 * 1024;

/** The driver between the service and who opens it: files, their clients, errors, the time limits of calls. */
export class SimulatedDriver {
  /** The host's service. */
  readonly service: PropertyService;
  readonly #files = new Map<number, Set<number>>();
  readonly #running = new Set<(errno: string) => void>();
  #lastFile = 0;
  #lastClient = 0;

  constructor(service: PropertyService) {
    this.service = service;
  }

  /** Files that are open. */
  get openFiles(): number {
    return this.#files.size;
  }

  /** Opens it. @returns the file's number */
  open(): number {
    this.#files.set(++this.#lastFile, new Set());
    return this.#lastFile;
  }

  /** Closes a file; its clients end. */
  close(file: number): void {
    const clients = this.#files.get(file);
    this.#files.delete(file);
    for (const client of clients ?? []) this.service.disconnect(client);
  }

  /** The host's side dies: whatever is under way fails, and no open file is any good. */
  crash(): void {
    for (const end of [...this.#running]) end("ENOTCONN");
    this.#files.clear();
    this.service.forget();
  }

  /** Carries out a request. @param message the structure, which the answer is written into */
  ioctl(file: number, number: number, message: Buffer, memory: CallerMemory): RunningRequest {
    const clients = this.#files.get(file);
    if (clients === undefined) return ended("ENOTCONN");
    const byStatus = this.service.faults.byStatus === true;
    const refuse = (errno: string, status: number): RunningRequest => {
      if (!byStatus) return ended(errno);
      writeStatus(message, status);
      return ended(undefined);
    };
    const request = decodeRequest(number, message);
    if (typeof request === "string")
      return refuse(request, request === "ENOTTY" ? Status.notSupported : Status.invalidParameter);
    writeStatus(message, Status.done);
    switch (request.request) {
      case "version":
        writeVersion(message, request.wanted);
        return ended(undefined);
      case "connect":
        return this.#connect(clients, request.service, message);
      case "disconnect":
        if (!clients.delete(request.client)) return refuse("EINVAL", Status.invalidHandle);
        if (this.service.faults.deaf !== true) this.service.disconnect(request.client);
        return ended(undefined);
      case "call":
        if (!clients.has(request.client)) return refuse("EINVAL", Status.invalidHandle);
        return this.#call(request, message, memory);
    }
  }

  #connect(clients: Set<number>, service: string, message: Buffer): RunningRequest {
    if (clients.size >= CLIENTS_OF_A_FILE) return ended("EMFILE");
    if (this.service.faults.noService === true || service !== PROPERTY_SERVICE)
      writeStatus(message, Status.serviceNotFound);
    else {
      clients.add(++this.#lastClient);
      writeClient(message, this.#lastClient);
    }
    return ended(undefined);
  }

  #call(
    request: Extract<DecodedRequest, { request: "call" }>,
    message: Buffer,
    memory: CallerMemory,
  ): RunningRequest {
    const places: (Buffer | undefined)[] = [];
    const parameters: ServiceParameter[] = [];
    for (const [index, each] of request.parameters.entries()) {
      if ("value" in each) {
        parameters.push({ kind: each.kind, value: each.value });
        continue;
      }
      if (each.size > LARGEST_BUFFER) {
        writeStatus(message, Status.outOfRange);
        return ended(undefined);
      }
      const place = each.size === 0 ? Buffer.alloc(0) : memory(each.address, each.size);
      if (place === undefined) return ended("EFAULT");
      places[index] = each.kind === "in" ? undefined : place;
      // The service has a copy, which the driver takes back when the call has come back.
      parameters.push({ kind: "pointer", bytes: Buffer.from(place) });
    }
    const fill = ({ status, numbers, bytes }: ServiceAnswer): void => {
      writeStatus(message, status);
      for (const [index, value] of numbers ?? []) writeNumber(message, index, value, request.bits);
      for (const [index, filled] of bytes ?? []) {
        const place = places[index];
        if (place !== undefined) filled.copy(place, 0, 0, Math.min(filled.length, place.length));
      }
    };
    return this.#run(request.client, request, parameters, message, fill);
  }

  #run(
    client: number,
    request: Extract<DecodedRequest, { request: "call" }>,
    parameters: readonly ServiceParameter[],
    message: Buffer,
    fill: (answer: ServiceAnswer) => void,
  ): RunningRequest {
    const { faults } = this.service;
    let end = (_errno: string | undefined): void => undefined;
    const done = new Promise<string | undefined>((resolve) => {
      end = resolve;
    });
    let timer: NodeJS.Timeout | undefined;
    const settle = (errno: string | undefined): void => {
      clearTimeout(timer);
      this.#running.delete(settle);
      end(errno);
    };
    this.#running.add(settle);
    const wait = this.service.call(client, request.function, parameters, (answer) => {
      fill(answer);
      settle(undefined);
    });
    const giveUp = (errno: string, status: number): void => {
      if (wait !== undefined) this.service.cancel(wait);
      if (faults.byStatus !== true) settle(errno);
      else {
        writeStatus(message, status);
        settle(undefined);
      }
    };
    if (wait !== undefined && request.timeoutMs !== FOREVER_MS && faults.deaf !== true)
      timer = setTimeout(() => giveUp("ETIMEDOUT", Status.timeout), request.timeoutMs);
    return { done, interrupt: () => giveUp("EINTR", Status.interrupted) };
  }
}

function ended(errno: string | undefined): RunningRequest {
  return { done: Promise.resolve(errno), interrupt: () => undefined };
}
