import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
} from "../../src/contract/store.js";
import { CAPABILITIES } from "./capabilities.js";
import { domainUnknown, factsOf } from "./facts.js";
import type { HostctlNodes } from "./hostctl.js";
import { portableLayout } from "./portable.js";
import { checkNodePath, checkPath, checkRemovable, type KeyedPath, withoutSlash } from "./protocol/keys.js";
import { domainOf } from "./protocol/permissions.js";
import type { DriverNode, XenStoreDriver } from "./transport/transport.js";
import { childrenOf, ifAllowed, type Naming, REFUSED, unlessRefused } from "./walk.js";

/** XenStore through a driver of the operating system that has questions and answers of its own. */
export class XenDriverStore implements ProviderStore {
  readonly capabilities: Capabilities;
  readonly portable: PortableLayout;
  /** Removes a node with all below it; only where the driver can. Another program may come between its look and the removal. */
  readonly delete?: (key: string, call: Call) => Promise<boolean>;
  /** @internal The nodes by their paths, whatever the syntax of keys. */
  readonly nodes: HostctlNodes = {
    read: async (path, call) => (await this.#look(path, false, call))?.value,
    write: async (path, value, call) => {
      checkNodePath(path);
      this.#driver.check(path, value);
      this.#begin(call);
      await this.#driver.write(path, value, call);
    },
    directory: async (path, call) => (await this.#look(path, true, call))?.names,
  };
  readonly #driver: XenStoreDriver;
  readonly #naming: Naming;
  readonly #closing: Closing;

  /** @internal Opened by the provider. */
  constructor(driver: XenStoreDriver, naming: Naming, closing?: AbortSignal) {
    this.#driver = driver;
    this.#naming = naming;
    this.#closing = new Closing(closing);
    this.capabilities = CAPABILITIES[driver.platform];
    this.portable = portableLayout(naming.syntax, driver.portableBytes);
    if (driver.remove !== undefined) this.delete = (key, call) => this.#remove(key, call);
  }

  /** Reads a node's value. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    return this.nodes.read(this.#naming.syntax.pathOf(key), call);
  }

  /** Writes a value; creates the node, and its parents with empty values. */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    await this.nodes.write(this.#naming.syntax.pathOf(key), value, call);
  }

  /**
   * Erases a node: removes it where the driver can, else leaves it empty. Another program may come between the look and that.
   * @throws PvbusError `ERR_CONFLICT` when it is not the expected value
   */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    const path = this.#naming.syntax.pathOf(key);
    checkRemovable(path);
    const found = await this.#look(path, true, call);
    if (found === undefined) return "host";
    if (expected !== undefined && Buffer.compare(found.value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", "the node has another value by now; read it again");
    if (this.#driver.remove !== undefined && found.names.length === 0) {
      await this.#driver.remove(path, call);
      return (await this.#look(path, false, call)) === undefined ? "host" : "no";
    }
    await this.nodes.write(path, new Uint8Array(), call);
    return (await this.#look(path, false, call))?.value.length === 0 ? "overwritten" : "no";
  }

  /** Lists everything below a node, each node before what is below it; empty: below the domain's own directory. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const key = withoutSlash(prefix);
    const path = prefix === "" ? await this.#home(call) : this.#naming.syntax.pathOf(key);
    const top = await this.#look(path, true, call);
    const waiting: KeyedPath[] = this.#children({ path, key }, top?.names ?? []);
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
      const found = await unlessRefused(this.#look(node.path, true, call));
      if (found === undefined) continue;
      // What may not be read is there, without a value.
      yield { key: node.key, value: found === REFUSED ? undefined : found.value };
      if (found !== REFUSED) waiting.push(...this.#children(node, found.names));
    }
  }

  /** Returns the machine's name, UUID and domain id. */
  async facts(call: Call): Promise<MachineFacts> {
    const text = async (path: string): Promise<string | undefined> =>
      (await ifAllowed(this.#look(path, false, call)))?.value.toString("utf8");
    const domid = await text("domid");
    return factsOf(await text("name"), await text("vm"), domid === undefined ? {} : { domid });
  }

  /** Lets go of the driver. */
  async close(): Promise<void> {
    this.#closing.close();
    await this.#driver.close();
  }

  async #remove(key: string, call: Call): Promise<boolean> {
    const path = this.#naming.syntax.pathOf(key);
    checkRemovable(path);
    if ((await this.#look(path, false, call)) === undefined) return false;
    this.#begin(call);
    await this.#driver.remove?.(path, call);
    return true;
  }

  async #home(call: Call): Promise<string> {
    const domain = domainOf((await this.#look("domid", false, call))?.value.toString("latin1") ?? "");
    if (domain === undefined) throw domainUnknown();
    return `/local/domain/${domain}`;
  }

  /** Returns the children in the order of a stack. */
  #children(parent: KeyedPath, names: readonly string[]): KeyedPath[] {
    return childrenOf(parent, [...names].sort().reverse(), this.#naming);
  }

  async #look(path: string, children: boolean, call: Call): Promise<DriverNode | undefined> {
    checkPath(path);
    this.#begin(call);
    return this.#driver.look(path, children, call);
  }

  #begin(call: Call): void {
    this.#closing.check();
    call.check("XenStore");
  }
}
