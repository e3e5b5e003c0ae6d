import type { Call, CallOptions } from "../../../src/base/flow/call.js";
import { Closing } from "../../../src/base/flow/closing.js";
import type { Logger } from "../../../src/base/host/host.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { CONTROL, GET_DOMAIN_PATH, GET_FEATURE, IS_DOMAIN_INTRODUCED } from "../protocol/operations.js";
import { checkDomain } from "../protocol/permissions.js";
import { isRefusal } from "../protocol/refusals.js";
import type { Transport } from "../transport/transport.js";
import { Connection } from "./connection.js";
import { PendingRequest } from "./pending.js";
import { ReconnectingConnection } from "./reconnection.js";
import { type CallLike, callOf, XenStoreRequests } from "./requests.js";
import { type Transaction, type TransactionOptions, Transactions } from "./transactions.js";
import { type WatchEvent, Watches, type WatchSettings } from "./watches.js";

/** Options of {@link XenStoreClient.watch}. */
export interface XenStoreWatchOptions extends CallOptions, WatchSettings {}

/** What every daemon grants a guest at least. */
const GUEST = { transactions: 8, watches: 100 } as const;
/** The controlling domain has no quotas: bounds of reason. */
const PRIVILEGED = { transactions: 64, watches: 10_000 } as const;
/** Printable ASCII and NULs between. */
const COMMAND = /^[\x20-\x7e]*$/;

/**
 * A XenStore client: many requests under way at a time, transactions, permissions and watches. It connects on first use
 * and again after the daemon went away; then what was under way has failed with `ERR_DISCONNECTED`, and watches go on.
 * @example
 * const store = await bus.byType("Xen")?.store<XenStore>();
 * await store?.client.transaction(async (tx) => {
 *   const count = Number(await tx.readText("data/count"));
 *   await tx.write("data/count", String(count + 1));
 * });
 */
export class XenStoreClient extends XenStoreRequests implements AsyncDisposable {
  /** Whether it speaks for the controlling domain. */
  readonly privileged: boolean;
  readonly #connections: readonly ReconnectingConnection[];
  readonly #watchConnection: ReconnectingConnection;
  readonly #watches: Watches;
  readonly #transactions: Transactions;
  readonly #closing: Closing;

  /**
   * @internal Opened by the provider.
   * @param transport where the daemon is; nothing is connected yet
   * @param closing fires when what the client is a part of is closed
   */
  constructor(transport: Transport, logger: Logger = SILENT, closing?: AbortSignal) {
    super();
    this.#closing = new Closing(closing, "the XenStore client was closed; open it again");
    const { privileged, connections, separateWatches } = transport;
    this.privileged = privileged;
    const shared = { purpose: "requests", closing: this.#closing } as const;
    this.#watchConnection = new ReconnectingConnection(transport, {
      ...shared,
      purpose: separateWatches ? "watches" : "requests",
      onWatchEvent: (bytes, start, end) => this.#watches.receive(bytes, start, end),
      onDown: (error) => this.#watches.connectionLost(error),
    });
    this.#connections = separateWatches
      ? Array.from({ length: connections }, () => new ReconnectingConnection(transport, shared))
      : [this.#watchConnection];
    const { watches: most, transactions } = privileged ? PRIVILEGED : GUEST;
    this.#watches = new Watches(this.#watchConnection, { most, closing: this.#closing, logger });
    this.#transactions = new Transactions(transactions, (call) => this.#connection(call));
  }

  /** Whether it was closed. */
  get isClosed(): boolean {
    return this.#closing.isClosed;
  }

  /**
   * Connects, which every operation does by itself too.
   * @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  async connect(call?: CallLike): Promise<void> {
    await this.#connection(callOf(call));
  }

  /**
   * Follows a path and all below it. The first event says that the watch is armed; events may come joined, also without
   * a change: look at the node again. The loop ends without an error when the signal fires or `timeoutMs` (default: none)
   * has passed. A reader who does not keep up gets a `resync` in place of what it missed.
   * @param path also `@introduceDomain` and `@releaseDomain`
   * @throws PvbusError `ERR_NO_SPACE` for more than 100 watches of a guest, `ERR_DISCONNECTED` when the client is closed
   */
  async *watch(
    path: string,
    options: XenStoreWatchOptions = {},
  ): AsyncGenerator<WatchEvent, void, undefined> {
    const { depth, signal, timeoutMs = Number.POSITIVE_INFINITY } = options;
    const call = callOf({ signal, timeoutMs });
    try {
      yield* this.#watches.follow(path, { depth }, call);
    } catch (error) {
      if (!call.isEnd(error)) throw error;
    }
  }

  /**
   * Runs a transaction; after a conflict with another client all of it again, with growing pauses, until its time is over
   * or it was tried `attempts` times. At most 8 of a guest are open at a time, which every daemon grants; the others wait
   * for their turn.
   * @param body reads and changes through its argument, and may run several times; when it throws, nothing was changed
   * @returns what the body of the successful attempt gave
   * @throws PvbusError `ERR_CONFLICT` when the last attempt that there was time for had a conflict too, and what the body
   *   throws
   */
  transaction<T>(
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactionOptions = {},
  ): Promise<T> {
    return this.#transactions.run(body, options);
  }

  /**
   * Begins a transaction that the caller ends. Prefer {@link XenStoreClient.transaction}, which tries again.
   * @throws PvbusError `ERR_NO_SPACE` when the daemon grants no more
   */
  async begin(call?: CallLike): Promise<Transaction> {
    return this.#transactions.begin(callOf(call));
  }

  /** Returns the path of a domain's own directory. */
  async domainPath(domain: number, call?: CallLike): Promise<string> {
    checkDomain(domain);
    return this.ask(new PendingRequest(GET_DOMAIN_PATH, String(domain)), callOf(call));
  }

  /** Reports whether a domain has its connection to the daemon; only the controlling domain may ask. */
  async isIntroduced(domain: number, call?: CallLike): Promise<boolean> {
    checkDomain(domain);
    return this.ask(new PendingRequest(IS_DOMAIN_INTRODUCED, String(domain)), callOf(call));
  }

  /** Returns the daemon's features: 4 depth of watches, 8 permissions for any domain, …; 0 when it reports none. */
  async features(call?: CallLike): Promise<number> {
    try {
      // One byte that is no NUL: the one payload that all daemons answer.
      return await this.ask(new PendingRequest(GET_FEATURE, "x"), callOf(call));
    } catch (error) {
      if (isRefusal(error, "ENOSYS", "EINVAL", "EACCES")) return 0;
      throw error;
    }
  }

  /** Runs a command of the daemon's own, in the controlling domain: `control("print", "text")`. */
  async control(command: readonly string[], call?: CallLike): Promise<string> {
    if (command.length === 0 || !command.every((each) => COMMAND.test(each)))
      throw new TypeError("a command has one word at least, of printable ASCII");
    return this.ask(new PendingRequest(CONTROL, command.join("\0")), callOf(call));
  }

  /** Closes all connections; what is under way and every watch end with `ERR_DISCONNECTED`. May be called twice. */
  async close(): Promise<void> {
    this.#closing.close();
    await Promise.all([this.#watchConnection, ...this.#connections].map((each) => each.close()));
  }

  /** The same, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  protected override ask<T>(request: PendingRequest<T>, call: Call): Promise<T> {
    const connection = this.#connection(call);
    if (connection instanceof Connection) return connection.run(request, call);
    return connection.then((made) => made.run(request, call));
  }

  /** @internal In a transaction: the C daemon copies a node for it at the first look, so all parts are of one moment. */
  protected override async steadyDirectory(path: string, call: Call): Promise<string[] | undefined> {
    const transaction = await this.begin(call);
    try {
      return await transaction.directory(path, call);
    } finally {
      void transaction.abort();
    }
  }

  /** Returns the connection with the least to do, a promise where it must be made first. */
  #connection(call: Call): Connection | Promise<Connection> {
    let best = this.#connections[0] as ReconnectingConnection;
    if (this.#connections.length > 1)
      for (const each of this.#connections) if (each.load < best.load) best = each;
    return best.current ?? best.connect(call);
  }
}
