import type { Socket } from "node:net";
import type { PvbusErrorCode } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { connectTo } from "../../../src/base/host/socket.js";
import type { HeldName } from "../../../src/base/host/tree.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import type { Link, LinkEvents } from "./link.js";

const CODES: Readonly<Record<string, PvbusErrorCode>> = {
  ECONNREFUSED: "ERR_UNAVAILABLE",
  ENOENT: "ERR_UNAVAILABLE",
  EPIPE: "ERR_DISCONNECTED",
};
const ADVICE = {
  ENOENT: "nobody serves there; start the host side or correct the path",
  ECONNREFUSED: "nobody serves there any more; start the host side",
  ENAMETOOLONG: "shorten the path",
};

/** Connects to a UNIX socket: of a zone, of a container, of a test. @param hold gives its place, which is let go here */
export async function openUnix(
  name: string,
  hold: () => HeldName,
  events: LinkEvents,
  call: Call,
): Promise<Link> {
  let socket: Socket | undefined;
  try {
    socket = connectTo(hold());
    await call.within(connected(socket), `the connection to ${name}`);
    return new SocketLink(socket, name, events);
  } catch (error) {
    socket?.destroy();
    throw fromSystemError(error, { doing: `cannot connect to ${name}`, codes: CODES, advice: ADVICE });
  }
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
}

class SocketLink implements Link {
  readonly #socket: Socket;
  readonly #name: string;
  #isClosed = false;

  constructor(socket: Socket, name: string, { onData, onEnd }: LinkEvents) {
    this.#socket = socket;
    this.#name = name;
    let failure: Error | undefined;
    socket.on("error", (error) => {
      failure = error;
    });
    socket.on("data", (data: Buffer) => {
      if (!this.#isClosed) onData(data);
    });
    socket.on("close", () => {
      if (!this.#isClosed) onEnd(failure);
    });
  }

  async write(data: Uint8Array, call: Call): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      this.#socket.write(data, (error) => (error ? reject(error) : resolve()));
    });
    try {
      await call.within(written, `${this.#name} to take what is written`);
    } catch (error) {
      throw fromSystemError(error, { doing: `cannot write to ${this.#name}`, codes: CODES });
    }
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#socket.destroy();
  }
}
