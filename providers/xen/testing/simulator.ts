import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Permission } from "../protocol/permissions.js";
import type { XenStoreFaults } from "./faults.js";
import {
  type Change,
  DEFAULT_QUOTAS,
  Operations,
  permissionOf,
  SharedNodes,
  type XenStoreQuotas,
} from "./operations.js";
import { Session, type SessionSurroundings } from "./session.js";

/** What may differ from one {@link XenStoreSimulator} to the next. */
export interface XenStoreSimulatorOptions {
  /** Domain that clients of the socket speak for; default 0, which may do everything. */
  readonly domain?: number | undefined;
  /** Quotas of guests; default: those of Xen 4.17's C daemon. */
  readonly quotas?: XenStoreQuotas | undefined;
  /** What GET_FEATURE tells; default 0, as daemons before Xen 4.21; 4 adds watches with a depth. */
  readonly features?: number | undefined;
  /** Path of the socket; default: a new private directory. */
  readonly path?: string | undefined;
}

/** What the toolstack tells a guest, for {@link XenStoreSimulator.createDomain}. */
export interface DomainDescription {
  /** Name of the machine. */
  readonly name?: string | undefined;
  /** UUID of the machine. */
  readonly uuid?: string | undefined;
  /** What its administrator put under `vm-data`. */
  readonly vmData?: Readonly<Record<string, string>> | undefined;
}

/** Directories that both toolstacks give to the guest. */
const GUEST_OWNED = ["data", "attr", "drivers", "feature", "error", "vm-data"];

/**
 * A XenStore daemon with the manners of Xen's C daemon, served on a UNIX socket: nodes with permissions, quotas,
 * transactions, watches, listings in parts, and faults. The methods do what the host's administrator does; paths are
 * absolute.
 * @example
 * await using xen = await XenStoreSimulator.listen();
 * xen.createDomain(0, { name: "web-01" });
 * await using bus = await openPvbus({ interfaces: [{ type: "Xen", channel: `unix:${xen.path}` }] });
 */
export class XenStoreSimulator implements AsyncDisposable {
  /** Path of the socket. */
  readonly path: string;
  /** What it does wrong. */
  readonly faults: XenStoreFaults = {};
  readonly #servers: Server[] = [];
  readonly #directory: string | undefined;
  readonly #shared = new SharedNodes();
  readonly #sessions = new Set<Session>();
  readonly #surroundings: SessionSurroundings;
  readonly #operations: Operations;

  private constructor(options: XenStoreSimulatorOptions) {
    const { quotas, features = 0 } = options;
    this.#directory = options.path === undefined ? mkdtempSync(join(tmpdir(), "pvbus-xenstore-")) : undefined;
    this.path = options.path ?? join(this.#directory as string, "socket");
    this.#surroundings = {
      shared: this.#shared,
      quotas: { ...DEFAULT_QUOTAS, ...quotas },
      faults: this.faults,
      features,
      changed: (changes) => this.#changed(changes),
      over: (session) => this.#sessions.delete(session),
    };
    this.#operations = new Operations(this.#shared, { domain: 0, quotas: DEFAULT_QUOTAS, owned: () => 0 });
    this.createDomain(0, { name: "Domain-0" });
  }

  /** Begins to listen. @throws the system's error when it cannot */
  static async listen(options: XenStoreSimulatorOptions = {}): Promise<XenStoreSimulator> {
    const simulator = new XenStoreSimulator(options);
    try {
      await simulator.#listen(simulator.path, options.domain ?? 0);
      return simulator;
    } catch (error) {
      await simulator.close();
      throw error;
    }
  }

  /** Listens on one more socket, whose clients speak for a domain, on the same nodes. @returns its path */
  async listenFor(domain: number): Promise<string> {
    const path = `${this.path}-${domain}`;
    await this.#listen(path, domain);
    return path;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sessions.size;
  }

  /** Serves a connection that somebody else made, such as one end of a pair of streams. */
  attach(stream: Duplex, domain = 0): void {
    this.#sessions.add(new Session(stream, domain, this.#surroundings));
  }

  /** Creates a domain's directory with what a toolstack puts there. */
  createDomain(domain: number, { name, uuid, vmData = {} }: DomainDescription = {}): void {
    const home = `/local/domain/${domain}`;
    const readable: Permission[] = [
      { domain: 0, access: "none" },
      { domain, access: "read" },
    ];
    const give = (path: string, value: string, permissions: readonly Permission[]): void => {
      this.write(path, value);
      this.#operations.setPermissions(path, permissions);
    };
    give(home, "", readable);
    give(`${home}/domid`, String(domain), readable);
    if (name !== undefined) give(`${home}/name`, name, readable);
    if (uuid !== undefined) {
      give(`/vm/${uuid}`, "", readable);
      give(`${home}/vm`, `/vm/${uuid}`, readable);
    }
    for (const directory of GUEST_OWNED) give(`${home}/${directory}`, "", [{ domain, access: "none" }]);
    for (const [key, value] of Object.entries(vmData)) this.write(`${home}/vm-data/${key}`, value);
  }

  /** Returns a value; undefined when there is no such node. */
  read(path: string): Buffer | undefined {
    const node = this.#shared.get(path);
    return node && Buffer.from(node.value);
  }

  /** Returns the names of a node's children; undefined when there is no such node. */
  children(path: string): readonly string[] | undefined {
    return this.#shared.get(path)?.children;
  }

  /** Writes a value; its node gets the permissions of the one above. */
  write(path: string, value: string | Uint8Array): void {
    this.#changed(this.#operations.write(path, Buffer.from(value as string)));
  }

  /** Replaces a node's permissions: `n7`, `r0`, … as on the wire, the owner's first. */
  setPermissions(path: string, ...permissions: readonly [string, ...string[]]): void {
    this.#changed(this.#operations.setPermissions(path, permissions.map(permissionOf)));
  }

  /** Removes a node and all below it. */
  remove(path: string): void {
    this.#changed(this.#operations.remove(path));
  }

  /** Ends all connections, as a daemon that is restarted: watches and transactions are gone, nodes stay. */
  disconnect(): void {
    for (const session of this.#sessions) session.end();
  }

  /** Ends it and removes the socket. May be called twice. */
  async close(): Promise<void> {
    this.disconnect();
    for (const server of this.#servers.splice(0)) {
      const closed = once(server, "close");
      server.close();
      await closed;
    }
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  /** The same, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #listen(path: string, domain: number): Promise<void> {
    const server = createServer((socket) => this.attach(socket, domain)).listen(path);
    await once(server, "listening");
    this.#servers.push(server);
  }

  #changed(changes: readonly Change[]): void {
    for (const session of this.#sessions) session.tell(changes);
  }
}
