import type { Duplex } from "node:stream";
import { type Answer, encodeAnswer } from "../../../src/mdata/answer.js";
import { base64Length } from "../../../src/mdata/base64.js";
import { decodeFrame, decodeFrameHead, isFrame } from "../../../src/mdata/frame.js";
import { type Line, LineReader } from "../../../src/mdata/line-reader.js";
import { RememberedAnswers } from "../../../src/mdata/repeats.js";
import { decodeRequest, decodeRequestInSteps, type Introduction } from "../../../src/mdata/request.js";
import type { StateChange } from "./guest-state.js";
import type { GuestTurns } from "./guest-turns.js";
import type { GuestLimits } from "./limits.js";
import {
  answerFrame,
  answerIfCheap,
  answerLine,
  failure,
  isOurs,
  type Reply,
  type Served,
} from "./requests.js";

/** What a session reports beside its answers. */
export interface SessionReports {
  /** A frame came that is broken, and nobody was answered. */
  onBroken(): void;
  /** The guest asked for something and was refused for its size. */
  onOversize(bytes: number): void;
  /** Changes piled up that the guest does not take; its connection is dropped. */
  onOverrun(): void;
  /** A request failed for the host's own reasons. */
  onFault(error: unknown): void;
}

/** Longest request that is served without a turn. */
const SHORT_BYTES = 1024;
const LF = 0x0a;
/** Most keys whose changes wait for a guest that does not read. */
const MAX_WAITING_CHANGES = 1024;
/** Text around the payload of the longest frame. */
const FRAME_OVERHEAD_BYTES = 128;

/**
 * Serves one connection of a guest until it ends. Requests are served one after the other; while an answer is not taken, no
 * further request is read, so that a connection costs at most one line in and one answer out, whatever the guest does.
 */
export class GuestSession {
  readonly #stream: Duplex;
  readonly #served: Served;
  readonly #limits: GuestLimits;
  readonly #turns: GuestTurns;
  readonly #reports: SessionReports;
  readonly #reader: LineReader;
  readonly #watches = new Map<string, string>();
  readonly #changes = new Map<string, StateChange>();
  readonly #stopListening: () => void;
  #flushing = false;
  /** An answer is going out in parts: nothing may come between them. */
  #sending = false;
  #ended = false;
  #wake = (): void => undefined;
  /** Resolves when the connection is over. */
  readonly ended: Promise<void>;

  /** @param turns those of the guest, all its connections together */
  constructor(
    stream: Duplex,
    served: Omit<Served, "watches" | "answers"> & { readonly turns: GuestTurns },
    reports: SessionReports,
  ) {
    this.#stream = stream;
    this.#turns = served.turns;
    this.#limits = served.state.limits;
    this.#reports = reports;
    this.#reader = new LineReader(longestLine(this.#limits));
    this.#served = {
      ...served,
      answers: new RememberedAnswers(),
      watches: {
        add: (id, prefix) => this.#addWatch(id, prefix),
        remove: (id) => this.#watches.delete(id),
      },
    };
    this.#stopListening = served.state.listen((change) => this.#changed(change));
    this.ended = new Promise((resolve) => {
      stream.once("close", () => {
        this.#ended = true;
        this.#stopListening();
        this.#watches.clear();
        this.#changes.clear();
        this.#wake();
        resolve();
      });
    });
    stream.on("error", () => stream.destroy());
    stream.on("end", () => stream.end());
    stream.on("drain", () => {
      this.#wake();
      this.#flushLater();
    });
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  /** What the client on it says of itself: its session, its boot, how far it has seen. Undefined for one that does not. */
  get client(): Introduction | undefined {
    return this.#served.answers.client;
  }

  /** Ends the connection. */
  close(): void {
    this.#stream.destroy();
  }

  #take(chunk: Buffer): void {
    const work = this.#serveAtOnce(chunk);
    if (work === undefined) return;
    this.#stream.pause();
    work.then(
      () => {
        if (!this.#ended) this.#stream.resume();
      },
      (error) => {
        this.#reports.onFault(error);
        this.close();
      },
    );
  }

  /**
   * Serves one short request that came alone without a turn: it takes no longer than the reading of it did, and each connection has
   * one for each turn of the event loop.
   * @returns what remains to be done; undefined for nothing
   */
  #serveAtOnce(chunk: Buffer): Promise<void> | undefined {
    const last = chunk.length - 1;
    const isAlone = last < SHORT_BYTES && chunk[last] === LF && chunk.indexOf(LF) === last;
    if (!isAlone || this.#reader.pending > 0 || !isFrame(chunk)) return this.#serve(chunk);
    const frame = decodeFrame(chunk, last);
    if (frame === undefined) return this.#serve(chunk);
    if (isOurs(frame)) return undefined;
    const reply = answerIfCheap(this.#served, frame, decodeRequest(frame), this.#reports.onFault);
    if (reply === undefined) return this.#serve(chunk);
    if (reply instanceof Promise) return reply.then((late) => this.#send(late));
    if (!Buffer.isBuffer(reply)) return this.#send(reply);
    return this.#stream.write(reply) ? undefined : this.#drained();
  }

  async #serve(chunk: Buffer): Promise<void> {
    this.#reader.push(chunk);
    for (;;) {
      await this.#turns.next();
      const line = this.#ended ? undefined : this.#reader.next();
      if (line === undefined) break;
      const reply = await this.#answer(line);
      if (reply !== undefined) await this.#send(reply);
    }
  }

  async #answer(line: Line): Promise<Reply | undefined> {
    if (this.#reader.isTooLong(line)) return this.#tooLong(line);
    if (isFrame(line.bytes)) return this.#answerFrame(line.bytes);
    const text = line.bytes.toString("utf8");
    // A new client begins so on a stream that an older one left: it must not hear of the other's watches.
    if (text.trim() === "" || text.startsWith("NEGOTIATE")) {
      this.#forgetWatches();
      this.#served.answers.end();
    }
    return answerLine(this.#served.state, text);
  }

  async #answerFrame(line: Buffer): Promise<Reply | undefined> {
    const frame = decodeFrame(line);
    if (frame === undefined) this.#reports.onBroken();
    if (frame === undefined || isOurs(frame)) return undefined;
    const steps = decodeRequestInSteps(frame);
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return answerFrame(this.#served, frame, value, this.#reports.onFault);
      await this.#turns.next();
    }
  }

  async #send(reply: Reply): Promise<void> {
    if (typeof reply === "string" || Buffer.isBuffer(reply)) {
      if (!this.#ended && !this.#stream.write(reply)) await this.#drained();
      return;
    }
    this.#sending = true;
    for (const part of reply) {
      if (this.#ended) return;
      if (part !== undefined && !this.#stream.write(part)) await this.#drained();
      await this.#turns.next();
    }
    this.#sending = false;
    this.#flushLater();
  }

  #tooLong({ bytes, length }: Line): Buffer | string | undefined {
    this.#reports.onOversize(length);
    if (!isFrame(bytes)) return "FAILURE\n";
    const frame = decodeFrameHead(bytes, length);
    const { maxValueBytes } = this.#limits;
    const message = `ERR_VALUE_TOO_LONG: the request has ${length} bytes; values may have ${maxValueBytes}`;
    return frame && encodeAnswer(frame.id, failure(message));
  }

  #addWatch(id: string, prefix: string): boolean {
    if (!this.#watches.has(id) && this.#watches.size >= this.#limits.maxWatches) return false;
    this.#watches.set(id, prefix);
    return true;
  }

  #forgetWatches(): void {
    this.#watches.clear();
    this.#changes.clear();
  }

  #changed(change: StateChange): void {
    if (
      this.#watches.size === 0 ||
      ![...this.#watches.values()].some((prefix) => change.key.startsWith(prefix))
    )
      return;
    this.#changes.delete(change.key);
    this.#changes.set(change.key, change);
    if (this.#changes.size > MAX_WAITING_CHANGES) {
      this.#reports.onOverrun();
      this.close();
    } else this.#flushLater();
  }

  /** Changes of one turn go out together, behind the answers of that turn; several of one key are told once. */
  #flushLater(): void {
    if (this.#flushing || this.#sending || this.#changes.size === 0) return;
    this.#flushing = true;
    setImmediate(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    for (const [key, { operation, revision }] of this.#changes) {
      if (this.#ended || this.#sending || this.#stream.writableNeedDrain) break;
      this.#changes.delete(key);
      const event: Answer = { kind: "event", event: { key, op: operation, rev: revision } };
      for (const [id, prefix] of this.#watches)
        if (key.startsWith(prefix)) this.#stream.write(encodeAnswer(id, event));
      await this.#turns.next();
    }
    this.#flushing = false;
    // What came while the last of them waited for its turn.
    if (!this.#ended && !this.#stream.writableNeedDrain) this.#flushLater();
  }

  /** Waits until the guest has taken what it was sent, or is gone. */
  async #drained(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#ended) resolve();
    });
  }
}

/** Returns the length of the longest line that can be a request. */
function longestLine({ maxKeyBytes, maxValueBytes }: GuestLimits): number {
  return FRAME_OVERHEAD_BYTES + base64Length(base64Length(maxKeyBytes) + 1 + base64Length(maxValueBytes));
}
