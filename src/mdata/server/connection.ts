import type { Duplex } from "node:stream";
import { Call } from "../../base/flow/call.js";
import { Notifier } from "../../base/flow/notifier.js";
import { type Answer, answerText } from "../answer.js";
import { base64Length } from "../base64.js";
import { decodeFrame, decodeFrameHead, isFrame } from "../frame.js";
import { type Line, LineReader } from "../line-reader.js";
import { RememberedAnswers } from "../repeats.js";
import { decodeRequestInSteps, type Introduction } from "../request.js";
import type { KeyChange, KeyLimits, ServedKeys } from "./keys.js";
import {
  answerFrame,
  answerIfCheap,
  answerLine,
  type Dialect,
  failure,
  isOurs,
  PVBUS_DIALECT,
  type Reply,
  type Served,
} from "./requests.js";
import type { GuestTurns } from "./turns.js";

/** What a connection is served with. */
export interface ServedParts {
  /** The client's keys. */
  readonly keys: ServedKeys;
  /** The turns of the client, all its connections together. */
  readonly turns: Pick<GuestTurns, "next">;
  /** What is spoken; default: all of it. */
  readonly dialect?: Dialect | undefined;
}

/** What a connection reports beside its answers. */
export interface ConnectionReports {
  /** A frame came that is broken, and nobody was answered. */
  onBroken(): void;
  /** The client asked for something and was refused for its size. */
  onOversize(bytes: number): void;
  /** Changes piled up that the client does not take; its connection is dropped. */
  onOverrun(): void;
  /** A request failed for the host's own reasons. */
  onFault(error: unknown): void;
}

/** Longest request that is served without a turn. */
const SHORT_BYTES = 1024;
const LF = 0x0a;
/** Most keys whose changes wait for a client that does not read. */
const MAX_WAITING_CHANGES = 1024;
/** Text around the payload of the longest frame. */
const FRAME_OVERHEAD_BYTES = 128;

/**
 * Serves one connection of a client until it ends. Requests are served one after the other; while an answer is not taken, no
 * further request is read, so that a connection costs at most one line in and one answer out, whatever the client does.
 */
export class ServedConnection {
  readonly #stream: Duplex;
  readonly #served: Served;
  readonly #limits: KeyLimits;
  readonly #turns: ServedParts["turns"];
  readonly #reports: ConnectionReports;
  readonly #reader: LineReader;
  readonly #watches = new Map<string, string>();
  readonly #changes = new Map<string, KeyChange>();
  readonly #stopListening: () => void;
  #flushing = false;
  /** An answer is going out in parts: nothing may come between them. */
  #sending = false;
  #ended = false;
  readonly #drains = new Notifier();
  /** Resolves when the connection is over. */
  readonly ended: Promise<void>;

  constructor(
    stream: Duplex,
    { keys, turns, dialect = PVBUS_DIALECT }: ServedParts,
    reports: ConnectionReports,
  ) {
    this.#stream = stream;
    this.#turns = turns;
    this.#limits = keys.limits;
    this.#reports = reports;
    this.#reader = new LineReader(longestLine(this.#limits));
    this.#served = {
      keys,
      dialect,
      answers: new RememberedAnswers(),
      watches: {
        add: (id, prefix) => this.#addWatch(id, prefix),
        remove: (id) => this.#watches.delete(id),
      },
    };
    this.#stopListening = keys.listen((change) => this.#changed(change));
    this.ended = new Promise((resolve) => {
      stream.once("close", () => {
        this.#ended = true;
        this.#stopListening();
        this.#watches.clear();
        this.#changes.clear();
        this.#drains.notify();
        resolve();
      });
    });
    stream.on("error", () => stream.destroy());
    stream.on("end", () => stream.end());
    stream.on("drain", () => {
      this.#drains.notify();
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
    if (!isAlone || this.#reader.pending > 0 || !this.#isFrame(chunk)) return this.#serve(chunk);
    const frame = decodeFrame(chunk, last);
    if (frame === undefined) return this.#serve(chunk);
    if (isOurs(frame)) return undefined;
    const reply = answerIfCheap(this.#served, frame, this.#reports.onFault);
    if (reply === undefined) return this.#serve(chunk);
    if (reply instanceof Promise) return reply.then((late) => this.#send(late));
    if (typeof reply !== "string") return this.#send(reply);
    return this.#stream.write(reply, "latin1") ? undefined : this.#drained();
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
    if (this.#isFrame(line.bytes)) return this.#answerFrame(line.bytes);
    const text = line.bytes.toString("utf8");
    // A new client begins so on a stream that an older one left: it must not hear of the other's watches.
    if (text.trim() === "" || text.startsWith("NEGOTIATE")) {
      this.#forgetWatches();
      this.#served.answers.end();
    }
    return answerLine(this.#served, text);
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
    if (typeof reply === "string") {
      if (!this.#ended && !this.#stream.write(reply, "latin1")) await this.#drained();
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

  #tooLong({ bytes, length }: Line): string | undefined {
    this.#reports.onOversize(length);
    if (!this.#isFrame(bytes)) return "FAILURE\n";
    const frame = decodeFrameHead(bytes, length);
    const { maxValueBytes } = this.#limits;
    const message = `ERR_VALUE_TOO_LONG: the request has ${length} bytes; values may have ${maxValueBytes}`;
    return frame && answerText(frame.id, failure(message));
  }

  /** Version 1 knows no frames. */
  #isFrame(line: Buffer): boolean {
    return isFrame(line) && this.#served.dialect.commands.length > 0;
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

  #changed(change: KeyChange): void {
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
        if (key.startsWith(prefix)) this.#stream.write(answerText(id, event), "latin1");
      await this.#turns.next();
    }
    this.#flushing = false;
    // What came while the last of them waited for its turn.
    if (!this.#ended && !this.#stream.writableNeedDrain) this.#flushLater();
  }

  /** Waits until the client has taken what it was sent, or is gone. */
  async #drained(): Promise<void> {
    if (!this.#ended) await this.#drains.wait(Call.endless());
  }
}

/** Returns the length of the longest line that can be a request. */
function longestLine({ maxKeyBytes, maxValueBytes }: KeyLimits): number {
  return FRAME_OVERHEAD_BYTES + base64Length(base64Length(maxKeyBytes) + 1 + base64Length(maxValueBytes));
}
