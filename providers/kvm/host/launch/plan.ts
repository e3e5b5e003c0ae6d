import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../../../src/base/errors.js";
import { encodeBase64 } from "../../../../src/mdata/base64.js";
import { itemName, oemName } from "../../protocol/keys.js";
import type { Endpoint } from "../settings/endpoint.js";
import type { LaunchDescription, LaunchKey } from "./description.js";

/*
 * Limits of what hypervisors take at a machine's start, found by running QEMU 7.2 and by reading libvirt's schema and Cloud
 * Hypervisor's parser of options.
 */

/** Longest name of a fw_cfg item in bytes; QEMU exits above. */
const MAX_ITEM_NAME_BYTES = 55;
/** The item directory has 32 places, and QEMU itself takes up to 17 of them; with one more it aborts. */
export const FREE_ITEM_SLOTS = 15;
/** So many places QEMU takes for itself, with some to spare for later versions. */
export const OWN_ITEM_SLOTS = 24;
/** Largest item that a guest reads where nothing else is set; reading takes the square of the size. */
const MAX_ITEM_BYTES = 1024 * 1024;
/** The whole SMBIOS table has 65535 bytes with the 32-bit entry point; the other structures take some of them. */
const MAX_OEM_BYTES = 60_000;

/** An item of the fw_cfg device. */
export interface LaunchItem {
  readonly name: string;
  readonly content: { readonly text: string } | { readonly path: string };
}

/** What a hypervisor can carry. */
export interface LaunchAbilities {
  readonly items: boolean;
  /** What an OEM string must not hold; values that do go as base64. */
  readonly unfit: RegExp;
}

/** Returns the size of a file in bytes; undefined where there is none. */
export type SizeOf = (path: string) => number | undefined;

/** Lays keys out over the static sources. @throws PvbusError with the key and what to do instead */
export function planLaunch(
  { namespace, keys }: LaunchDescription,
  abilities: LaunchAbilities,
  sizeOf: SizeOf,
): { readonly items: readonly LaunchItem[]; readonly strings: readonly string[] } {
  const items: LaunchItem[] = [];
  const strings: string[] = [];
  for (const each of keys) {
    if (goesToItem(each, abilities)) items.push(itemOf(namespace, each, sizeOf));
    else strings.push(stringOf(namespace, each, abilities.unfit));
  }
  const bytes = strings.reduce((sum, string) => sum + Buffer.byteLength(string) + 1, 0);
  if (bytes > MAX_OEM_BYTES) {
    throw pvbusError(
      "ERR_NO_SPACE",
      `the OEM strings take ${bytes} bytes, SMBIOS has room for ${MAX_OEM_BYTES}; give large values as files, or over the channel`,
    );
  }
  return { items, strings };
}

/** A vsock that ends at a UNIX socket is for others. */
export function refuseVsock(endpoint: Endpoint, why: string): void {
  if (endpoint.kind !== "listen" || endpoint.vsock === undefined) return;
  const advice = "write connect:PATH or unix:PATH for the channel's endpoint";
  throw pvbusError("ERR_NOT_SUPPORTED", `${why}; ${advice}`);
}

function goesToItem({ key, value, source }: LaunchKey, { items }: LaunchAbilities): boolean {
  const wanted = source ?? (value.kind === "file" ? "fwcfg" : "smbios");
  if (value.kind === "file" && wanted === "smbios") {
    const message = `the value of "${key}" is a file, which only fw_cfg carries; leave its source out, or give it as text`;
    throw pvbusError("ERR_NOT_SUPPORTED", message, { key });
  }
  if (wanted === "fwcfg" && !items) {
    const message = `"${key}" needs fw_cfg, which this hypervisor is not built with; give it as text, or over the channel`;
    throw pvbusError("ERR_NOT_SUPPORTED", message, { key });
  }
  return wanted === "fwcfg";
}

function itemOf(namespace: string, { key, value }: LaunchKey, sizeOf: SizeOf): LaunchItem {
  const name = itemName(namespace, key);
  const over = Buffer.byteLength(name) - MAX_ITEM_NAME_BYTES;
  if (over > 0) {
    const message = `the fw_cfg name ${name} is ${over} bytes too long, ${MAX_ITEM_NAME_BYTES} are taken; shorten the key`;
    throw pvbusError("ERR_KEY_TOO_LONG", message, { key });
  }
  if (value.kind === "file") {
    checkSize(key, sizeOf(value.path), value.path);
    return { name, content: { path: value.path } };
  }
  checkSize(key, value.bytes.length);
  const text = textOf(value.bytes);
  if (text === undefined || text === "") {
    const what = text === "" ? "is empty" : "is no text";
    const message = `the value of "${key}" ${what}, which no argument carries; put it into a file, or leave it to SMBIOS`;
    throw pvbusError("ERR_VALUE_INVALID", message, { key });
  }
  return { name, content: { text } };
}

function checkSize(key: string, bytes: number | undefined, path?: string): void {
  if (bytes === undefined) {
    const message = `there is no file ${path} for "${key}"; the hypervisor would not start`;
    throw pvbusError("ERR_VALUE_INVALID", message, { key });
  }
  if (bytes <= MAX_ITEM_BYTES) return;
  const message = `the value of "${key}" has ${bytes} bytes; guests read ${MAX_ITEM_BYTES} of a fw_cfg item: use the channel`;
  throw pvbusError("ERR_VALUE_TOO_LONG", message, { key });
}

/** Text goes as it is; what text cannot carry goes as base64, which the guest takes back. */
function stringOf(namespace: string, { key, value }: LaunchKey, unfit: RegExp): string {
  if (key.includes("=") || unfit.test(key)) {
    const message = `no OEM string carries the key ${JSON.stringify(key)}; leave out = and what the hypervisor's options use`;
    throw pvbusError("ERR_KEY_INVALID", message, { key });
  }
  const { bytes } = value as { bytes: Uint8Array };
  const text = textOf(bytes);
  if (text !== undefined && !unfit.test(text)) return `${oemName(namespace, key)}=${text}`;
  return `${oemName(`${namespace}.binary`, key)}=${encodeBase64(bytes)}`;
}

function textOf(bytes: Uint8Array): string | undefined {
  return isUtf8(bytes) && !bytes.includes(0) ? Buffer.from(bytes).toString("utf8") : undefined;
}
