import { pvbusError } from "../../../../src/base/errors.js";
import type { LaunchChannel, LaunchDescription } from "./description.js";
import {
  FREE_ITEM_SLOTS,
  type LaunchAbilities,
  MAX_ARGUMENT_BYTES,
  OWN_ITEM_SLOTS,
  planLaunch,
  type SizeOf,
} from "./plan.js";

/** What QEMU carries: any text, line ends and blanks included. */
export const QEMU: LaunchAbilities = { items: true, unfit: /\0/ };

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
  if (endpoint.kind === "listen" && endpoint.vsock !== undefined) {
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      "QEMU has no vsock that ends at a UNIX socket; write connect:PATH or unix:PATH for the channel's endpoint",
    );
  }
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
