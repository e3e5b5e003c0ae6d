import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";
import { pvbusError } from "../../../src/base/errors.js";
import { MAX_KEY_BYTES } from "../../../src/mdata/request.js";
import { ServedConnection } from "../../../src/mdata/server/connection.js";
import type { KeyChange, ServedKeys } from "../../../src/mdata/server/keys.js";
import { type Dialect, PVBUS_DIALECT } from "../../../src/mdata/server/requests.js";
import { checkWritable, DEFAULT_NAMESPACES } from "../host/limits.js";
import { FaultyStream, type KvmHostFault } from "./faults.js";

/** What a simulated host understands: our extensions, the protocol as SmartOS serves it, or its first version alone. */
export type KvmHostDialect = "pvbus" | "smartos" | "version-1";

/** Settings of a {@link KvmHostSimulator}. */
export interface KvmHostSettings {
  /** What it understands; default `pvbus`. */
  readonly dialect?: KvmHostDialect | undefined;
  /** Longest value that a guest may write, told by the `pvbus` dialect; default 1 MiB. */
  readonly maxValueBytes?: number | undefined;
}

const SERVER = "simulator";
/** `pvbus` is a host of ours before it knew sessions: changes that are sent again are the guest's to see to. */
const DIALECTS: Readonly<Record<KvmHostDialect, Dialect>> = {
  pvbus: {
    ...PVBUS_DIALECT,
    server: SERVER,
    commands: PVBUS_DIALECT.commands.filter((command) => command !== "SESSION"),
  },
  smartos: { server: SERVER, commands: ["GET", "KEYS", "PUT", "DELETE"], isBinary: false },
  "version-1": { server: SERVER, commands: [], isBinary: false },
};
/** Values that hosts of others take. */
const MAX_TEXT_BYTES = 16 * 1024 * 1024;
const MAX_WATCHES = 1024;

/**
 * The host's side of KVM's metadata channel, in memory, with the request handling of the real one: an administrator sets, reads and removes keys while guests come and go.
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
  readonly #keys: ServedKeys;
  readonly #connections = new Set<ServedConnection>();
  readonly #listeners = new Set<(change: KeyChange) => void>();
  readonly #faults: (KvmHostFault | undefined)[] = [];
  #revision = 0;
  #server: Server | undefined;
  #path: string | undefined;

  /** Makes a host that serves nobody yet: see {@link KvmHostSimulator.serve}. */
  constructor({ dialect = "pvbus", maxValueBytes = 1024 * 1024 }: KvmHostSettings = {}) {
    this.dialect = dialect;
    this.maxValueBytes = maxValueBytes;
    this.#keys = this.#servedKeys();
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
    return this.#connections.size;
  }

  /** Talks to a guest over a stream, such as one end of a pair or QEMU's side of a port. */
  serve(stream: Duplex): void {
    const connection = new ServedConnection(
      new FaultyStream(stream, (word) => {
        this.commands.push(word);
        return this.#faults.shift();
      }),
      { keys: this.#keys, turns: { next: () => undefined }, dialect: DIALECTS[this.dialect] },
      { onBroken: ignore, onOversize: ignore, onOverrun: ignore, onFault: ignore },
    );
    this.#connections.add(connection);
    stream.once("close", () => this.#connections.delete(connection));
  }

  /** Has the next answers go wrong, one fault each; undefined for one that goes right. */
  fail(...faults: readonly (KvmHostFault | undefined)[]): void {
    this.#faults.push(...faults);
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
    this.#tell(key, "put");
  }

  /** Removes a key; guests that watch hear of it. */
  delete(key: string): void {
    if (this.#values.delete(key)) this.#tell(key, "delete");
  }

  /** Cuts every guest off; they may connect again. */
  disconnect(): void {
    for (const connection of this.#connections) connection.close();
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

  #tell(key: string, operation: KeyChange["operation"]): void {
    const change = { key, operation, revision: ++this.#revision };
    for (const listener of this.#listeners) listener(change);
  }

  #servedKeys(): ServedKeys {
    const isText = this.dialect !== "pvbus";
    const maxValueBytes = isText ? MAX_TEXT_BYTES : this.maxValueBytes;
    const revision = (): number => this.#revision;
    return {
      limits: { maxKeyBytes: MAX_KEY_BYTES, maxValueBytes, maxWatches: MAX_WATCHES },
      session: randomBytes(16).toString("hex"),
      get revision() {
        return revision();
      },
      get: (key) => this.#values.get(key),
      put: async (key, value) => {
        if (value.length > maxValueBytes) throw pvbusError("ERR_VALUE_TOO_LONG", "the value is too long");
        // The reference server keeps text: other bytes are damaged.
        this.set(key, isText ? Buffer.from(value).toString("utf8") : value);
      },
      delete: async (key) => this.delete(key),
      portions: () => [this.keys().map((key) => ({ key }))],
      checkWritable: (key) => checkWritable(key, DEFAULT_NAMESPACES),
      listen: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }
}

function ignore(): void {
  // What a guest does wrong is its test's affair.
}
