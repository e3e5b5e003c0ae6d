import { PvbusError, type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { peerWords } from "../../../src/base/outside-text.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { broken } from "../protocol/answers.js";
import { NAMES } from "./locate.js";
import { type Answer, type BodyTooLong, NoAnswer, NoHttp } from "./requests.js";
import type { LxdTransport } from "./transport.js";

/** Whom a failure is told of. */
export interface Situation {
  readonly transport: Pick<LxdTransport, "name" | "product" | "hasDirectory">;
  readonly uid: number | undefined;
  /** Whether this is a machine; undefined before it is known. */
  readonly isMachine: boolean | undefined;
}

const TEXT = "text/plain";
/** Over after a moment: the daemon or the agent begins to listen again. */
const RESTARTING: readonly string[] = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "EAGAIN"];
const NO_CONTAINER = /^(pid not in container|process id not found)/i;
const NO_HOST = /^failed connecting to host over vsock/i;
const LONGEST_SHOWN = 200;

/** The API may come back, whether it was switched off or its daemon restarts. */
const PASSING: readonly PvbusErrorCode[] = ["ERR_UNAVAILABLE", "ERR_DISCONNECTED", "ERR_TIMEOUT", "ERR_BUSY"];

/** Reports whether a failure says nothing about the next attempt. */
export function isPassing(error: unknown): boolean {
  return PvbusError.is(error) && PASSING.includes(error.code);
}

/** Whether a failed request may succeed after a moment, since the daemon or the agent restarts. */
export function isRestarting(error: unknown, { transport, isMachine }: Situation): boolean {
  if (!isSystemError(error)) return false;
  const { code = "" } = error;
  // A container's socket is made again in the directory that stays; a machine's agent leaves the file.
  return RESTARTING.includes(code) || (code === "ENOENT" && isMachine === false && transport.hasDirectory());
}

/** Whether an answer says that the daemon is about to end, or that the agent does not reach the host. */
export function isPassingAnswer(answer: Answer): boolean {
  return answer.status === 500 && !NO_CONTAINER.test(wordsOf(answer));
}

/** Returns the error of a request without an answer. */
export function connectionFailure(error: unknown, { transport, uid, isMachine }: Situation): unknown {
  const { name, product } = transport;
  if (error instanceof NoAnswer)
    return pvbusError(
      "ERR_TIMEOUT",
      `no answer at ${name} ${error.message}: the host does not answer; try again`,
    );
  if (error instanceof NoHttp) return broken(error.message, error);
  const agent = product === "lxd" ? "lxd-agent" : "incus-agent";
  const listener =
    isMachine === undefined
      ? `the daemon on the host (in a VM: ${agent})`
      : isMachine
        ? agent
        : "the daemon on the host";
  return fromSystemError(error, {
    doing: `cannot use the guest API at ${name}`,
    codes: { ENOENT: "ERR_UNAVAILABLE", ECONNREFUSED: "ERR_UNAVAILABLE" },
    advice: {
      EACCES: `only root may open it in a VM; this process has uid ${uid}`,
      ENOENT: `the host has switched it off (${optionOf(product)}), or ${listener} is down; ask the host's administrator`,
      ECONNREFUSED: `nobody listens: ${listener} is down or restarting; try again`,
      ECONNRESET: `${listener} has ended or is restarting; try again`,
      default: "see that you may use the socket",
    },
  });
}

/** Returns the error of an answer that is none of those that are asked for. @param isOurs whether the key is one that guests see */
export function refusal(answer: Answer, situation: Situation): PvbusError | Error {
  const { transport, uid } = situation;
  const { status } = answer;
  const words = wordsOf(answer);
  if (status === 401)
    return pvbusError(
      "ERR_PERMISSION",
      `only root of this container may use the guest API; this process has uid ${uid}: run as root`,
    );
  if (status === 403)
    return pvbusError(
      "ERR_UNAVAILABLE",
      `the host has switched the guest API off (${optionOf(transport.product)}), or shows guests no such key; ask the host's administrator`,
    );
  if (status === 500 && NO_CONTAINER.test(words))
    return pvbusError(
      "ERR_PERMISSION",
      "the daemon does not know this process as part of a container: the socket is the host's own; run inside the container",
    );
  if (status === 500 && NO_HOST.test(words))
    return pvbusError(
      "ERR_UNAVAILABLE",
      "the agent runs, but the host does not answer over vsock; see that the daemon runs on the host",
    );
  if (status === 500)
    return pvbusError("ERR_UNAVAILABLE", `the guest API is down or restarting ("${words}"); try again`);
  return broken(`status ${status}, type "${printable(answer.type)}", "${words}"`);
}

/** Returns the error of a value that is too long. */
export function valueTooLong(error: BodyTooLong): Error {
  return pvbusError("ERR_VALUE_TOO_LONG", `the value has ${error.message}; raise the setting maxValueBytes`, {
    cause: error,
  });
}

/** Whether an answer says that there is no such key, and not that there is no such path. */
export function isNoSuchKey({ status, type, body }: Answer): boolean {
  return (
    status === 404 &&
    type === TEXT &&
    /^not found\s*$/i.test(body.subarray(0, LONGEST_SHOWN).toString("latin1"))
  );
}

function wordsOf({ body }: Answer): string {
  return printable(peerWords(body.subarray(0, LONGEST_SHOWN)));
}

/** What a peer said is never printed raw, nor at any length. */
export function printable(said: string): string {
  return said
    .slice(0, LONGEST_SHOWN)
    .replace(/[^\x20-\x7e]+/g, " ")
    .trim();
}

function optionOf(product: LxdTransport["product"]): string {
  return product === undefined ? "security.guestapi, security.devlxd" : `${NAMES[product][1]}=false`;
}
