import { PvbusError, pvbusError } from "../../base/errors.js";
import type { Call } from "../../base/flow/call.js";
import type { NotifyAddress } from "./notify-address.js";

/** A listener that is there answers at once. */
const CONNECT_MS = 2_000;
/** PID 1 sends from this port; others of the privileged ones show as well that a privileged program speaks. */
const [HIGHEST_PORT, LOWEST_PORT] = [1023, 1000];
/** Nothing is said in answer. */
const BUFFER_BYTES = 64;

type VsockAddress = Extract<NotifyAddress, { kind: "vsock" }>;

/**
 * Sends one message to whoever listens at an address.
 * @returns how it went there: `vsock:2:9999 as seqpacket`
 * @throws PvbusError `ERR_UNAVAILABLE` when nobody listens or there is no way there, `ERR_TIMEOUT`, `ERR_ABORTED`, …
 */
export async function sendNotification(address: NotifyAddress, message: string, call: Call): Promise<string> {
  if (address.kind === "unix") {
    const { notifySocket } = await import("../../native/posix/daemon.js");
    if (notifySocket(address.path, message)) return address.path;
    throw pvbusError("ERR_UNAVAILABLE", `nobody takes messages at ${address.path}; start the listener`);
  }
  const types = address.type === undefined ? (["seqpacket", "stream"] as const) : [address.type];
  let first: unknown;
  for (const type of types) {
    try {
      await sendOverVsock(address, type, message, call);
      return `vsock:${address.cid}:${address.port} as ${type}`;
    } catch (error) {
      // A listener has one type of socket: it refuses the others.
      if (!PvbusError.is(error) || error.code === "ERR_ABORTED") throw error;
      first ??= error;
    }
  }
  throw first;
}

async function sendOverVsock(
  { cid, port }: VsockAddress,
  type: "stream" | "seqpacket" | "datagram",
  message: string,
  call: Call,
): Promise<void> {
  const { connectVsock } = await import("../../native/posix/vsock.js");
  const attempt = (localPort: number | undefined) =>
    connectVsock({
      cid,
      port,
      type,
      localPort,
      signal: call.signal,
      timeoutMs: Math.min(CONNECT_MS, call.remainingMs),
      framing: "message",
      bufferBytes: BUFFER_BYTES,
      name: `vsock:${cid}:${port}`,
      onData: () => undefined,
      onEnd: () => undefined,
    });
  for (const localPort of ownPorts()) {
    try {
      await using stream = await attempt(localPort);
      await stream.write(Buffer.from(message), call);
      return;
    } catch (error) {
      const isTaken = PvbusError.is(error) && (error.code === "ERR_BUSY" || error.code === "ERR_PERMISSION");
      if (!isTaken || localPort === undefined) throw error;
    }
  }
}

/** The privileged ports for root, then any. */
function* ownPorts(): Generator<number | undefined> {
  if (process.geteuid?.() === 0) for (let port = HIGHEST_PORT; port >= LOWEST_PORT; port--) yield port;
  yield undefined;
}
