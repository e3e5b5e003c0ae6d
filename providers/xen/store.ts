import { pvbusError } from "../../src/base/errors.js";
import type { Call, CallOptions } from "../../src/base/flow/call.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type {
  Erased,
  KeyPermissions,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  TakenValue,
  WatchHooks,
} from "../../src/contract/store.js";
import { CAPABILITIES } from "./capabilities.js";
import type { XenStoreClient } from "./client/client.js";
import type { CallLike } from "./client/requests.js";
import type { Transaction } from "./client/transactions.js";
import { homePath, machineFacts } from "./facts.js";
import { portableLayout } from "./portable.js";
import { checkRemovable, type KeyedPath, withoutSlash } from "./protocol/keys.js";
import { formatPermission, type Permission, readPermission } from "./protocol/permissions.js";
import { below, ifAllowed, type Naming, type Surroundings } from "./walk.js";
import { StoreWatch } from "./watch.js";

/**
 * XenStore behind the uniform verbs. Keys are XenStore paths, relative to the domain's own directory or absolute; every
 * node is a key, also one with children and an empty value. What only XenStore has is in {@link XenStore.client}.
 */
export class XenStore implements ProviderStore {
  readonly capabilities: Capabilities = CAPABILITIES.daemon;
  /** Transactions, permissions, watches with a depth: XenStore as it is. It takes paths, not encoded keys. */
  readonly client: XenStoreClient;
  readonly portable: PortableLayout;
  readonly permissionTexts: KeyPermissions = {
    read: async (key, call) => (await ifAllowed(this.permissions(key, call)))?.map(formatPermission),
    set: async (key, texts, withTree, call) => {
      const permissions = texts.flatMap((text) => readPermission(text) ?? []);
      if (permissions.length === 0 || permissions.length < texts.length)
        throw new TypeError("a permission is n, r, w or b and a domain, such as r7; the owner's first");
      if (!(await this.setPermissions(key, permissions, call))) return false;
      if (!withTree) return true;
      for await (const entry of this.list(key, call)) {
        await this.setPermissions(entry.key, permissions, call);
        call.renew();
      }
      return true;
    },
  };
  readonly #surroundings: Surroundings;

  /** @internal Opened by the provider. */
  constructor(client: XenStoreClient, naming: Naming) {
    this.client = client;
    this.portable = portableLayout(naming.syntax);
    this.#surroundings = { client, ...naming };
  }

  /** Reads a node's value; of a node without one it is empty. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    return this.client.read(this.#path(key), call);
  }

  /** Writes a value; creates the node, and its parents with empty values. */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    await this.client.write(this.#path(key), value, call);
  }

  /**
   * Removes a node and, as XenStore does, all below it, of any number: a transaction, in which each node counts, would know
   * for certain whether it was there.
   */
  async delete(key: string, call: Call): Promise<boolean> {
    const path = this.#removable(key);
    return (await this.client.read(path, call)) !== undefined && this.client.rm(path, call);
  }

  /**
   * Reads a node and erases it in one transaction: of several takers one has the value.
   * @throws PvbusError `ERR_PERMISSION` where the host made the node its own, as `xl` does
   */
  async take(key: string, call: Call): Promise<TakenValue | undefined> {
    const path = this.#removable(key);
    return this.client.transaction(async (transaction) => {
      const value = await transaction.read(path, call);
      return value === undefined ? undefined : { value, erased: await erase(transaction, path, call) };
    }, limits(call));
  }

  /** Erases a node in one transaction. @throws PvbusError `ERR_PERMISSION`, and `ERR_CONFLICT` for another value than expected */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    const path = this.#removable(key);
    return this.client.transaction(async (transaction) => {
      const value = await transaction.read(path, call);
      if (value === undefined) return "host";
      if (expected !== undefined && Buffer.compare(value, expected) !== 0)
        throw pvbusError("ERR_CONFLICT", "the node has another value by now; read it again");
      return erase(transaction, path, call);
    }, limits(call));
  }

  /** Writes a node where there is none, in one transaction. */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    const path = this.#path(key);
    return this.client.transaction(async (transaction) => {
      if ((await transaction.read(path, call)) !== undefined) return false;
      await transaction.write(path, value, call);
      return true;
    }, limits(call));
  }

  /**
   * Lists everything below a node, each node before what is below it; empty: below the domain's own directory. A node that
   * may not be read comes without its value; what may not be listed is left out.
   */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const top = await this.#top(prefix, call);
    for await (const { key, value } of below(top, this.#surroundings, call)) yield { key, value };
  }

  /**
   * Follows a node and everything below it. A value may come again though it did not change, and several changes of one
   * node may come as one.
   */
  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    try {
      const watch = new StoreWatch(await this.#top(prefix, call), this.#surroundings, call);
      yield* watch.changes(hooks);
    } catch (error) {
      if (!call.isEnd(error)) throw error;
    }
  }

  /** Returns a node's permissions, its owner first; undefined when there is no such node. */
  permissions(key: string, call: CallLike): Promise<Permission[] | undefined> {
    return this.client.permissions(this.#path(key), call);
  }

  /**
   * Replaces a node's permissions; see {@link XenStoreRequests.setPermissions}.
   * @returns false when there is no such node
   */
  setPermissions(key: string, permissions: readonly Permission[], call: CallLike): Promise<boolean> {
    return this.client.setPermissions(this.#path(key), permissions, call);
  }

  /** Returns the machine's name, UUID, domain id and `vm-data`. */
  facts(call: Call): Promise<MachineFacts> {
    return machineFacts(this.#surroundings, call);
  }

  /** Closes all connections. */
  close(): Promise<void> {
    return this.client.close();
  }

  #path(key: string): string {
    return this.#surroundings.syntax.pathOf(key);
  }

  #removable(key: string): string {
    const path = this.#path(key);
    checkRemovable(path);
    return path;
  }

  async #top(prefix: string, call: Call): Promise<KeyedPath> {
    if (prefix === "") return { path: await homePath(this.client, call), key: "" };
    const key = withoutSlash(prefix);
    return { path: this.#path(key), key };
  }
}

/** Removes a node, or empties it where it has others below it, which nobody asked to remove. */
async function erase(transaction: Transaction, path: string, call: Call): Promise<Erased> {
  if (((await transaction.directory(path, call)) ?? []).length === 0) {
    await transaction.rm(path, call);
    return "host";
  }
  await transaction.write(path, new Uint8Array(), call);
  return "overwritten";
}

function limits({ signal, remainingMs }: Call): CallOptions {
  return { signal, timeoutMs: remainingMs };
}
