import { mkdirSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { PvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import { Call } from "../../../src/base/flow/call.js";
import type { HostFiles } from "../../../src/base/host/files.js";
import type { Held } from "../../../src/base/host/tree.js";
import { type Answer, encodeAnswer, encodeHostSession } from "../../../src/mdata/answer.js";
import { type Change, changeKey } from "../../../src/mdata/client/channel.js";
import type { Session } from "../../../src/mdata/client/session.js";
import { decodeFrame, type Frame, isFrame } from "../../../src/mdata/frame.js";
import { type Line, LineReader } from "../../../src/mdata/line-reader.js";
import { INVALID_COMMAND, NEGOTIATE, VERSION_2 } from "../../../src/mdata/plain.js";
import { RememberedAnswers } from "../../../src/mdata/repeats.js";
import { decodeRequest } from "../../../src/mdata/request.js";
import { failure } from "../../../src/mdata/server/requests.js";
import { isSafe, type SharedSocket } from "./join-line.js";

/*
 * A port or serial line has room for one program, and a watch keeps it for as long as it runs. Meanwhile it lets the other
 * programs of the same user in: it speaks the host's side to them at a socket in a directory of that user's own, and hands
 * their requests on.
 */

const PRIVATE = 0o077;
/** Programs that are let in at the same time. */
const MAX_PROGRAMS = 32;
/** Events that a program does not take pile up so far. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** A request that is handed on waits no longer for the host; whoever asked gave up before. */
const REQUEST_MS = 60_000;
const OK: Answer = { kind: "success", value: Buffer.from("OK") };

/** Lets other programs have a part of a session. */
export class SharedLine {
  readonly #session: Session;
  readonly #maxLineBytes: number;
  readonly #programs = new Set<Socket>();
  #server: Server | undefined;

  /** Begins to let them in. Where the socket cannot be made nobody is, which is no failure: the line is theirs later. */
  constructor(socket: SharedSocket, session: Session, maxLineBytes: number) {
    this.#session = session;
    this.#maxLineBytes = maxLineBytes;
    const directory = makeRoom(socket);
    if (directory === undefined) return;
    const server = createServer((program) => this.#serve(program));
    this.#server = server;
    server.maxConnections = MAX_PROGRAMS;
    server.on("error", () => this.close());
    // What is bound is removed by the name under which it was.
    server.once("close", () => directory[Symbol.dispose]());
    server.listen(join(directory.path, socket.name));
    server.unref();
    onAbort(session.line.ended, () => this.close());
  }

  /** Lets nobody in any more and ends what there is; they open the line themselves then. */
  close(): void {
    // It removes the socket too, before anybody else can have the line.
    this.#server?.close();
    this.#server = undefined;
    for (const program of this.#programs) program.destroy();
  }

  #serve(program: Socket): void {
    this.#programs.add(program);
    const conversation = new ProgramConversation(program, this.#session, this.#maxLineBytes);
    program.once("close", () => {
      this.#programs.delete(program);
      conversation.end();
    });
  }
}

/** One program that is let in: one request at a time, so that it costs one line and one answer. */
class ProgramConversation {
  readonly #program: Socket;
  readonly #session: Session;
  readonly #maxLineBytes: number;
  readonly #reader: LineReader;
  readonly #answers = new RememberedAnswers();
  /** Ids of watches: the program's, ours. */
  readonly #watches = new Map<string, string>();

  constructor(program: Socket, session: Session, maxLineBytes: number) {
    this.#program = program;
    this.#session = session;
    this.#maxLineBytes = maxLineBytes;
    this.#reader = new LineReader(maxLineBytes);
    program.on("error", () => program.destroy());
    program.on("data", (chunk: Buffer) => {
      program.pause();
      this.#take(chunk).catch(() => program.destroy());
    });
  }

  end(): void {
    for (const id of this.#watches.values()) this.#unwatch(id);
    this.#watches.clear();
  }

  async #take(chunk: Buffer): Promise<void> {
    this.#reader.push(chunk);
    for (let line = this.#reader.next(); line !== undefined; line = this.#reader.next()) {
      const answer = await this.#answer(line);
      if (answer === undefined || this.#program.destroyed || this.#program.write(answer)) continue;
      await new Promise<void>((resolve) => {
        this.#program.once("drain", resolve);
        this.#program.once("close", resolve);
      });
    }
    if (this.#reader.pending > this.#maxLineBytes) throw new Error("a line without an end");
    this.#program.resume();
  }

  async #answer(line: Line): Promise<Buffer | string | undefined> {
    if (this.#reader.isTooLong(line)) throw new Error("a line that is too long");
    if (!isFrame(line.bytes)) return this.#word(line.bytes.toString("latin1").trim());
    const frame = decodeFrame(line.bytes);
    if (frame === undefined) return undefined;
    const isChange = frame.word === "PUT" || frame.word === "DELETE";
    const known = isChange ? this.#answers.find(frame) : undefined;
    if (known !== undefined) return known;
    const answer = encodeAnswer(frame.id, await this.#frameAnswer(frame));
    if (isChange) this.#answers.keep(frame, answer.toString("latin1"));
    return answer;
  }

  #word(word: string): string {
    this.end();
    this.#answers.end();
    if (word === NEGOTIATE.trim()) return `${VERSION_2}\n`;
    return word === "" ? `${INVALID_COMMAND}\n` : "FAILURE\n";
  }

  async #frameAnswer(frame: Frame): Promise<Answer> {
    const request = decodeRequest(frame);
    if (request === "unknown") return failure(`Unknown command ${frame.word}`);
    if (request === "invalid") return failure(`Invalid ${frame.word} Request`);
    const call = new Call({ timeoutMs: REQUEST_MS });
    switch (request.command) {
      case "WATCH":
        return this.#watch(frame.id, request.prefix, call);
      case "UNWATCH": {
        const own = this.#watches.get(request.watch);
        if (own === undefined) return { kind: "missing" };
        this.#watches.delete(request.watch);
        this.#unwatch(own);
        return OK;
      }
      case "SESSION": {
        // The line's own session stays as it is: a program has one with us.
        const host = this.#session.hostSession;
        if (host === undefined) return failure("Unknown command SESSION");
        this.#answers.begin(request);
        return { kind: "success", value: encodeHostSession(host) };
      }
      case "PUT":
        return this.#change(request, call);
      default:
        if (request.command === "DELETE") return this.#change({ command: "DELETE", key: request.key }, call);
        return this.#session.request(request, call);
    }
  }

  /** What the program is to hear of a conflict it hears as of a refusal. */
  async #change(change: Change, call: Call): Promise<Answer> {
    try {
      return await changeKey(this.#session, change, {}, call);
    } catch (error) {
      if (!PvbusError.is(error) || error.code !== "ERR_CONFLICT") throw error;
      return failure(`${error.code}: ${error.message}`);
    }
  }

  async #watch(id: string, prefix: string, call: Call): Promise<Answer> {
    // It asks once more to see whether the host is alive.
    const known = this.#watches.get(id);
    if (known !== undefined)
      return (await this.#session.confirmWatch(known, prefix, call)) ? OK : { kind: "missing" };
    const own = await this.#session.watch(
      prefix,
      (event) => {
        this.#program.write(encodeAnswer(id, { kind: "event", event }));
        // It finds what it missed by comparing, when it is back.
        if (this.#program.writableLength > MAX_WAITING_BYTES) this.#program.destroy();
      },
      call,
    );
    if (own === undefined) return failure("Too many watches");
    this.#watches.set(id, own);
    if (this.#program.destroyed) this.end();
    return OK;
  }

  #unwatch(id: string): void {
    if (this.#session.isOpen)
      this.#session.unwatch(id, new Call({ timeoutMs: REQUEST_MS })).catch(() => undefined);
  }
}

/** Makes the directory, and removes what a program left that was killed: who has the line is the only one that listens. */
function makeRoom({ files, directory, name }: SharedSocket): Held | undefined {
  let held: Held | undefined;
  try {
    // What is above it is everybody's to pass through.
    make(files, dirname(dirname(directory)), 0o755);
    make(files, dirname(directory), 0o755);
    make(files, directory, 0o700);
    held = files.hold(directory);
    if (held !== undefined && isSafe(held.stats, PRIVATE)) {
      rmSync(join(held.path, name), { force: true });
      return held;
    }
  } catch {
    // Without rights to make it others have to wait.
  }
  held?.[Symbol.dispose]();
  return undefined;
}

function make(files: HostFiles, directory: string, mode: number): void {
  if (files.kind(directory) !== undefined) return;
  using held = files.holdName(directory);
  if (held !== undefined) mkdirSync(held.path, { mode, recursive: true });
}
