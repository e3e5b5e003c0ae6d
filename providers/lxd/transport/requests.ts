import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Duplex } from "node:stream";
import type { Call } from "../../../src/base/flow/call.js";
import { isSystemError, systemError } from "../../../src/base/system-error.js";
import type { LxdTransport } from "./transport.js";

/** Most connections at a time: more make nothing faster. */
const MAX_CONNECTIONS = 4;
/** Newer servers close an idle connection after 30 s. */
const IDLE_MS = 10_000;
/** The real ones have 200 bytes. */
export const MAX_HEAD_BYTES = 16 * 1024;

/** What is asked. */
export interface Question {
  readonly method: "GET" | "PATCH";
  readonly path: string;
  readonly body?: string;
  /** Longest body that is taken. */
  readonly maxBytes: number;
  /** Longest time until the whole answer is there. */
  readonly answerMs: number;
}

/** What was answered. */
export interface Answer {
  readonly status: number;
  /** `Content-Type` without its parameters. */
  readonly type: string;
  readonly body: Buffer;
}

/** The body is longer than what is taken. */
export class BodyTooLong extends Error {}
/** What came is no HTTP, or none that was asked for. */
export class NoHttp extends Error {}
/** Nothing, or not all, has come in time. */
export class NoAnswer extends Error {}

/** Asks over a UNIX socket, by kept connections. */
export class Requests {
  readonly #agent: Agent;

  constructor(transport: LxdTransport) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: MAX_CONNECTIONS, timeout: IDLE_MS });
    this.#agent.createConnection = (_, onCreate) => {
      try {
        return transport.connect();
      } catch (error) {
        onCreate?.(error as Error, undefined as never);
        return undefined;
      }
    };
  }

  /**
   * Asks, and once more where a kept connection turns out to be closed.
   * @throws BodyTooLong, NoHttp, NoAnswer, the system's error, `ECONNRESET` for an answer that is cut off; PvbusError at the call's end
   */
  async ask(question: Question, call: Call): Promise<Answer> {
    const first = new Exchange(this.#agent, question);
    try {
      return await first.answer(call);
    } catch (error) {
      if (question.method !== "GET" || !first.wasStale || !isSystemError(error)) throw error;
    }
    return new Exchange(this.#agent, question).answer(call);
  }

  /** Closes all connections. */
  close(): void {
    this.#agent.destroy();
  }
}

/** One request with its answer. */
class Exchange {
  readonly #question: Question;
  readonly #request: ClientRequest;
  #hasHead = false;

  constructor(agent: Agent, question: Question) {
    const { method, path, body } = question;
    this.#question = question;
    this.#request = request({
      agent,
      method,
      path,
      headers: { host: "lxd", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      maxHeaderSize: MAX_HEAD_BYTES,
      // Whatever the command line of Node says: it is for all of the process.
      insecureHTTPParser: false,
    });
  }

  /** Whether a connection that was kept ended before it answered anything. */
  get wasStale(): boolean {
    return this.#request.reusedSocket && !this.#hasHead;
  }

  async answer(call: Call): Promise<Answer> {
    const { path, answerMs, body } = this.#question;
    const waitingFor = `the answer to ${path.slice(0, 200)}`;
    const answered = new Promise<Answer>((resolve, reject) => {
      this.#request
        .on("error", (error) => reject(plain(error)))
        .on("upgrade", (_response: IncomingMessage, socket: Duplex) => {
          socket.destroy();
          reject(new NoHttp("another protocol than was asked for"));
        })
        .on("response", (response) => this.#take(response, resolve, reject))
        .on("close", () => {
          if (!this.#hasHead) reject(cutOff());
        });
    });
    answered.catch(() => undefined);
    const late = setTimeout(() => this.#request.destroy(new NoAnswer(`within ${answerMs} ms`)), answerMs);
    try {
      call.check(waitingFor);
      this.#request.end(body);
      return await call.within(answered, waitingFor);
    } catch (error) {
      this.#request.destroy();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  #take(response: IncomingMessage, resolve: (answer: Answer) => void, reject: (error: Error) => void): void {
    this.#hasHead = true;
    const { maxBytes } = this.#question;
    const { statusCode = 0, headers } = response;
    const chunks: Buffer[] = [];
    let length = 0;
    const tooLong = (): void => {
      reject(new BodyTooLong(`more than ${maxBytes} bytes`));
      response.destroy();
    };
    if (Number(headers["content-length"] ?? 0) > maxBytes) {
      tooLong();
      return;
    }
    response
      .on("data", (chunk: Buffer) => {
        length += chunk.length;
        if (length > maxBytes) tooLong();
        else chunks.push(chunk);
      })
      .on("error", (error) => reject(plain(error)))
      .on("close", () => {
        if (!response.complete) return reject(cutOff());
        const type = (headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
        resolve({ status: statusCode, type, body: Buffer.concat(chunks, length) });
      });
  }
}

function cutOff(): Error {
  return systemError("ECONNRESET", "the connection ended before the answer did", "read");
}

/** Tells what the parser refuses from what ended in the middle; Node has one kind of error for both. */
function plain(error: Error): Error {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (code === "ECONNRESET" || code === "HPE_INVALID_EOF_STATE") return cutOff();
  return code.startsWith("HPE_") ? new NoHttp(error.message, { cause: error }) : error;
}
