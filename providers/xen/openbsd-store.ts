import type { Call } from "../../src/bus/call.js";
import type { Capabilities } from "../../src/bus/capabilities.js";
import { pvbusError } from "../../src/bus/errors.js";
import type { MachineFacts, PortableLayout, ProviderStore, RawEntry } from "../../src/bus/store.js";
import { fromSystemError, isSystemError } from "../../src/bus/system-error.js";
import type { Logger } from "../../src/host/host.js";
import { type PvbusNode, PvbusNodeOfType, type PvbusNodes } from "../../src/native/pvbus-nodes.js";
import { OPENBSD_CAPABILITIES } from "./capabilities.js";
import { factsOf } from "./facts.js";
import { checkKey, childPlace, type KeySyntax, type Place, portableLayout, withoutSlash } from "./keys.js";
import { checkNodePath, checkPath, childPath } from "./path.js";

/** Largest payload, path and NUL included, of a request and of a reply (OpenBSD sys/dev/pv/xenstore.c). */
const MOST = 1024;
/** Room for a value of that size and its NUL. */
const ROOM = 2 * MOST;
/** What is left of a request beside the longest portable key. */
const PORTABLE_VALUE_BYTES = 300;
/** A node as far as the kernel tells. */
interface Found {
  readonly value: Buffer;
  readonly names: readonly string[];
}

/** What a listing's line must be. */
const NAME = /^[A-Za-z0-9_@-]+$/;

/**
 * XenStore through OpenBSD's `/dev/pvbusN` of type Xen. Its driver gives a node's children in place of an empty value: what
 * looks like names and has the first of them below it is taken for that. Children of a node that has a value cannot be
 * listed. Not verified by a run on OpenBSD.
 */
export class OpenbsdXenStore implements ProviderStore {
  readonly capabilities: Capabilities = OPENBSD_CAPABILITIES;
  readonly portable: PortableLayout;
  readonly #syntax: KeySyntax;
  readonly #logger: Logger;
  readonly #node: PvbusNodeOfType;
  #closed = false;

  /** @internal Opened by the provider. @param nodes stands in for the kernel */
  constructor(syntax: KeySyntax, logger: Logger, nodes?: PvbusNodes) {
    this.#syntax = syntax;
    this.#logger = logger;
    this.portable = portableLayout(syntax, PORTABLE_VALUE_BYTES);
    this.#node = new PvbusNodeOfType("Xen", nodes);
  }

  /** Reads a node's value, 1024 bytes at most. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    checkKey(key);
    return this.#look(this.#syntax.pathOf(key), call)?.value;
  }

  /** Writes a value; path and value have 1023 bytes at most. */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    checkKey(key);
    const path = this.#syntax.pathOf(key);
    checkNodePath(path);
    if (path.length >= MOST)
      throw pvbusError("ERR_KEY_TOO_LONG", "OpenBSD's kernel takes no path so long; shorten it");
    if (path.length + 1 + value.length > MOST) {
      throw pvbusError(
        "ERR_VALUE_TOO_LONG",
        `OpenBSD's kernel takes ${MOST - 1} bytes of path and value together; shorten the value`,
      );
    }
    this.#do("write", call, (device) => device.write(Buffer.from(path), value, ROOM));
  }

  /** Lists everything below a node, each node before what is below it; empty: below the domain's own directory. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const key = withoutSlash(prefix);
    const path = prefix === "" ? this.#home(call) : this.#syntax.pathOf(key);
    const waiting: Place[] = this.#children({ path, key }, this.#look(path, call)?.names ?? []);
    for (let place = waiting.pop(); place !== undefined; place = waiting.pop()) {
      const found = this.#lookOrSkip(place, call);
      if (found === undefined) continue;
      yield { key: place.key, value: found === "refused" ? undefined : found.value };
      if (found !== "refused") waiting.push(...this.#children(place, found.names));
    }
  }

  /** Gives the machine's name, UUID and domain id. */
  async facts(call: Call): Promise<MachineFacts> {
    const text = (path: string): string | undefined => {
      const found = this.#lookOrSkip({ path, key: path }, call);
      return found === undefined || found === "refused" ? undefined : found.value.toString("utf8");
    };
    const domid = text("domid");
    return factsOf({ name: text("name"), vm: text("vm"), other: domid === undefined ? {} : { domid } });
  }

  /** Closes the device. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#node.close();
  }

  #home(call: Call): string {
    const domain = this.#look("domid", call)?.value.toString("latin1") ?? "";
    if (/^\d{1,5}$/.test(domain)) return `/local/domain/${domain}`;
    throw pvbusError(
      "ERR_UNAVAILABLE",
      "nothing tells this domain's id; name a path in its directory, such as data",
    );
  }

  /** Gives the children in the order of a stack. */
  #children(parent: Place, names: readonly string[]): Place[] {
    const places: Place[] = [];
    for (const name of [...names].sort().reverse()) {
      const place = childPlace(parent, name, this.#syntax);
      if (place !== undefined) places.push(place);
      else if (!name.startsWith("@"))
        this.#logger.warn("a node is left out: no key can name it", { parent: parent.path, name });
    }
    return places;
  }

  #lookOrSkip(place: Place, call: Call): Found | "refused" | undefined {
    try {
      return this.#look(place.path, call);
    } catch (error) {
      if ((error as { code?: unknown }).code === "ERR_PERMISSION") return "refused";
      throw error;
    }
  }

  /** Gives a node's value and what is known of its children. */
  #look(path: string, call: Call): Found | undefined {
    checkPath(path);
    const found = this.#get(path, call);
    if (found === undefined || found.length === 0) return found && { value: found, names: [] };
    const lines = found.toString("latin1").split("\n");
    const [first = ""] = lines;
    const listing =
      lines.every((line) => NAME.test(line)) && this.#get(childPath(path, first), call) !== undefined;
    return listing ? { value: Buffer.alloc(0), names: lines } : { value: found, names: [] };
  }

  #get(path: string, call: Call): Buffer | undefined {
    return this.#do("read", call, (device) => {
      try {
        return device.read(Buffer.from(path), ROOM);
      } catch (error) {
        if (isSystemError(error) && error.code === "ENOENT") return undefined;
        throw error;
      }
    });
  }

  #do<T>(doing: "read" | "write", call: Call, action: (device: PvbusNode) => T): T {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
    call.check("XenStore");
    try {
      return action(this.#node.get(doing === "write"));
    } catch (error) {
      throw fromSystemError(error, {
        doing: `cannot ${doing} XenStore through the kernel`,
        advice: {
          EACCES:
            "this domain may not, or you may not open the device: reading is for group wheel, writing for root",
          EPERM: "reading is for group wheel, writing for root",
          EMSGSIZE: "the value is longer than the 1024 bytes that the kernel takes",
          ERANGE: "the names of the children are more than the kernel hands out",
          EOPNOTSUPP: "the daemon gave an error that the kernel has no number for, most likely of a quota",
        },
        codes: {
          EINVAL: "ERR_KEY_INVALID",
          EMSGSIZE: "ERR_VALUE_TOO_LONG",
          ERANGE: "ERR_NO_SPACE",
          EIO: "ERR_UNAVAILABLE",
          EOPNOTSUPP: "ERR_NO_SPACE",
        },
      });
    }
  }
}
