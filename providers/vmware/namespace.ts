import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { NAMESPACE_VALUE_BYTES } from "./protocol/keys.js";
import { command, type RpciRequest } from "./protocol/rpci.js";
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
    checkText("name of a namespace", name, "ERR_KEY_INVALID");
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
    for (const key of keys) checkText("key", key, "ERR_KEY_INVALID");
    const args = [this.name, ...keys].map((text) => `${text}\0`).join("");
    const request = command("namespace-priv-get-values", args, { repeatable: true, privileged: true });
    const reply = Buffer.from(await this.#session.value(request, call)).toString("utf8");
    if (reply === "") return new Map();
    const values = reply.split("\0");
    if (values.length !== keys.length + 1 || values.at(-1) !== "")
      throw pvbusError("ERR_PROTOCOL", `the host gave ${values.length - 1} values for ${keys.length} keys`);
    return new Map(
      keys.map((key, at) => [key, values[at] ?? ""] as const).filter(([, value]) => value !== ""),
    );
  }

  /** Sets a value, whatever it was. @throws PvbusError `ERR_VALUE_*`, and those of {@link VmwareNamespace.get} */
  async set(key: string, value: string, call: Call): Promise<void> {
    checkValue(value);
    await this.#session.value(this.#change(key, value, undefined), call);
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
    if (value !== undefined) checkValue(value);
    if (expected !== undefined) checkValue(expected);
    const request = this.#change(key, value ?? "", expected ?? "");
    const reply = await this.#session.ask(request, call);
    if (reply.accepted) return true;
    // The host's words for this are not documented: what is stored tells.
    if ((await this.get(key, call)) !== expected) return false;
    throw this.#session.refusal(request, reply.words);
  }

  /**
   * Takes a value: reads it and swaps it for none, so that of several takers one has it.
   * @returns undefined when there is none
   * @throws PvbusError as {@link VmwareNamespace.compareAndSet}; then it may be lost
   */
  async take(key: string, call: Call): Promise<string | undefined> {
    for (;;) {
      const value = await this.get(key, call);
      if (value === undefined || (await this.compareAndSet(key, value, undefined, call))) return value;
      await call.turn("a value that nobody else takes");
    }
  }

  /** Removes a value. @returns whether there was one. @throws as {@link VmwareNamespace.get} */
  async delete(key: string, call: Call): Promise<boolean> {
    const there = (await this.get(key, call)) !== undefined;
    if (there) await this.#session.value(this.#change(key, "", undefined), call);
    return there;
  }

  /** `NS\0 COUNT\0` and for each `OP\0 KEY\0 VALUE\0 OLD\0`; operation 1 compares. */
  #change(key: string, value: string, old: string | undefined): RpciRequest {
    checkText("key", key, "ERR_KEY_INVALID");
    const fields = [this.name, "1", old === undefined ? "0" : "1", key, value, old ?? ""];
    const args = fields.map((text) => `${text}\0`).join("");
    return command("namespace-priv-set-keys", args, { repeatable: old === undefined, privileged: true });
  }
}

function checkValue(value: string): void {
  if (Buffer.byteLength(value) > NAMESPACE_VALUE_BYTES)
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `a value of the namespace database has at most ${NAMESPACE_VALUE_BYTES} bytes`,
    );
  checkText("value", value, "ERR_VALUE_INVALID");
}

function checkText(what: string, text: string, code: "ERR_KEY_INVALID" | "ERR_VALUE_INVALID"): void {
  if (text === "") throw pvbusError(code, `the ${what} is empty, which means none in the namespace database`);
  if (text.includes("\0") || !text.isWellFormed())
    throw pvbusError(code, `the ${what} holds a NUL or a lone surrogate; encode it`);
}
