import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GuestState } from "../../providers/kvm/host/guest-state.js";
import {
  MetadataHost,
  type MetadataHostOptions,
  parseEndpoint,
  type ServedGuest,
} from "../../providers/kvm/host/index.js";
import { type Answer, decodeAnswer } from "../../src/mdata/answer.js";
import { decodeFrame } from "../../src/mdata/frame.js";
import { encodeRequest, type Request } from "../../src/mdata/request.js";

/** A directory for a host, its state and its sockets. */
export class HostFolder implements AsyncDisposable {
  /** The directory. */
  readonly path = mkdtempSync(join(tmpdir(), "pvbus-kvm-"));
  /** What the hosts logged. */
  readonly events: { level: string; event: string; fields: Readonly<Record<string, unknown>> }[] = [];
  readonly #hosts: MetadataHost[] = [];

  /** Where the keys are. */
  get state(): string {
    return join(this.path, "state");
  }

  /** Returns a guest's socket. */
  socket(guest: string): string {
    return join(this.path, `${guest}.sock`);
  }

  /** Starts a host that listens for guests; each is a name, or a name with its settings. */
  async serve(
    guests: readonly (string | Partial<ServedGuest>)[],
    options: Partial<MetadataHostOptions> = {},
  ): Promise<MetadataHost> {
    const note =
      (level: string) =>
      (event: string, fields: Readonly<Record<string, unknown>> = {}): void => {
        this.events.push({ level, event, fields });
      };
    const host = await MetadataHost.start({
      directory: this.state,
      guests: guests.map((guest) => {
        const { name = "", ...settings } = typeof guest === "string" ? { name: guest } : guest;
        return { name, endpoints: [parseEndpoint(`unix:${this.socket(name)}`)], ...settings };
      }),
      logger: { debug: note("debug"), info: note("info"), warn: note("warn"), error: note("error") },
      ...options,
    });
    this.#hosts.push(host);
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.#hosts) await host.close();
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Returns the keys of a guest, sorted. */
export function keysOf(state: GuestState): string[] {
  return Array.from(state.entries(), ({ key }) => key);
}

/** The guest's end of a connection, byte by byte as the test wants it. */
export class TestGuest implements AsyncDisposable {
  readonly socket: Socket;
  readonly #lines: string[] = [];
  readonly #asked = new Map<string, (answer: Answer | undefined) => void>();
  readonly #waiting: ((line: string | undefined) => void)[] = [];
  #rest: string[] = [];
  #id = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      for (const resolve of [...this.#asked.values(), ...this.#waiting]) resolve(undefined);
    });
    socket.setEncoding("latin1").on("data", (text: string) => {
      const [first = "", ...others] = text.split("\n");
      this.#rest.push(first);
      for (const next of others) {
        this.#take(this.#rest.join(""));
        this.#rest = [next];
      }
    });
  }

  static async connect(path: string): Promise<TestGuest> {
    const socket = createConnection(path);
    await once(socket, "connect");
    return new TestGuest(socket);
  }

  /** Returns the next line that answers no request; undefined when the connection is over. */
  async line(): Promise<string | undefined> {
    if (this.#lines.length > 0 || this.socket.destroyed) return this.#lines.shift();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Sends bytes and gives the next line. */
  async say(bytes: string | Uint8Array): Promise<string | undefined> {
    this.socket.write(bytes);
    return this.line();
  }

  /** Sends a request and gives the answer to it; undefined when the connection ends before. Several may wait. */
  async ask(request: Request): Promise<Answer | undefined> {
    if (this.socket.destroyed) return undefined;
    const id = (++this.#id).toString(16).padStart(8, "0");
    this.socket.write(encodeRequest(id, request));
    const answer = await new Promise<Answer | undefined>((resolve) => this.#asked.set(id, resolve));
    this.#asked.delete(id);
    return answer;
  }

  /** Stores a value and gives what the host says: `OK`, or its refusal. */
  async put(key: string, value: string | Uint8Array): Promise<string> {
    return wordOf(await this.ask({ command: "PUT", key, value: Buffer.from(value) }));
  }

  /** Returns a value as text; undefined for no such key. */
  async get(key: string): Promise<string | undefined> {
    const answer = await this.ask({ command: "GET", key });
    return answer?.kind === "missing" ? undefined : wordOf(answer);
  }

  /** Returns the next event. */
  async event(): Promise<Answer | undefined> {
    const line = await this.line();
    const frame = line === undefined ? undefined : decodeFrame(Buffer.from(line, "latin1"));
    return frame && decodeAnswer(frame);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.socket.closed) return;
    this.socket.destroy();
    await once(this.socket, "close");
  }

  #take(line: string): void {
    const frame = decodeFrame(Buffer.from(line, "latin1"));
    const answer = frame && decodeAnswer(frame);
    const asked = answer?.kind === "event" ? undefined : this.#asked.get(frame?.id ?? "");
    if (asked !== undefined) asked(answer);
    else if (this.#waiting.length > 0) this.#waiting.shift()?.(line);
    else this.#lines.push(line);
  }
}

function wordOf(answer: Answer | undefined): string {
  if (answer?.kind === "success") return Buffer.from(answer.value).toString("utf8");
  return answer?.kind === "failure" ? answer.message : String(answer?.kind);
}
