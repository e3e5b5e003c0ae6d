import { Backoff } from "../../src/base/flow/backoff.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Closing } from "../../src/base/flow/closing.js";
import { monotonicMs } from "../../src/base/flow/monotonic.js";
import { broken, decodeInstance, decodeKeys, type Instance } from "./protocol/answers.js";
import { META_DATA, pathOf } from "./protocol/keys.js";
import {
  connectionFailure,
  isNoSuchKey,
  isPassingAnswer,
  isRestarting,
  printable,
  refusal,
  type Situation,
  valueTooLong,
} from "./transport/failures.js";
import { type Answer, BodyTooLong, type Question, Requests } from "./transport/requests.js";
import type { LxdTransport } from "./transport/transport.js";

const JSON_TYPE = "application/json";
const VALUE_TYPE = "application/octet-stream";
const MEBIBYTE = 1 << 20;
const MAX_LIST_BYTES = 16 * MEBIBYTE;
const MAX_DOCUMENT_BYTES = MEBIBYTE;
const MAX_INSTANCE_BYTES = 64 * 1024;
const CONTAINER_ANSWER_MS = 10_000;
/** An agent asks the host for each request. */
const MACHINE_ANSWER_MS = 30_000;
/** Pauses before a daemon that restarts is asked again. */
export const PAUSES = { firstMs: 100, longestMs: 5_000 } as const;

/** How a client asks. */
export interface ClientSettings {
  readonly transport: LxdTransport;
  readonly uid: number | undefined;
  readonly maxValueBytes: number;
  /** Longest time in which a failure that may pass is waited out. */
  readonly patienceMs: number;
  readonly closing: Closing;
}

/** The requests of the guest API that only read, and the one that tells the instance's state. */
export class LxdClient {
  readonly #settings: ClientSettings;
  readonly #requests: Requests;
  #instance: Instance | undefined;

  constructor(settings: ClientSettings) {
    this.#settings = settings;
    this.#requests = new Requests(settings.transport);
  }

  /** What failures are told of. */
  get situation(): Situation {
    const { transport, uid } = this.#settings;
    return { transport, uid, isMachine: this.#instance && this.#instance.type === "virtual-machine" };
  }

  /** Asks what this instance is. */
  async instance(call: Call): Promise<Instance> {
    const answer = await this.#get("/1.0", MAX_INSTANCE_BYTES, call);
    this.#instance = decodeInstance(this.#bodyOf(answer, JSON_TYPE));
    return this.#instance;
  }

  /** Lists the keys that are visible, sorted. */
  async keys(call: Call): Promise<string[]> {
    const answer = await this.#get("/1.0/config", MAX_LIST_BYTES, call);
    return decodeKeys(this.#bodyOf(answer, JSON_TYPE));
  }

  /** Reads a value; undefined when there is no such key. @throws PvbusError `ERR_VALUE_TOO_LONG` too */
  async value(key: string, call: Call): Promise<Buffer | undefined> {
    const { type } = this.#instance ?? (await this.instance(call));
    const most = key === META_DATA ? MAX_DOCUMENT_BYTES : this.#settings.maxValueBytes;
    let answer = await this.#get(pathOf(key, type), most, call);
    // One series of LXD's agents encodes the key itself. With any other one encoding may give another key's value.
    if (
      isNoSuchKey(answer) &&
      type === "virtual-machine" &&
      this.#mayEncode(key) &&
      (await this.keys(call)).includes(key)
    )
      answer = await this.#get(pathOf(key, "container"), most, call);
    if (isNoSuchKey(answer)) return undefined;
    const value = this.#bodyOf(answer, VALUE_TYPE);
    // A key with an empty value does not exist.
    return value.length === 0 ? undefined : value;
  }

  /** Tells the host the instance's state. @returns why it has not taken it; undefined when it has */
  async tellState(state: "Ready" | "Started", call: Call): Promise<string | undefined> {
    const answer = await this.#ask(
      { method: "PATCH", path: "/1.0", body: JSON.stringify({ state }), ...this.#limits(MAX_INSTANCE_BYTES) },
      call,
    );
    if (answer.status === 200 && answer.body.length === 0) return undefined;
    const isOld =
      answer.status === 501 || answer.status === 405 || (answer.status === 200 && answer.type === JSON_TYPE);
    if (isOld) return "this LXD is too old: 5.5 and later take the state";
    throw refusal(answer, this.situation);
  }

  /** Closes all connections. */
  close(): void {
    this.#requests.close();
  }

  #mayEncode(key: string): boolean {
    return this.#settings.transport.product === "lxd" && encodeURIComponent(key) !== key;
  }

  async #get(path: string, maxBytes: number, call: Call): Promise<Answer> {
    const until = monotonicMs() + Math.min(this.#settings.patienceMs, call.remainingMs);
    const pauses = new Backoff(PAUSES);
    for (;;) {
      const { failure, answer } = await this.#attempt(
        { method: "GET", path, ...this.#limits(maxBytes) },
        call,
      );
      if (answer !== undefined) return answer;
      const ms = pauses.next();
      if (monotonicMs() + ms >= until) throw failure;
      await call.sleep(ms, "the daemon of LXD or Incus");
      this.#settings.closing.check();
    }
  }

  /** Asks once; a failure that may pass is returned. */
  async #attempt(
    question: Question,
    call: Call,
  ): Promise<{ readonly answer?: Answer; readonly failure?: unknown }> {
    try {
      const answer = await this.#requests.ask(question, call);
      return isPassingAnswer(answer) ? { failure: refusal(answer, this.situation) } : { answer };
    } catch (error) {
      const failure = this.#told(error);
      if (isRestarting(error, this.situation)) return { failure };
      throw failure;
    }
  }

  async #ask(question: Question, call: Call): Promise<Answer> {
    try {
      return await this.#requests.ask(question, call);
    } catch (error) {
      throw this.#told(error);
    }
  }

  #told(error: unknown): unknown {
    const { closing } = this.#settings;
    if (closing.isClosed) return closing.error();
    if (error instanceof BodyTooLong) return valueTooLong(error);
    return connectionFailure(error, this.situation);
  }

  #bodyOf(answer: Answer, type: string): Buffer {
    const { status, body } = answer;
    if (status !== 200) throw refusal(answer, this.situation);
    if (answer.type !== type)
      throw broken(`the type of an answer is "${printable(answer.type)}" and not ${type}`);
    return body;
  }

  #limits(maxBytes: number): Pick<Question, "maxBytes" | "answerMs"> {
    const isContainer = this.#instance?.type === "container";
    return { maxBytes, answerMs: isContainer ? CONTAINER_ANSWER_MS : MACHINE_ANSWER_MS };
  }
}

/** The error of whoever asks to write. */
export const WRITE_ADVICE =
  "keys of LXD and Incus are set by the host: incus config set NAME user.KEY=VALUE (LXD: lxc config set)";
