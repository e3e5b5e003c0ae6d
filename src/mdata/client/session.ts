import { randomBytes, randomInt } from "node:crypto";
import { type PvbusError, pvbusError } from "../../base/errors.js";
import { Call } from "../../base/flow/call.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { type Answer, decodeAnswer, decodeHostSession, type HostSession, type KeyEvent } from "../answer.js";
import { decodeFrame, decodeFrameHead, isFrame } from "../frame.js";
import type { Line } from "../line-reader.js";
import { encodePlainRequest, PlainAnswerReader } from "../plain.js";
import { encodeRequest, type Introduction, type Request } from "../request.js";
import { negotiate } from "./negotiation.js";
import { type ConnectionEvents, LineStream, type Transport } from "./transport.js";

/** Says that a session was over before anything of a request was written. */
export class SessionOver extends Error {}

/** Its call ends when the answer comes. @returns the answer where it is known by other means @throws what the request is to reject with */
type BeforeRepeat = (call: Call) => Promise<Answer | undefined>;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** A host that says nothing at all for so long while somebody waits is taken for gone. */
const SILENT_MS = 1_000;
/**
 * On a shared line a frame may get lost: other programs throw away what is in it when they open it, before they look for its
 * lock. What is asked for is asked again after that time, and then after twice as long each time, under the same id: a host of
 * ours does nothing twice ({@link Session.introduce}), for others see {@link Session.doesTwice}.
 */
const REPEAT_MS = 1_000;
/** So long a repetition may wait for room. */
const LONGEST_WRITE_MS = 60_000;

const IDS = 2 ** 32;
const ANSWER = "the host's answer";

/**
 * One opened connection, negotiated: requests go out, answers find their requests by id. What is no whole answer to a request of
 * ours (broken frames, foreign ids, anything) is passed over.
 */
export class Session {
  readonly version: 1 | 2;
  /** What carries it. */
  readonly line: LineStream;
  readonly #maxBytes: number;
  readonly #isLossy: boolean;
  readonly #waiting = new Map<string, Waiting>();
  readonly #watches = new Map<string, (event: KeyEvent) => void>();
  #plain: (Waiting & { readonly reader: PlainAnswerReader }) | undefined;
  #lastId = randomInt(IDS);
  #heardAt = monotonicMs();
  #hostSession: string | undefined;
  #revision = 0;

  private constructor(line: LineStream, version: 1 | 2, maxLineBytes: number, isLossy: boolean) {
    this.line = line;
    this.version = version;
    this.#maxBytes = maxLineBytes;
    this.#isLossy = isLossy;
    line.onLine = version === 2 ? this.#take : this.#takePlain;
    line.onEnd = () => {
      const waiting = [...this.#waiting.values(), ...(this.#plain === undefined ? [] : [this.#plain])];
      for (const { reject } of waiting) reject(this.line.lost());
    };
  }

  /** @param maxLineBytes longest answer that is taken @throws those of {@link Transport.open} and {@link negotiate} */
  static async open(
    transport: Transport,
    maxLineBytes: number,
    call: Call,
    onBusy?: ConnectionEvents["onBusy"],
  ): Promise<Session> {
    const line = await LineStream.open(transport, maxLineBytes, call, onBusy);
    try {
      const version = await negotiate(line, transport.isShared, call);
      if (!line.isOpen) throw line.lost();
      // What is handed on by a program comes over a socket, where nothing gets lost.
      return new Session(line, version, maxLineBytes, transport.isShared && !line.isPart);
    } catch (error) {
      await line.close();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.line.isOpen;
  }

  /**
   * With version 1 one at a time.
   * @param beforeRepeat asked before it is sent again; a change that the host would do twice is not sent again without
   * @throws SessionOver when nothing was written; PvbusError `ERR_DISCONNECTED` when the host went away meanwhile, `ERR_TIMEOUT`,
   *   `ERR_ABORTED`, `ERR_NOT_SUPPORTED` for what version 1 does not have, `ERR_PROTOCOL` for an answer over the limit
   */
  request(request: Request, call: Call, beforeRepeat?: BeforeRepeat): Promise<Answer> {
    return this.version === 2
      ? this.#send(this.#newId(), request, call, beforeRepeat)
      : this.#sendPlain(request, call);
  }

  /** Whether a change may get lost here, and the host would do it once more if it came again. */
  get doesTwice(): boolean {
    return this.#isLossy && this.version === 2 && this.#hostSession === undefined;
  }

  /** Tells a host that can do it which session this is: it does no change twice then that is sent again. */
  async introduce(client: Omit<Introduction, "session">, call: Call): Promise<void> {
    const session = randomBytes(16).toString("hex");
    const answer = await this.request({ command: "SESSION", session, ...client }, call);
    const host = answer.kind === "success" ? decodeHostSession(answer.value) : undefined;
    this.#hostSession = host?.session;
    // A host that says less than it was told has another history: what was seen of the old one counts no more.
    this.#revision = host?.revision ?? 0;
  }

  /** The host's session, and the highest revision that was seen of it; undefined where it has none. */
  get hostSession(): HostSession | undefined {
    return this.#hostSession === undefined
      ? undefined
      : { session: this.#hostSession, revision: this.#revision };
  }

  /** Begins a watch; its id ends and confirms it. Undefined when the host does not have watches. @throws as {@link Session.request} */
  async watch(prefix: string, listener: (event: KeyEvent) => void, call: Call): Promise<string | undefined> {
    const id = this.#newId();
    this.#watches.set(id, listener);
    let isWatching = false;
    try {
      isWatching = await this.confirmWatch(id, prefix, call);
    } finally {
      if (!isWatching) this.#watches.delete(id);
    }
    return isWatching ? id : undefined;
  }

  /** Asks for a watch once more, which also shows whether the host is alive; false when it refuses. */
  async confirmWatch(id: string, prefix: string, call: Call): Promise<boolean> {
    return (await this.#send(id, { command: "WATCH", prefix }, call)).kind === "success";
  }

  async unwatch(id: string, call: Call): Promise<void> {
    this.#watches.delete(id);
    await this.request({ command: "UNWATCH", watch: id }, call);
  }

  close(): Promise<void> {
    return this.line.close();
  }

  async #send(id: string, request: Request, call: Call, beforeRepeat?: BeforeRepeat): Promise<Answer> {
    call.check(ANSWER);
    if (!this.isOpen) throw new SessionOver();
    const answer = new Promise<Answer>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // It may be given up before it settles.
    answer.catch(() => undefined);
    const frame = encodeRequest(id, request);
    const sentAt = monotonicMs();
    const isChange = request.command === "PUT" || request.command === "DELETE";
    const mayRepeat = this.#isLossy && (!isChange || !this.doesTwice || beforeRepeat !== undefined);
    const endRepetition = mayRepeat ? this.#repeat(id, frame, call, beforeRepeat) : undefined;
    try {
      await this.line.write(frame, call);
      return await call.within(answer, ANSWER);
    } catch (error) {
      // The next one begins afresh, with whoever is there then.
      if (monotonicMs() - Math.max(sentAt, this.#heardAt) > SILENT_MS) await this.close();
      throw error;
    } finally {
      endRepetition?.();
      this.#waiting.delete(id);
    }
  }

  /** Writes a frame again and again. @returns what ends that */
  #repeat(id: string, frame: Buffer, call: Call, beforeRepeat: BeforeRepeat | undefined): () => void {
    const ending = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const again = async (pause: number): Promise<void> => {
      const during = new Call({ signal: ending.signal, timeoutMs: call.remainingMs });
      const known = await beforeRepeat?.(during);
      if (ending.signal.aborted) return;
      if (known !== undefined) {
        this.#waiting.get(id)?.resolve(known);
        return;
      }
      // Not cut off by the answer, which would leave half a frame. Whoever waits hears of a line that is gone.
      this.line.write(frame, new Call({ timeoutMs: LONGEST_WRITE_MS })).catch(() => undefined);
      later(2 * pause);
    };
    const later = (pause: number): void => {
      timer = setTimeout(() => {
        again(pause).catch((error) => this.#waiting.get(id)?.reject(error));
      }, pause).unref();
    };
    later(REPEAT_MS);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }

  async #sendPlain(request: Request, call: Call): Promise<Answer> {
    call.check(ANSWER);
    if (request.command !== "GET" && request.command !== "KEYS") {
      const why = "the host speaks version 1 of the metadata protocol, which reads and lists only";
      throw pvbusError("ERR_NOT_SUPPORTED", `${why}; have the host updated`);
    }
    if (!this.isOpen) throw new SessionOver();
    const reader = new PlainAnswerReader(this.#maxBytes);
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#plain = { reader, resolve, reject };
    });
    answer.catch(() => undefined);
    try {
      const key = request.command === "GET" ? request.key : "";
      await this.line.write(encodePlainRequest(request.command, key), call);
      return await call.within(answer, ANSWER);
    } catch (error) {
      // Answers have no ids here: one that comes late would be taken for the next request's.
      await this.close();
      throw error;
    } finally {
      this.#plain = undefined;
    }
  }

  readonly #take = ({ bytes, length }: Line, isWhole: boolean): void => {
    this.#heardAt = monotonicMs();
    if (!isWhole) {
      this.#waiting.get(decodeFrameHead(bytes, length)?.id ?? "")?.reject(this.#tooLong(length));
      return;
    }
    const frame = isFrame(bytes) ? decodeFrame(bytes) : undefined;
    const answer = frame && decodeAnswer(frame);
    if (frame === undefined || answer === undefined) return;
    if (answer.kind !== "event") {
      this.#waiting.get(frame.id)?.resolve(answer);
      return;
    }
    const listener = this.#watches.get(frame.id);
    if (listener === undefined) return;
    this.#revision = Math.max(this.#revision, answer.event.rev);
    listener(answer.event);
  };

  readonly #takePlain = ({ bytes, length }: Line, isWhole: boolean): void => {
    if (!isWhole) this.#plain?.reject(this.#tooLong(length));
    const answer = isWhole ? this.#plain?.reader.take(bytes) : undefined;
    if (answer !== undefined) this.#plain?.resolve(answer);
  };

  #tooLong(length: number): PvbusError {
    const message = `the host's answer has ${length} bytes, ${this.#maxBytes} are taken; set maxLineBytes`;
    return pvbusError("ERR_PROTOCOL", message);
  }

  #newId(): string {
    for (;;) {
      this.#lastId = (this.#lastId + 1) % IDS;
      const id = this.#lastId.toString(16).padStart(8, "0");
      if (!this.#watches.has(id)) return id;
    }
  }
}
