import { pvbusError } from "pvbus";

const CAPABILITIES = { read: true, write: false, delete: false, list: true, watch: true };
const MAX_VALUE_BYTES = 65_536;
/** What a file can be called, and nothing that leads elsewhere. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,99}$/;

/** Keys that the host gives as files of one directory: `acme/<name>`. */
class AcmeStore {
  capabilities = CAPABILITIES;
  /** The host's side of portable keys; the guest publishes nothing here. */
  portable = {
    hostKeys: (namespace, name) => [`acme/${namespace}.${name}`.toLowerCase()],
    guestKey: () => undefined,
    chunkBytes: MAX_VALUE_BYTES,
  };
  #host;
  #options;
  #closing;
  #isClosed = false;

  constructor(host, options, closing) {
    this.#host = host;
    this.#options = options;
    this.#closing = closing;
  }

  async read(key, call) {
    this.#check(call);
    return this.#value(key);
  }

  async *list(prefix, call) {
    this.#check(call);
    for (const name of this.#host.files.names(this.#options.directory)) {
      // Work that waits for nothing leaves time for others.
      const turn = call.turn("the listing");
      if (turn !== undefined) await turn;
      this.#check(call);
      const key = `acme/${name}`;
      const value = NAME.test(name) && isBelow(key, prefix) ? this.#value(key) : undefined;
      if (value !== undefined) yield { key, value };
    }
  }

  async *watch(prefix, call, { ready }) {
    if (call.isOver) return;
    try {
      let before = await this.#all(prefix, call);
      ready();
      for (;;) {
        // Ends with the call; after close() the next look throws.
        await call.sleep(this.#options.pollMs, "a change");
        const now = await this.#all(prefix, call);
        for (const key of before.keys()) if (!now.has(key)) yield { key, value: undefined };
        for (const [key, value] of now)
          if (before.get(key) === undefined || Buffer.compare(before.get(key), value) !== 0)
            yield { key, value };
        before = now;
      }
    } catch (error) {
      // The end of the call is the end of the watch, and no failure.
      if (!call.isEnd(error)) throw error;
    }
  }

  async facts(call) {
    this.#check(call);
    return { vmName: "acme" };
  }

  async close() {
    this.#isClosed = true;
  }

  async #all(prefix, call) {
    const found = new Map();
    for await (const { key, value } of this.list(prefix, call)) found.set(key, value);
    return found;
  }

  #value(key) {
    const name = key.startsWith("acme/") ? key.slice("acme/".length) : "";
    if (!NAME.test(name))
      throw pvbusError(
        "ERR_KEY_INVALID",
        "an Acme's keys are acme/ and a name of a-z, 0-9, dot, dash, underscore",
      );
    const bytes = this.#host.files.read(`${this.#options.directory}/${name}`, MAX_VALUE_BYTES + 1);
    if (bytes !== undefined && bytes.length > MAX_VALUE_BYTES)
      throw pvbusError(
        "ERR_VALUE_TOO_LONG",
        `the value has more than ${MAX_VALUE_BYTES} bytes; the host must shorten it`,
      );
    return bytes && new Uint8Array(bytes);
  }

  #check(call) {
    if (this.#isClosed || this.#closing?.aborted)
      throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
    call.check("the store");
  }
}

/** A prefix is a key, or ends where a part of a key does. */
function isBelow(key, prefix) {
  if (prefix === "" || key === prefix) return true;
  return key.startsWith(/[/.]$/.test(prefix) ? prefix : `${prefix}/`) || key.startsWith(`${prefix}.`);
}

/** Serves the Acme. */
export class AcmeProvider {
  id = "acme";
  type = "Acme";
  #host;

  /** No I/O here, nothing native. */
  constructor(host) {
    this.#host = host;
  }

  capabilities() {
    return CAPABILITIES;
  }

  async open({ options = {} }, call, closing) {
    call.check("the opening of the store");
    const { directory = "/run/acme/keys", pollMs = 1000 } = options;
    if (this.#host.files.kind(directory) !== "directory")
      throw pvbusError("ERR_UNAVAILABLE", `there is no ${this.#host.path(directory)}; start acme-agent`);
    return new AcmeStore(this.#host, { directory, pollMs }, closing);
  }

  explain() {
    return "the host alone sets an Acme's keys: acmectl set NAME KEY=VALUE";
  }

  async diagnose({ options = {} }) {
    const { directory = "/run/acme/keys" } = options;
    const works = this.#host.files.kind(directory) === "directory";
    return [
      { what: "the Acme's keys are there", works, ...(works ? {} : { fix: "systemctl start acme-agent" }) },
    ];
  }
}
