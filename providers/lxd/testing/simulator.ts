import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Server as NetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { InstanceType } from "../protocol/keys.js";
import { answerTo, type Reply, type SimulatedInstance } from "./answers.js";
import type { LxdFaults, LxdRequest } from "./faults.js";

/** What may differ from one {@link LxdSimulator} to the next. */
export interface LxdSimulatorOptions {
  /** Whose answers are given: those of Incus 6.0.4 (default) or LXD 5.0.2. */
  readonly product?: "incus" | "lxd" | undefined;
  /** What the instance is; default: a container. */
  readonly instanceType?: InstanceType | undefined;
  /** Name of the host; default: `vm` for Incus, `none` for LXD. */
  readonly location?: string | undefined;
  /** Keys of any namespace. */
  readonly keys?: Readonly<Record<string, string>> | undefined;
  /** Name of the instance; default `c1`. */
  readonly name?: string | undefined;
  /** Path of the socket; default: a new private directory. */
  readonly path?: string | undefined;
  /** Milliseconds between two pings; default 10,000. */
  readonly pingMs?: number | undefined;
}

/** Up to so many bytes come with their length, more in chunks. */
const CHUNKED_FROM = 2049;
const VISIBLE = /^user\./;

/**
 * The guest API of Incus 6.0.4 or LXD 5.0.2 on a UNIX socket: their answers byte for byte, events over a WebSocket, and faults. The
 * methods do what the host's administrator does.
 * @example
 * await using lxd = await LxdSimulator.listen({ keys: { "user.role": "web" } });
 * await using bus = await openPvbus({ interfaces: [{ type: "LXD", channel: `unix:${lxd.path}` }] });
 */
export class LxdSimulator implements AsyncDisposable {
  /** Path of the socket. */
  readonly path: string;
  /** What it does wrong. */
  readonly faults: LxdFaults = {};
  /** Every request that came, in order. */
  readonly requests: LxdRequest[] = [];
  readonly #instance: SimulatedInstance;
  readonly #directory: string | undefined;
  readonly #pingMs: number;
  readonly #connections = new Set<Socket>();
  readonly #streams = new Set<WebSocket>();
  readonly #sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  #server: Server | undefined;

  private constructor(options: LxdSimulatorOptions) {
    const { product = "incus", instanceType = "container", keys = {}, name = "c1" } = options;
    this.#directory = options.path === undefined ? mkdtempSync(join(tmpdir(), "pvbus-lxd-")) : undefined;
    this.path = options.path ?? join(this.#directory as string, "dev", product, "sock");
    this.#pingMs = options.pingMs ?? 10_000;
    this.#instance = {
      product,
      type: instanceType,
      name,
      location: options.location ?? (product === "lxd" ? "none" : "vm"),
      keys: new Map(Object.entries(keys)),
      isEnabled: true,
      state: product === "lxd" ? "" : "Started",
    };
  }

  /** Begins to listen. @throws the system's error when it cannot */
  static async listen(options: LxdSimulatorOptions = {}): Promise<LxdSimulator> {
    const simulator = new LxdSimulator(options);
    try {
      await simulator.start();
      return simulator;
    } catch (error) {
      await simulator.close();
      throw error;
    }
  }

  /** The instance's state as the host sees it: `Started` or `Ready`; empty for LXD 5.0.2. */
  get state(): string {
    return this.#instance.state;
  }

  /** Streams of events that are open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Returns a value; undefined when there is no such key. */
  get(key: string): string | undefined {
    return this.#instance.keys.get(key);
  }

  /** Sets a key, or removes it with undefined or an empty value; streams hear of it when it is one of `user.`. */
  set(key: string, value: string | undefined): void {
    const { keys, type } = this.#instance;
    const old = keys.get(key) ?? "";
    const now = value ?? "";
    if (now === old) return;
    if (now === "") keys.delete(key);
    else keys.set(key, now);
    if (!VISIBLE.test(key) || this.faults.mute === true) return;
    const metadata = { key, old_value: old, value: now };
    const timestamp = new Date().toISOString();
    const event =
      type === "container"
        ? { type: "config", timestamp, metadata }
        : { metadata, timestamp, type: "config" };
    this.tell(`${goJson(event)}\n`);
  }

  /** Sends a text to all streams. */
  tell(text: string | Uint8Array): void {
    for (const stream of this.#streams) stream.send(text, { binary: false });
  }

  /** Sends raw bytes to all streams, past the WebSocket. */
  tellRaw(bytes: Uint8Array): void {
    for (const stream of this.#streams) (stream as unknown as { _socket: Duplex })._socket.write(bytes);
  }

  /** Switches the API off or on: streams go on and tell changes, kept connections of a container get 403, new ones ENOENT. */
  async enable(isOn: boolean): Promise<void> {
    this.#instance.isEnabled = isOn;
    if (isOn) return this.start();
    await this.#stopListening();
    if (this.#instance.type === "container") rmSync(dirname(this.path), { recursive: true, force: true });
    else for (const each of this.#connections) if (!this.#isStream(each)) each.destroy();
  }

  /** Begins to listen again, as a daemon that comes back; what was told of the state is forgotten. */
  async start(): Promise<void> {
    if (this.#server !== undefined) return;
    mkdirSync(dirname(this.path), { recursive: true });
    rmSync(this.path, { force: true });
    const server = createServer(
      { keepAlive: true },
      (request, response) => void this.#answer(request, response),
    );
    server.on("upgrade", (request, socket, head) => void this.#upgrade(request, socket, head));
    server.on("connection", (socket) => {
      this.#connections.add(socket);
      socket.on("error", () => undefined).on("close", () => this.#connections.delete(socket));
    });
    server.on("clientError", (_, socket) => {
      socket.end(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
      );
    });
    await once(server.listen(this.path), "listening");
    this.#server = server;
  }

  /** Ends as a daemon that is killed: all connections end, and nobody listens at the socket's file. */
  async kill(): Promise<void> {
    this.#instance.state = this.#instance.product === "lxd" ? "" : "Started";
    this.disconnect();
    // The server would remove it.
    if (this.#server !== undefined) renameSync(this.path, `${this.path}.stale`);
    await this.#stopListening();
    if (existsSync(`${this.path}.stale`)) renameSync(`${this.path}.stale`, this.path);
  }

  /** Ends all connections. */
  disconnect(): void {
    for (const each of this.#connections) each.destroy();
  }

  /** Ends it and removes the socket. May be called twice. */
  async close(): Promise<void> {
    this.disconnect();
    await this.#stopListening();
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  /** The same, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #stopListening(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    // Connections stay: those of streams outlive the socket, and a container's kept ones get 403.
    if (server !== undefined) NetServer.prototype.close.call(server);
  }

  #isStream(socket: Socket): boolean {
    return [...this.#streams].some((stream) => (stream as unknown as { _socket: Duplex })._socket === socket);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const asked = this.#note(request, false);
    const socket = response.socket;
    if (socket === null || (await this.#isFaulty(asked, socket))) return;
    const reply = answerTo(this.#instance, this.faults, asked, Buffer.concat(chunks).toString());
    if (reply.raw !== undefined) {
      socket.write(reply.raw);
      // A client that says or ends anything ends the stream.
      if (reply.ends === true) socket.end();
      else socket.once("data", () => socket.destroy()).once("end", () => socket.destroy());
      return;
    }
    send(response, asked.method, reply);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const asked = this.#note(request, true);
    if (await this.#isFaulty(asked, socket)) return;
    const refused = answerTo(this.#instance, this.faults, asked, "");
    if (refused.status !== 101) {
      const { status, type, body } = refused;
      socket.end(
        `HTTP/1.1 ${status} Refused\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      return;
    }
    if (request.headers["sec-websocket-version"] !== "13") {
      socket.end(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nSec-Websocket-Version: 13\r\n" +
          "X-Content-Type-Options: nosniff\r\nContent-Length: 34\r\n\r\nBad Request\ninternal server error\n",
      );
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (stream) => this.#serve(stream));
  }

  #serve(stream: WebSocket): void {
    this.#streams.add(stream);
    const ping = (): void => {
      if (this.faults.noPing !== true) stream.ping("keepalive");
    };
    const pinging = setInterval(ping, this.#pingMs);
    stream.on("error", () => undefined);
    // A client that says something is cut off.
    stream.on("message", () => stream.terminate());
    stream.on("close", () => {
      clearInterval(pinging);
      this.#streams.delete(stream);
    });
    ping();
  }

  #note(request: IncomingMessage, upgrade: boolean): LxdRequest {
    const asked = { method: request.method ?? "", path: request.url ?? "", upgrade };
    this.requests.push(asked);
    return asked;
  }

  async #isFaulty(asked: LxdRequest, socket: Duplex): Promise<boolean> {
    const { replace, hang, drop, delayMs = 0 } = this.faults;
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    if (hang?.(asked) === true) return true;
    const bytes = drop?.(asked) === true ? "" : replace?.(asked);
    if (bytes === undefined) return false;
    if (bytes.length > 0) socket.end(bytes);
    else socket.destroy();
    return true;
  }
}

function send(response: ServerResponse, method: string, { status, type, body, location }: Reply): void {
  const bytes = Buffer.from(body);
  response.statusCode = status;
  response.setHeader("Content-Type", type);
  if (type.startsWith("text/plain")) response.setHeader("X-Content-Type-Options", "nosniff");
  if (location !== undefined) response.setHeader("Location", location);
  if (bytes.length < CHUNKED_FROM) response.setHeader("Content-Length", bytes.length);
  else response.write(bytes);
  response.end(method === "HEAD" || bytes.length >= CHUNKED_FROM ? undefined : bytes);
}

/** As Go writes JSON. */
function goJson(value: unknown): string {
  return JSON.stringify(value).replace(/[<>&]/g, (sign) => `\\u00${sign.charCodeAt(0).toString(16)}`);
}
