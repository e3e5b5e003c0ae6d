import { PvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import type { Steps } from "../../../src/mdata/steps.js";
import { loadKoffi } from "../../../src/native/ffi/koffi.js";
import { readFirmwareTable } from "../../../src/native/windows/firmware-table.js";
import { oemName } from "../protocol/keys.js";
import { FIELDS, hasMixedUuids, listedNames, readTable } from "../protocol/smbios.js";
import { readOnce, readSourceFile, type StaticEntry, type StaticSource } from "./source.js";

const TABLES = "/sys/firmware/dmi/tables";
const TABLE = `${TABLES}/DMI`;
const ENTRY_POINT = `${TABLES}/smbios_entry_point`;
const FIELD_FILES = "/sys/class/dmi/id";

/** The 32-bit form has 64 KiB at most, the other one 4 GiB; no real table comes near this. */
const MAX_TABLE_BYTES = 16 * 1024 * 1024;
const MAX_ENTRY_POINT_BYTES = 256;
const MAX_FIELD_BYTES = 4096;

/** Reports whether the firmware describes the machine; Windows always has some table. */
export function hasSmbios(host: Host): boolean {
  return isWindows(host) || [TABLE, FIELD_FILES].some((path) => host.files.kind(path) !== undefined);
}

/** Root reads the table; everybody else the fields that Linux shows to all. */
export class SmbiosSource implements StaticSource {
  readonly name = "smbios";
  readonly #host: Host;
  readonly #namespace: string;
  readonly #read = readOnce(() => this.#readValues(), "the SMBIOS table");

  /** @param namespace reverse domain name before plain keys: `<namespace>:<key>=<value>` */
  constructor(host: Host, namespace: string) {
    this.#host = host;
    this.#namespace = namespace;
  }

  nameOf(key: string): string {
    return `oem/${oemName(this.#namespace, key)}`;
  }

  keyOf(name: string): string | undefined {
    const front = this.nameOf("");
    return name.startsWith(front) ? name.slice(front.length) : undefined;
  }

  /** Returns a value. @throws PvbusError `ERR_PERMISSION` for OEM strings and serial numbers where only root may see them */
  async read(name: string, call: Call): Promise<Uint8Array | undefined> {
    const { values, refusal } = await this.#read(call);
    const value = values.get(name);
    if (value === undefined && refusal !== undefined && isHidden(name)) throw refusal;
    return value && Uint8Array.from(value);
  }

  async *list(prefix: string, call: Call): AsyncGenerator<StaticEntry, void, undefined> {
    const { values, refusal } = await this.#read(call);
    if (refusal !== undefined)
      this.#host.logger.warn("OEM strings and serial numbers are left out", { why: refusal.message });
    for (const name of await inTurns(listedNames(values), call)) {
      const value = values.get(name);
      if (name.startsWith(prefix) && value !== undefined) yield { name, value: Uint8Array.from(value) };
    }
  }

  async #readValues(): Promise<Values> {
    const call = new Call();
    const host = this.#host;
    const isOnWindows = isWindows(host);
    try {
      const table = isOnWindows
        ? readFirmwareTable(loadKoffi())
        : await readSourceFile(host, TABLE, { maxBytes: MAX_TABLE_BYTES }, call);
      if (table === undefined) return { values: isOnWindows ? new Map() : await this.#fields(call) };
      // Windows leaves the entry point out: none that runs today is on firmware older than 2.6.
      const limits = { maxBytes: MAX_ENTRY_POINT_BYTES };
      const entryPoint = isOnWindows ? undefined : await readSourceFile(host, ENTRY_POINT, limits, call);
      const hasMixedUuid = entryPoint === undefined || hasMixedUuids(entryPoint);
      const { values, isCut } = await inTurns(readTable(table, hasMixedUuid), call);
      const message = "the SMBIOS table is cut; what stands at its end is left out";
      if (isCut) host.logger.warn(message, { bytes: table.length });
      return { values };
    } catch (error) {
      if (!PvbusError.is(error) || error.code !== "ERR_PERMISSION") throw error;
      return { values: await this.#fields(call), refusal: error };
    }
  }

  async #fields(call: Call): Promise<Map<string, Uint8Array>> {
    const values = new Map<string, Uint8Array>();
    const limits = { maxBytes: MAX_FIELD_BYTES };
    for (const { name, file } of FIELDS) {
      try {
        const bytes = await readSourceFile(this.#host, `${FIELD_FILES}/${file}`, limits, call);
        if (bytes !== undefined) values.set(name, bytes.at(-1) === 0x0a ? bytes.subarray(0, -1) : bytes);
      } catch (error) {
        if (!PvbusError.is(error) || error.code !== "ERR_PERMISSION") throw error;
      }
    }
    return values;
  }
}

/** Does work in steps, between which others have their turn: a hostile table takes long. */
async function inTurns<T>(steps: Steps<T>, call: Call): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    const turn = call.turn("the SMBIOS table");
    if (turn !== undefined) await turn;
  }
}

/** A captured tree has files, whatever runs here. */
function isWindows({ platform, sysroot }: Host): boolean {
  return platform === "win32" && sysroot === undefined;
}

/** What the table says, and why it could not be read where only the fields could. */
interface Values {
  readonly values: ReadonlyMap<string, Uint8Array>;
  readonly refusal?: PvbusError;
}

/** Reports whether root alone sees a value that may be there. */
function isHidden(name: string): boolean {
  return name.startsWith("oem/") || FIELDS.some((field) => field.name === name);
}
