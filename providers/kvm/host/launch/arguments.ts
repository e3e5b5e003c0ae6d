import { pvbusError } from "../../../../src/base/errors.js";
import type { LaunchChannel, LaunchDescription } from "./description.js";
import {
  FREE_ITEM_SLOTS,
  type LaunchAbilities,
  OWN_ITEM_SLOTS,
  planLaunch,
  refuseVsock,
  type SizeOf,
} from "./plan.js";

/** What QEMU carries: any text, line ends and blanks included. */
const QEMU: LaunchAbilities = { items: true, unfit: /\0/ };
/**
 * What Cloud Hypervisor's options carry: lists are cut at commas, quotes and brackets must match and stay in the value, blanks at
 * the ends go. Its fw_cfg is a feature of the build that distributed ones lack.
 */
const CLOUD_HYPERVISOR: LaunchAbilities = { items: false, unfit: /[,"[\]\0]|^\s|\s$/ };
/** Longest single argument of a program on Linux (MAX_ARG_STRLEN), its NUL included. */
const MAX_ARGUMENT_BYTES = 128 * 1024 - 1;
/** Cloud Hypervisor counts OEM strings in one byte. */
const MAX_OEM_STRINGS = 255;

/**
 * Returns QEMU's arguments for a machine.
 * @throws PvbusError `ERR_KEY_TOO_LONG`, `ERR_KEY_INVALID`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`, `ERR_NO_SPACE`, `ERR_NOT_SUPPORTED`
 */
export function qemuArguments(description: LaunchDescription, sizeOf: SizeOf): string[] {
  const { items, strings } = planLaunch(description, QEMU, sizeOf);
  const out: string[] = [];
  if (items.length > FREE_ITEM_SLOTS)
    out.push("-global", `fw_cfg.x-file-slots=${items.length + OWN_ITEM_SLOTS}`);
  for (const { name, content } of items) {
    const value = "path" in content ? `file=${doubled(content.path)}` : `string=${doubled(content.text)}`;
    out.push("-fw_cfg", `name=${doubled(name)},${value}`);
  }
  for (const string of strings) out.push("-smbios", `type=11,value=${doubled(string)}`);
  if (description.channel !== undefined) out.push(...channelArguments(description.channel));
  for (const argument of out) checkLength(argument);
  return out;
}

function channelArguments({ endpoint, device, portName, smartos }: LaunchChannel): string[] {
  refuseVsock(endpoint, "QEMU has no vsock that ends at a UNIX socket");
  const side = endpoint.kind === "connect" ? "server=on,wait=off" : "server=off,reconnect=1";
  const out = ["-chardev", `socket,id=pvbus,path=${doubled(endpoint.path)},${side}`];
  if (device === "serial") {
    out.push("-serial", "chardev:pvbus");
    return smartos ? [...out, "-smbios", "type=1,product=SmartDC HVM"] : out;
  }
  const port = `virtserialport,bus=pvbus-serial.0,chardev=pvbus,name=${doubled(portName)}`;
  return [...out, "-device", "virtio-serial,id=pvbus-serial", "-device", port];
}

/** QEMU ends a value at a comma; two stand for one. */
function doubled(text: string): string {
  return text.replaceAll(",", ",,");
}

function checkLength(argument: string): void {
  const bytes = Buffer.byteLength(argument);
  if (bytes <= MAX_ARGUMENT_BYTES) return;
  const message = `an argument has ${bytes} bytes, a program takes ${MAX_ARGUMENT_BYTES}: put the value into a file`;
  throw pvbusError("ERR_VALUE_TOO_LONG", `${message} (${argument.slice(0, 60)}…)`);
}

/**
 * Returns Cloud Hypervisor's arguments for a machine.
 * @throws PvbusError `ERR_KEY_TOO_LONG`, `ERR_KEY_INVALID`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`, `ERR_NO_SPACE`, `ERR_NOT_SUPPORTED`
 */
export function cloudHypervisorArguments(description: LaunchDescription, sizeOf: SizeOf): string[] {
  const { strings } = planLaunch(description, CLOUD_HYPERVISOR, sizeOf);
  if (strings.length > MAX_OEM_STRINGS) {
    const message = `${strings.length} keys are too many OEM strings, ${MAX_OEM_STRINGS} are taken: use the channel`;
    throw pvbusError("ERR_NO_SPACE", message);
  }
  const list = `oem_strings=[${strings.join(",")}]`;
  if (Buffer.byteLength(list) > MAX_ARGUMENT_BYTES) {
    const message = `the OEM strings make an argument over ${MAX_ARGUMENT_BYTES} bytes: use the channel`;
    throw pvbusError("ERR_NO_SPACE", message);
  }
  const { channel } = description;
  return [
    ...(strings.length === 0 ? [] : ["--platform", list]),
    ...(channel === undefined ? [] : ["--vsock", vsockOf(channel)]),
  ];
}

function vsockOf({ endpoint, cid }: LaunchChannel): string {
  const mapping = endpoint.kind === "listen" ? endpoint.vsock : undefined;
  if (mapping === undefined) {
    const message = "Cloud Hypervisor's channel is a vsock; write vsock:PATH:PORT for the channel's endpoint";
    throw pvbusError("ERR_NOT_SUPPORTED", message);
  }
  if (CLOUD_HYPERVISOR.unfit.test(mapping.path)) {
    const message = `its options do not carry the path ${mapping.path}; leave out commas, quotes and brackets`;
    throw pvbusError("ERR_VALUE_INVALID", message);
  }
  return `cid=${cid},socket=${mapping.path}`;
}
