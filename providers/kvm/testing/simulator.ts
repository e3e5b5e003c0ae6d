import { once } from "node:events";
import { createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";
import type { KeyEvent } from "../../../src/mdata/answer.js";
import { HostConversation } from "./conversation.js";
import type { KvmHostFault } from "./faults.js";

/** What a simulated host understands: our extensions, the protocol as SmartOS serves it, or its first version alone. */
export type KvmHostDialect = "pvbus" | "smartos" | "version-1";

/** Settings of a {@link KvmHostSimulator}. */
export interface KvmHostSettings {
  /** What it understands; default `pvbus`. */
  readonly dialect?: KvmHostDialect | undefined;
  /** Longest value that a guest may write, told by the `pvbus` dialect; default 1 MiB. */
  readonly maxValueBytes?: number | undefined;
}

/**
 * The host's side of KVM's metadata channel, in memory: an administrator sets, reads and removes keys while guests come and go.
 * It can be made to fail as real ones do.
 * @example
 * await using host = await KvmHostSimulator.listen("/tmp/x/meta.sock");
 * host.set("hostname", "web-1");
 * const bus = await openPvbus({ interfaces: [{ type: "KVM", channel: host.channel }] });
 */
export class KvmHostSimulator implements AsyncDisposable {
  /** What it understands. */
  readonly dialect: KvmHostDialect;
  /** Longest value that a guest may write. */
  readonly maxValueBytes: number;
  /** Commands that guests sent, in their order. */
  readonly commands: string[] = [];
  readonly #values = new Map<string, Buffer>();
  readonly #conversations = new Set<HostConversation>();
  readonly #faults: (KvmHostFault | undefined)[] = [];
  #revision = 0;
  #server: Server | undefined;
  #path: string | undefined;

  /** Makes a host that serves nobody yet: see {@link KvmHostSimulator.serve}. */
  constructor({ dialect = "pvbus", maxValueBytes = 1024 * 1024 }: KvmHostSettings = {}) {
    this.dialect = dialect;
    this.maxValueBytes = maxValueBytes;
  }

  /** Makes a host that listens on a UNIX socket. @param path of the socket */
  static async listen(path: string, settings?: KvmHostSettings): Promise<KvmHostSimulator> {
    const host = new KvmHostSimulator(settings);
    await host.listen(path);
    return host;
  }

  /** Listens on a UNIX socket, again after {@link KvmHostSimulator.stop}. */
  async listen(path: string): Promise<void> {
    this.#path = path;
    this.#server = createServer((socket) => this.serve(socket));
    this.#server.listen(path);
    await once(this.#server, "listening");
  }

  /** The channel to give to a KVM interface. @throws Error when it does not listen */
  get channel(): string {
    if (this.#path === undefined) throw new Error("the simulated host listens nowhere");
    return `unix:${this.#path}`;
  }

  /** Number of guests that are connected. */
  get connections(): number {
    return this.#conversations.size;
  }

  /** Talks to a guest over a stream, such as one end of a pair or QEMU's side of a port. */
  serve(stream: Duplex): void {
    const conversation = new HostConversation(this, stream);
    this.#conversations.add(conversation);
    stream.once("close", () => this.#conversations.delete(conversation));
  }

  /** Has the next answers go wrong, one fault each; undefined for one that goes right. */
  fail(...faults: readonly (KvmHostFault | undefined)[]): void {
    this.#faults.push(...faults);
  }

  /** Takes the fault of the next answer. @internal */
  nextFault(): KvmHostFault | undefined {
    return this.#faults.shift();
  }

  /** Returns the keys that a listing shows. */
  keys(): string[] {
    return [...this.#values.keys()];
  }

  /** Returns a value. */
  get(key: string): Buffer | undefined {
    return this.#values.get(key);
  }

  /** Sets a value, as the administrator or a guest does; guests that watch hear of it. */
  set(key: string, value: string | Uint8Array): void {
    this.#values.set(key, Buffer.from(value));
    this.#tell({ key, op: "put", rev: ++this.#revision });
  }

  /** Removes a key; guests that watch hear of it. */
  delete(key: string): void {
    if (this.#values.delete(key)) this.#tell({ key, op: "delete", rev: ++this.#revision });
  }

  /** Cuts every guest off; they may connect again. */
  disconnect(): void {
    for (const conversation of this.#conversations) conversation.close();
  }

  /** Stops listening and cuts every guest off; the values stay. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.disconnect();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #tell(event: KeyEvent): void {
    for (const conversation of this.#conversations) conversation.tell(event);
  }
}
