import { createServer, type Socket } from "node:net";
import { PvbusError } from "../../../src/base/errors.js";
import { Backoff } from "../../../src/base/flow/backoff.js";
import { Call } from "../../../src/base/flow/call.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import { openSocket } from "../../../src/base/host/unix-stream.js";
import { holdSocket, listenAt } from "./listening.js";
import type { Endpoint, SocketOwner } from "./settings/endpoint.js";

interface EndpointEvents {
  /** A connection; the promise resolves when it is over, and never rejects. */
  readonly onConnection: (socket: Socket) => Promise<void>;
  /** The hypervisor's socket cannot be reached; said once per reason. */
  readonly onWaiting: (reason: string) => void;
  /** Whose a listening socket becomes; default: this process's. */
  readonly owner?: SocketOwner | undefined;
}

type Close = () => Promise<void>;

const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 1_000;
/** A connection that lasted so long counts as a good one: the next attempt follows at once. */
const GOOD_CONNECTION_MS = 1_000;

/** @returns what ends it; connections that it gave stay @throws PvbusError `ERR_BUSY` when another program serves there */
export async function openEndpoint({ kind, path }: Endpoint, events: EndpointEvents): Promise<Close> {
  return kind === "listen" ? listen(path, events) : connect(path, events);
}

/** Serves a UNIX socket that only its owner may use. @returns what ends it */
export function listen(
  path: string,
  { onConnection, owner }: Pick<EndpointEvents, "onConnection" | "owner">,
): Promise<Close> {
  return listenAt(
    createServer((socket) => void onConnection(socket)),
    path,
    owner,
  );
}

/** Keeps one connection to a socket that a hypervisor serves; it comes and goes with the machine. */
function connect(path: string, { onConnection, onWaiting }: EndpointEvents): Close {
  const stop = new AbortController();
  const attempts = (async () => {
    const backoff = new Backoff({ firstMs: FIRST_WAIT_MS, longestMs: LONGEST_WAIT_MS });
    let said = "";
    while (!stop.signal.aborted) {
      const outcome = await dial(path, stop.signal);
      if (typeof outcome === "string") {
        if (outcome !== said && !stop.signal.aborted) onWaiting(outcome);
        said = outcome;
      } else {
        said = "";
        const began = monotonicMs();
        await onConnection(outcome);
        if (monotonicMs() - began > GOOD_CONNECTION_MS) backoff.reset();
      }
      await backoff.rest(stop.signal);
    }
  })();
  return async () => {
    stop.abort();
    await attempts;
  };
}

/** Returns a connection, or what speaks against it: an errno, a link of somebody else. */
async function dial(path: string, signal: AbortSignal): Promise<Socket | string> {
  try {
    const held = holdSocket(path);
    return held === undefined
      ? "ENOENT"
      : await openSocket(() => held, Call.endless(signal), "the hypervisor");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return PvbusError.is(error) ? message : (code ?? message);
  }
}
