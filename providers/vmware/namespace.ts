import type { Call } from "../../src/base/flow/call.js";
import {
  checkNamespaceText,
  checkNamespaceValue,
  decodeNamespaceValues,
  namespaceGet,
  namespaceSet,
} from "./protocol/namespaces.js";
import type { RpciSession } from "./session.js";

/**
 * One namespace of the host's namespace database: the store of VMware with compare-and-swap. The host makes namespaces
 * (`com.example.app`); the guest's program must be privileged. Nothing lists the keys. An empty value is none.
 */
export class VmwareNamespace {
  /** Its name. */
  readonly name: string;
  readonly #session: RpciSession;

  /** @internal Use `VmwareStore.namespace`. */
  constructor(session: RpciSession, name: string) {
    checkNamespaceText("name of a namespace", name);
    this.name = name;
    this.#session = session;
  }

  /**
   * Returns a value.
   * @returns undefined when there is none
   * @throws PvbusError `ERR_PERMISSION` without privilege, or for a namespace that the host does not give; `ERR_NOT_SUPPORTED`
   *   on a host without the database
   */
  async get(key: string, call: Call): Promise<string | undefined> {
    return (await this.getAll([key], call)).get(key);
  }

  /** Returns the values of several keys in one command; keys without one are left out. @throws as {@link VmwareNamespace.get} */
  async getAll(keys: readonly string[], call: Call): Promise<ReadonlyMap<string, string>> {
    if (keys.length === 0) return new Map();
    return decodeNamespaceValues(keys, await this.#session.value(namespaceGet(this.name, keys), call));
  }

  /** Sets a value, whatever it was. @throws PvbusError `ERR_VALUE_*`, and those of {@link VmwareNamespace.get} */
  async set(key: string, value: string, call: Call): Promise<void> {
    checkNamespaceValue(value);
    await this.#session.value(namespaceSet(this.name, { key, value }), call);
  }

  /**
   * Sets a value if the present one is as expected; it is never sent twice.
   * @param expected undefined: there must be none
   * @param value undefined: removes it
   * @returns false when the present value is another one
   * @throws PvbusError `ERR_DISCONNECTED` when the channel broke and nobody knows whether it was done
   */
  async compareAndSet(
    key: string,
    expected: string | undefined,
    value: string | undefined,
    call: Call,
  ): Promise<boolean> {
    if (value !== undefined) checkNamespaceValue(value);
    if (expected !== undefined) checkNamespaceValue(expected);
    const request = namespaceSet(this.name, { key, value: value ?? "", expected: expected ?? "" });
    const reply = await this.#session.ask(request, call);
    if (reply.accepted) return true;
    // The host's words for this are not documented: what is stored tells.
    if ((await this.get(key, call)) !== expected) return false;
    throw this.#session.refusal(request, reply.words);
  }

  /** Removes a value. @returns whether there was one. @throws as {@link VmwareNamespace.get} */
  async delete(key: string, call: Call): Promise<boolean> {
    const there = (await this.get(key, call)) !== undefined;
    if (there) await this.#session.value(namespaceSet(this.name, { key, value: "" }), call);
    return there;
  }
}
