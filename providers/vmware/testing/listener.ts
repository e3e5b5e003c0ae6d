import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { Call } from "../../../src/base/flow/call.js";
import type { DeviceStream } from "../../../src/native/posix/device-stream.js";
import { listenVsock, type VsockListener } from "../../../src/native/posix/vsock.js";
import type { VmxHost } from "./host.js";

/** What goes wrong with one command. */
export type VmxStreamFault =
  /** The connection ends in place of the reply. */
  | "drop"
  /** The connection ends when the command was read, before it is carried out. */
  | "drop-unread"
  /** Half of the reply comes, then the end. */
  | "half"
  /** No reply comes. */
  | "silence"
  /** These bytes come in place of the reply. */
  | Uint8Array;

/** What may differ from one {@link VmxListener} to the next. */
export interface VmxListenerOptions {
  /** Whether peers of a UNIX socket count as privileged; of a vsock their port tells. Default true. */
  readonly privileged?: boolean | undefined;
  /** Bytes of each piece in which replies are sent; default: all at once. */
  readonly pieceBytes?: number | undefined;
  /** Says what goes wrong; called with the number of the command, from 0. */
  readonly fault?: ((count: number) => VmxStreamFault | undefined) | undefined;
}

interface Peer {
  privileged: boolean;
  write(bytes: Uint8Array): void;
  end(): void;
}

const WORD = 4;
const MAX_FRAME = 0x7fff_ffff;
const LAST_PRIVILEGED_PORT = 1023;

/**
 * The host's end of VMware's guest RPC over a stream: frames in, frames out, connections kept unless the guest asks for their
 * end. It decodes by itself, so that a mistake of ours does not cancel itself out.
 */
export class VmxListener implements AsyncDisposable {
  /** Commands that came. */
  commands = 0;
  /** Connections that came. */
  connections = 0;
  readonly #host: VmxHost;
  readonly #options: VmxListenerOptions;
  readonly #peers = new Set<Peer>();
  #server: Server | undefined;
  #vsock: VsockListener | undefined;

  /** @param host who answers the commands */
  constructor(host: VmxHost, options: VmxListenerOptions = {}) {
    this.#host = host;
    this.#options = options;
  }

  /** Listens on a UNIX socket. */
  async listen(path: string): Promise<void> {
    const server = createServer((socket) => this.#serveSocket(socket));
    this.#server = server;
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
  }

  /**
   * Listens on a vsock of this machine; whoever comes from a port below 1024 is privileged.
   * @throws PvbusError `ERR_UNAVAILABLE` without vsock
   */
  listenVsock(port: number): number {
    this.#vsock = listenVsock({ port });
    void this.#acceptAll(this.#vsock);
    return this.#vsock.port;
  }

  /** Ends every connection, as a snapshot of the machine does. */
  dropAll(): void {
    for (const peer of this.#peers) peer.end();
  }

  /** Stops listening and ends every connection; may be called twice. */
  async close(): Promise<void> {
    this.#vsock?.close();
    this.dropAll();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #serveSocket(socket: Socket): void {
    const peer: Peer = {
      privileged: this.#options.privileged ?? true,
      write: (bytes) => void socket.write(bytes),
      end: () => void socket.destroySoon(),
    };
    socket.on("data", this.#take(peer));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#peers.delete(peer));
  }

  async #acceptAll(listener: VsockListener): Promise<void> {
    const call = Call.endless();
    for (;;) {
      let stream: DeviceStream | undefined;
      let onData: (data: Buffer) => void = () => undefined;
      const end = (): void => {
        this.#peers.delete(peer);
        void stream?.close();
      };
      const write = (bytes: Uint8Array): void => void stream?.write(bytes).catch(end);
      const peer: Peer = { privileged: false, write, end };
      const onPeer = ({ port }: { readonly port: number }): void => {
        peer.privileged = port <= LAST_PRIVILEGED_PORT;
        onData = this.#take(peer);
      };
      try {
        const options = { bufferBytes: 65_536, onData: (data: Buffer) => onData(data), onEnd: end, onPeer };
        stream = await listener.accept(options, call);
      } catch {
        // Closed: nobody comes any more.
        return;
      }
    }
  }

  /** Returns what takes one peer's bytes. */
  #take(peer: Peer): (data: Buffer) => void {
    this.connections++;
    this.#peers.add(peer);
    let pending = Buffer.alloc(0);
    return (data) => {
      pending = Buffer.concat([pending, data]);
      while (pending.length >= WORD) {
        const length = pending.readUInt32BE();
        if (length > MAX_FRAME - WORD) {
          peer.end();
          return;
        }
        if (pending.length < WORD + length) return;
        const body = pending.subarray(WORD, WORD + length);
        pending = pending.subarray(WORD + length);
        this.#answer(peer, body);
      }
    };
  }

  #answer(peer: Peer, body: Buffer): void {
    const count = this.commands++;
    const fault = this.#options.fault?.(count);
    const request = fault === "drop-unread" ? undefined : parse(body);
    if (request === undefined) {
      peer.end();
      return;
    }
    const reply = frame(this.#host.answer(request.payload, { privileged: peer.privileged }));
    if (fault === "silence") return;
    if (fault === "half") peer.write(reply.subarray(0, reply.length >> 1));
    else if (typeof fault !== "string") this.#send(peer, fault ?? reply);
    if (request.fastClose || typeof fault === "string") peer.end();
  }

  #send(peer: Peer, bytes: Uint8Array): void {
    const { pieceBytes = bytes.length } = this.#options;
    for (let at = 0; at < bytes.length; at += pieceBytes) peer.write(bytes.subarray(at, at + pieceBytes));
  }
}

/** Returns what a frame holds; undefined for one that the host's library would refuse. */
function parse(body: Buffer): { payload: Buffer; fastClose: boolean } | undefined {
  const fields = new Map<number, Buffer>();
  for (let at = 0; at < body.length; ) {
    if (body.length - at < 12) return undefined;
    const kind = body.readUInt32BE(at);
    const field = body.readUInt32BE(at + 4);
    const from = kind === 2 ? at + 12 : at + 8;
    const size = kind === 2 ? body.readUInt32BE(at + 8) : 8;
    if ((kind !== 1 && kind !== 2) || size === 0 || fields.has(field) || from + size > body.length)
      return undefined;
    fields.set(field, body.subarray(from, from + size));
    at = from + size;
  }
  const payload = fields.get(2);
  const isData = fields.get(1)?.readUInt32BE() === 1;
  return payload === undefined || !isData
    ? undefined
    : { payload, fastClose: fields.get(3)?.readUInt32BE() === 1 };
}

function frame(payload: Buffer): Buffer {
  const head = Buffer.alloc(8 * WORD);
  for (const [at, word] of [28 + payload.length, 1, 1, 1, 0, 2, 2, payload.length].entries())
    head.writeUInt32BE(word, at * WORD);
  return Buffer.concat([head, payload]);
}
