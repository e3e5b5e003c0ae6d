import type { IncomingMessage } from "node:http";
import { onAbort } from "../../../src/base/flow/abort.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import { broken, keyOfEvent } from "../protocol/answers.js";
import { connectionFailure, refusal, type Situation } from "./failures.js";
import { MAX_HEAD_BYTES } from "./requests.js";
import type { LxdTransport } from "./transport.js";

const URL = "ws://lxd/1.0/events?type=config";
/** Above, the stream is dropped. It holds the old value and the new one. */
const MAX_MESSAGE_BYTES = 64 << 20;
/** A longer message says as a whole that something has changed: nobody parses it. */
const MAX_PARSED_BYTES = 1 << 20;
/** Of a refusal. */
const MAX_BODY_BYTES = 4096;

/** Times of a stream in milliseconds. */
export interface EventTimes {
  /** Longest time to 101. */
  readonly handshakeMs: number;
  /** Without a ping for so long the peer is dead; the real one sends one every 10 s. */
  readonly silentMs: number;
  /** A process that stood still for so long may have been taken for dead itself. */
  readonly stillMs: number;
}

/** Times of the real daemon's streams. */
export const DEFAULT_TIMES: EventTimes = { handshakeMs: 30_000, silentMs: 25_000, stillMs: 10_000 };

/** What a stream tells. */
export interface EventHooks {
  /** Every change from now on is told: the server has registered the listener. */
  armed(): void;
  /** A key may have changed; undefined: any. */
  changed(key: string | undefined): void;
}

/**
 * Follows the events of keys over a WebSocket until the signal fires or the stream ends, which is no error once it was armed.
 * The plain stream is of no use: the lines of its head end in a bare LF, which Node's client refuses.
 * @throws PvbusError when it could not be armed
 */
export async function followEvents(
  transport: LxdTransport,
  situation: Situation,
  hooks: EventHooks,
  signal: AbortSignal,
  { handshakeMs, silentMs, stillMs }: EventTimes,
): Promise<void> {
  const { WebSocket } = await import("ws");
  if (signal.aborted) return;
  let isArmed = false;
  let failure: unknown;
  let refused: Promise<void> | undefined;
  await new Promise<void>((resolve) => {
    let socket: InstanceType<typeof WebSocket>;
    try {
      socket = new WebSocket(URL, {
        createConnection: () => transport.connect(),
        perMessageDeflate: false,
        followRedirects: false,
        handshakeTimeout: handshakeMs,
        maxPayload: MAX_MESSAGE_BYTES,
        skipUTF8Validation: true,
        maxHeaderSize: MAX_HEAD_BYTES,
        insecureHTTPParser: false,
      });
    } catch (error) {
      failure = connectionFailure(error, situation);
      resolve();
      return;
    }
    let lastPing = monotonicMs();
    let lastTick = lastPing;
    const ticking = setInterval(() => {
      const now = monotonicMs();
      if (now - lastPing >= silentMs || now - lastTick >= stillMs) socket.terminate();
      lastTick = now;
    }, Math.min(silentMs, stillMs) / 4);
    const forget = onAbort(signal, () => socket.terminate());
    socket.on("unexpected-response", (_, response) => {
      refused = bodyOf(response).then((body) => {
        const { statusCode: status = 0, headers } = response;
        failure = refusal({ status, type: headers["content-type"] ?? "", body }, situation);
        socket.terminate();
      });
    });
    socket.on("error", (error) => {
      failure ??= plain(error, situation);
    });
    socket.on("ping", () => {
      lastPing = monotonicMs();
      if (isArmed) return;
      isArmed = true;
      hooks.armed();
    });
    socket.on("message", (data) => {
      const bytes = data as Buffer;
      if (bytes.length > MAX_PARSED_BYTES) return hooks.changed(undefined);
      const key = keyOfEvent(bytes.toString("utf8"));
      if (key !== undefined) hooks.changed(key);
    });
    socket.on("close", () => {
      clearInterval(ticking);
      forget();
      resolve();
    });
  });
  await refused;
  if (!isArmed && !signal.aborted && failure !== undefined) throw failure;
}

/** What the library says of a peer's answer has no code of the system's. */
function plain(error: Error, situation: Situation): unknown {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (code.startsWith("HPE_") && code !== "HPE_INVALID_EOF_STATE") return broken(error.message, error);
  if ("syscall" in error || code === "ECONNRESET")
    return connectionFailure(Object.assign(error, { syscall: "connect" }), situation);
  // A handshake that takes too long, and an end of the connection within it.
  return /timed out|hang up|before the connection was established/i.test(error.message)
    ? connectionFailure(
        Object.assign(new Error(error.message), { code: "ECONNRESET", syscall: "read" }),
        situation,
      )
    : broken(error.message, error);
}

async function bodyOf(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      length += (chunk as Buffer).length;
      if (length >= MAX_BODY_BYTES) break;
    }
  } catch {
    // What has come says enough.
  }
  return Buffer.concat(chunks);
}
