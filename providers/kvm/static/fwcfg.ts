import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { itemName } from "../protocol/keys.js";
import { namesIn, readOnce, readSourceFile, type StaticEntry, type StaticSource } from "./source.js";

/** Where Linux' qemu_fw_cfg driver shows the items (Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg). */
export const FWCFG_ROOT = "/sys/firmware/qemu_fw_cfg";
const BY_KEY = `${FWCFG_ROOT}/by_key`;
const BY_NAME = `${FWCFG_ROOT}/by_name`;

/** The item names of QEMU have 55 bytes at most; what else a file may say is cut off as damaged. */
const MAX_NAME_BYTES = 4096;
const MAX_NUMBER_BYTES = 32;
/** Selectors are 16 bits: no machine has more items. */
const MAX_ITEMS = 0x1_0000;
/** A read costs the square of the size: so large a value is worth a warning. */
const SLOW_BYTES = 64 * 1024;
/** Items of users have names that begin so; the others are of the firmware, often large, and always of its own format. */
const USER_ITEMS = "opt/";
/** Values of users' items up to that size are part of a listing; of others the name is. */
const LISTED_BYTES = 16 * 1024;
const MAX_DEPTH = 16;
/** Names of the tree by name that are looked at: in a captured one links may lead in circles. */
const MAX_VISITS = 10_000;

interface FwCfgOptions {
  /** Reverse domain name before plain keys: `opt/<namespace>/<key>`. */
  readonly namespace: string;
  /** Largest item that is read. */
  readonly maxBytes: number;
}

/** Reports whether the driver serves a device: its directory alone is there without one too. */
export function hasFwCfg(host: Host): boolean {
  return host.files.kind(`${FWCFG_ROOT}/rev`) !== undefined;
}

/** Items of QEMU's fw_cfg device, which bhyve and Cloud Hypervisor have too. They do not change while the machine runs. */
export class FwCfgSource implements StaticSource {
  readonly name = "fwcfg";
  readonly #host: Host;
  readonly #options: FwCfgOptions;
  readonly #values = new Map<string, Uint8Array>();
  /** The selector of each name; the empty one where only names may be seen. */
  readonly #items = readOnce(() => this.#readItems(), "the list of fw_cfg items");

  constructor(host: Host, options: FwCfgOptions) {
    this.#host = host;
    this.#options = options;
  }

  nameOf(key: string): string {
    return itemName(this.#options.namespace, key);
  }

  keyOf(name: string): string | undefined {
    const front = this.nameOf("");
    return name.startsWith(front) && name !== front ? name.slice(front.length) : undefined;
  }

  /** The first read is kept. @throws PvbusError `ERR_PERMISSION` for others than root, `ERR_VALUE_TOO_LONG`, `ERR_CORRUPT` */
  async read(name: string, call: Call): Promise<Uint8Array | undefined> {
    const held = this.#values.get(name);
    if (held !== undefined) return Uint8Array.from(held);
    const selector = (await this.#items(call)).get(name);
    if (selector === undefined) return undefined;
    const bytes = await this.#size(selector, call);
    if (bytes > this.#options.maxBytes) {
      throw pvbusError(
        "ERR_VALUE_TOO_LONG",
        `the fw_cfg item has ${bytes} bytes, ${this.#options.maxBytes} are read at most (it takes long): set maxItemBytes`,
      );
    }
    return this.#value(name, selector, bytes, call);
  }

  /** Lists the items in the order of their selectors; those of the firmware by their names alone. */
  async *list(prefix: string, call: Call): AsyncGenerator<StaticEntry, void, undefined> {
    for (const [name, selector] of await this.#items(call)) {
      if (!name.startsWith(prefix)) continue;
      yield { name, value: await this.#listedValue(name, selector, call) };
    }
  }

  async #listedValue(name: string, selector: string, call: Call): Promise<Uint8Array | undefined> {
    if (selector === "" || !name.startsWith(USER_ITEMS)) return undefined;
    const bytes = await this.#size(selector, call);
    return bytes > LISTED_BYTES ? undefined : this.#value(name, selector, bytes, call);
  }

  async #value(name: string, selector: string, bytes: number, call: Call): Promise<Uint8Array> {
    if (bytes > SLOW_BYTES) {
      const message = "reading a large fw_cfg item, which takes the square of its size: give it another way";
      this.#host.logger.warn(message, { name, bytes });
    }
    const limits = { bytes, maxBytes: this.#options.maxBytes };
    const value = await readSourceFile(this.#host, `${BY_KEY}/${selector}/raw`, limits, call);
    if (value === undefined) throw pvbusError("ERR_CORRUPT", `the fw_cfg item ${selector} has no raw bytes`);
    this.#values.set(name, value);
    return Uint8Array.from(value);
  }

  async #size(selector: string, call: Call): Promise<number> {
    if (selector === "") {
      throw pvbusError(
        "ERR_PERMISSION",
        "fw_cfg values are given to root only; run as root (names are listed)",
      );
    }
    const text = await this.#text(`${BY_KEY}/${selector}/size`, MAX_NUMBER_BYTES, call);
    if (text === undefined || !/^\d{1,10}$/.test(text))
      throw pvbusError("ERR_CORRUPT", `the fw_cfg item ${selector} has no size`);
    return Number(text);
  }

  /** By key: the tree by name leaves out what its names make impossible (`opt/c` beside `opt/c/d`). */
  async #readItems(): Promise<ReadonlyMap<string, string>> {
    const call = new Call();
    const items = new Map<string, string>();
    const numbers = namesIn(this.#host, BY_KEY, call).filter((name) => /^\d{1,5}$/.test(name));
    try {
      for (const selector of numbers.sort((a, b) => Number(a) - Number(b)).slice(0, MAX_ITEMS)) {
        const name = await this.#text(`${BY_KEY}/${selector}/name`, MAX_NAME_BYTES, call);
        if (name && !items.has(name)) items.set(name, selector);
      }
      return items;
    } catch (error) {
      if (!PvbusError.is(error) || error.code !== "ERR_PERMISSION") throw error;
      const visits = { left: MAX_VISITS };
      for await (const name of this.#namesBelow("", 0, visits, call)) items.set(name, "");
      return items;
    }
  }

  /** Names that everybody may see: a directory for each part, a link for the last. */
  async *#namesBelow(
    front: string,
    depth: number,
    visits: { left: number },
    call: Call,
  ): AsyncGenerator<string> {
    if (depth > MAX_DEPTH) return;
    for (const part of namesIn(this.#host, `${BY_NAME}/${front}`, call)) {
      if (visits.left-- <= 0) return;
      await call.turn("the names of fw_cfg items");
      const name = `${front}${part}`;
      // The link leads to the item's directory, which everybody may enter.
      if (this.#host.files.kind(`${BY_NAME}/${name}/raw`) !== undefined) yield name;
      else yield* this.#namesBelow(`${name}/`, depth + 1, visits, call);
    }
  }

  async #text(path: string, maxBytes: number, call: Call): Promise<string | undefined> {
    const bytes = await readSourceFile(this.#host, path, { maxBytes }, call);
    return bytes?.toString("utf8").replace(/\n$/, "");
  }
}
