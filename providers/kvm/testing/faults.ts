import { Duplex } from "node:stream";
import { decodeFrame, encodeFrame, type Frame, isFrame } from "../../../src/mdata/frame.js";
import { LineReader } from "../../../src/mdata/line-reader.js";

/**
 * What may happen to an answer: it is not sent (`lost`), damaged on its way (`damaged`), meant for somebody else (`foreign`),
 * preceded by bytes of whatever kind (`noise`), sent byte by byte (`torn`), sent twice (`doubled`), endless (`flood`), or the
 * connection ends before it (`cut`: the request is done) or before the request is even looked at (`cut-before`).
 */
export type KvmHostFault =
  | "lost"
  | "damaged"
  | "foreign"
  | "noise"
  | "torn"
  | "doubled"
  | "flood"
  | "cut"
  | "cut-before";

const NOISE = Buffer.from([0, 0xff, 0x0a, 0x56, 0x32, 0x20, 0x31, 0x0a, 0xe2, 0x82, 0x0a, 0x0d, 0x0a]);
const FLOOD_BYTES = 64 * 1024;
const ID_AT = /^(V2 \d+ )[0-9a-f]{8} /;
const LINE_END = Buffer.from("\n");
const MAX_LINE_BYTES = 64 * 1024 * 1024;
/** What goes out for an answer; of a fault that is not here nothing does. */
const SPOILT: Partial<Record<KvmHostFault, (answer: Buffer, frame: Frame) => readonly Buffer[]>> = {
  lost: () => [],
  damaged: (answer) => [Buffer.from(answer.toString("latin1").replace(ID_AT, "$100000000 "), "latin1")],
  foreign: (_, frame) => [encodeFrame({ ...frame, id: "00000000" })],
  noise: (answer) => [Buffer.concat([NOISE, answer])],
  torn: (answer) => Array.from(answer, (byte) => Buffer.of(byte)),
  doubled: (answer) => [Buffer.concat([answer, answer])],
};

/** A guest as the host meets it: its requests come through as they are, the answers as the faults have it. */
export class FaultyStream extends Duplex {
  readonly #guest: Duplex;
  readonly #onCommand: (word: string) => KvmHostFault | undefined;
  readonly #requests = new LineReader(MAX_LINE_BYTES);
  readonly #answers = new LineReader(MAX_LINE_BYTES);
  /** What is to happen to the answer, by the request's id. */
  readonly #faults = new Map<string, KvmHostFault>();

  /** @param onCommand hears of each request's command; returns what is to happen to its answer */
  constructor(guest: Duplex, onCommand: (word: string) => KvmHostFault | undefined) {
    super();
    this.#guest = guest;
    this.#onCommand = onCommand;
    guest.on("error", () => guest.destroy());
    guest.on("end", () => this.push(null));
    guest.once("close", () => this.destroy());
    guest.on("data", (chunk: Buffer) => {
      this.#requests.push(chunk);
      for (let line = this.#requests.next(); line !== undefined; line = this.#requests.next())
        this.#takeRequest(line.bytes);
    });
  }

  override _read(): void {
    this.#guest.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#answers.push(chunk);
    for (let line = this.#answers.next(); line !== undefined; line = this.#answers.next())
      this.#takeAnswer(line.bytes);
    if (this.#guest.writableNeedDrain) this.#guest.once("drain", () => done());
    else done();
  }

  override _final(done: () => void): void {
    this.#guest.end();
    done();
  }

  override _destroy(_error: Error | null, done: (error: null) => void): void {
    this.#guest.destroy();
    done(null);
  }

  #takeRequest(line: Buffer): void {
    if (this.destroyed) return;
    const frame = frameIn(line);
    const fault = frame && this.#onCommand(frame.word);
    if (fault === "cut-before") {
      this.destroy();
      return;
    }
    if (frame !== undefined && fault !== undefined) this.#faults.set(frame.id, fault);
    if (!this.push(Buffer.concat([line, LINE_END]))) this.#guest.pause();
  }

  #takeAnswer(line: Buffer): void {
    const frame = frameIn(line);
    const fault = frame === undefined || frame.word === "EVENT" ? undefined : this.#faults.get(frame.id);
    if (frame !== undefined && fault !== undefined) this.#faults.delete(frame.id);
    const answer = Buffer.concat([line, LINE_END]);
    if (frame === undefined || fault === undefined) this.#guest.write(answer);
    else this.#spoil(fault, frame, answer);
  }

  #spoil(fault: KvmHostFault, frame: Frame, answer: Buffer): void {
    const spoilt = SPOILT[fault];
    if (fault === "flood") flood(this.#guest);
    else if (spoilt === undefined) this.destroy();
    else for (const part of spoilt(answer, frame)) this.#guest.write(part);
  }
}

function frameIn(line: Buffer): Frame | undefined {
  return isFrame(line) ? decodeFrame(line) : undefined;
}

/** Sends one line without an end, for as long as anybody takes it. */
function flood(stream: Duplex): void {
  const part = Buffer.alloc(FLOOD_BYTES, 0x41);
  const pour = (): void => {
    while (!stream.destroyed && stream.write(part));
  };
  stream.on("drain", pour);
  pour();
}
