import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  encodeMessage,
  MessageDecoder,
  XENSTORE_PAYLOAD_MAX,
  type XsMessage,
} from "../../../providers/xen/protocol/wire.js";

/** A peer that answers whatever a test wants. */
export interface RawPeer extends AsyncDisposable {
  /** Path of its socket. */
  readonly path: string;
  /** Whole requests that came, all connections together. */
  readonly requests: readonly XsMessage[];
}

/** Answers one request by writing to the socket. */
export type Answer = (request: XsMessage, socket: Socket) => void;

/** Listens on a private socket. @param greet called for each connection */
export async function rawPeer(answer: Answer, greet?: (socket: Socket) => void): Promise<RawPeer> {
  const directory = mkdtempSync(join(tmpdir(), "pvbus-raw-"));
  const path = join(directory, "socket");
  const sockets = new Set<Socket>();
  const requests: XsMessage[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    const decoder = new MessageDecoder(
      XENSTORE_PAYLOAD_MAX,
      (type, requestId, transactionId, bytes, start, end) => {
        const request = { type, requestId, transactionId, payload: Buffer.from(bytes.subarray(start, end)) };
        requests.push(request);
        answer(request, socket);
      },
    );
    socket.on("data", (chunk) => decoder.push(chunk)).on("error", () => undefined);
    greet?.(socket);
  }).listen(path);
  await once(server, "listening");
  return {
    path,
    requests,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Returns an answer to a request as bytes. */
export function replyTo(request: XsMessage, payload: string | Uint8Array, type = request.type): Buffer {
  return encodeMessage({ ...request, type, payload: Buffer.from(payload as string) });
}
