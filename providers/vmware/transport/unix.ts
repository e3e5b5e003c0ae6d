import type { Socket } from "node:net";
import type { PvbusErrorCode } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { type HostFiles, hostFiles } from "../../../src/base/host/files.js";
import { connectTo } from "../../../src/base/host/socket.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import type { HostStream, StreamEvents, StreamSource } from "./stream.js";

const CODES: Readonly<Record<string, PvbusErrorCode>> = {
  ECONNREFUSED: "ERR_UNAVAILABLE",
  EPIPE: "ERR_DISCONNECTED",
};
const ADVICE = { default: "see that the simulated host listens there, and that you may use its socket" };

/** A UNIX socket that speaks as the host does: a simulator's. */
export class UnixSource implements StreamSource {
  readonly name: string;
  readonly privileged = undefined;
  readonly #path: string;
  readonly #files: HostFiles;

  /**
   * @param path where the socket is on the machine
   * @param files the machine's; default: this one's
   */
  constructor(name: string, path: string, files = hostFiles(undefined)) {
    this.name = name;
    this.#path = path;
    this.#files = files;
  }

  async connect({ onData, onEnd }: StreamEvents, call: Call): Promise<HostStream> {
    const { name } = this;
    const socket = this.#begin();
    let closed = false;
    let failure: Error | undefined;
    const close = async (): Promise<void> => {
      closed = true;
      socket.destroy();
    };
    try {
      const open = new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.on("error", (error) => {
          failure = error;
          reject(error);
        });
      });
      await call.within(open, `the connection to ${name}`);
    } catch (error) {
      await close();
      throw this.#failed(error);
    }
    socket.on("data", (chunk: Buffer) => {
      if (!closed) onData(chunk);
    });
    socket.once("close", () => {
      if (!closed) onEnd(failure);
    });
    const write = (bytes: Uint8Array, during: Call): Promise<void> => {
      const written = new Promise<void>((resolve, reject) => {
        socket.write(bytes, (error) => (error ? reject(error) : resolve()));
      });
      return during.within(written, `${name} to take what is written`);
    };
    return { write, close, ref: () => void socket.ref(), unref: () => void socket.unref() };
  }

  #begin(): Socket {
    try {
      return connectTo(this.#files.holdSocket(this.#path));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): unknown {
    return fromSystemError(error, { doing: `cannot connect to ${this.name}`, codes: CODES, advice: ADVICE });
  }
}
