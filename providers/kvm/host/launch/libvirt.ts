import { pvbusError } from "../../../../src/base/errors.js";
import { ownEntry } from "../../../../src/base/own.js";
import type { LaunchChannel, LaunchDescription } from "./description.js";
import {
  FREE_ITEM_SLOTS,
  type LaunchAbilities,
  type LaunchItem,
  planLaunch,
  refuseVsock,
  type SizeOf,
} from "./plan.js";

/** What an XML 1.0 document carries unchanged: of control characters tabs and line ends alone. */
const LIBVIRT: LaunchAbilities = { items: true, unfit: /(?![\t\n])[\p{Cc}\ufffe\uffff]/u };

/** A part of a domain's XML. */
export interface DomainPart {
  /** Element that it goes into, as a path below the domain; empty for the domain itself. */
  readonly into: "" | "os" | "devices";
  /** The elements. */
  readonly xml: string;
}

/**
 * Returns the parts of libvirt's domain XML for a machine.
 * @throws PvbusError `ERR_KEY_TOO_LONG`, `ERR_KEY_INVALID`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`, `ERR_NO_SPACE`, `ERR_NOT_SUPPORTED`
 */
export function libvirtParts(description: LaunchDescription, sizeOf: SizeOf): DomainPart[] {
  const { items, strings } = planLaunch(description, LIBVIRT, sizeOf);
  const { channel } = description;
  if (items.length > FREE_ITEM_SLOTS) {
    const message = `${items.length} fw_cfg items are too many, ${FREE_ITEM_SLOTS} are safe: give keys as text to SMBIOS`;
    throw pvbusError("ERR_NO_SPACE", message);
  }
  const smbios = [
    ...(channel?.smartos
      ? ["  <system>", "    <entry name='product'>SmartDC HVM</entry>", "  </system>"]
      : []),
    ...(strings.length > 0
      ? ["  <oemStrings>", ...strings.map((each) => `    <entry>${escaped(each)}</entry>`), "  </oemStrings>"]
      : []),
  ];
  const parts: DomainPart[] = [];
  if (smbios.length > 0) {
    parts.push({ into: "os", xml: "<smbios mode='sysinfo'/>" });
    parts.push({ into: "", xml: element("sysinfo type='smbios'", smbios) });
  }
  if (items.length > 0) parts.push({ into: "", xml: element("sysinfo type='fwcfg'", items.map(itemEntry)) });
  if (channel !== undefined) parts.push({ into: "devices", xml: channelElement(channel) });
  return parts;
}

function itemEntry({ name, content }: LaunchItem): string {
  const carried = "path" in content ? content.path : content.text;
  // libvirt (9.0) does not double them for QEMU, which then takes the rest for options.
  const hasComma = name.includes(",") || carried.includes(",");
  if (hasComma || LIBVIRT.unfit.test(carried)) {
    const what = hasComma ? "a comma, which libvirt spoils" : "a control character, which XML cannot hold";
    const advice = "give it another name, put the value into a file, or leave it to SMBIOS";
    throw pvbusError("ERR_VALUE_INVALID", `the fw_cfg item ${name} holds ${what}; ${advice}`);
  }
  if ("path" in content) return `  <entry name='${escaped(name)}' file='${escaped(content.path)}'/>`;
  return `  <entry name='${escaped(name)}'>${escaped(content.text)}</entry>`;
}

function channelElement({ endpoint, device, portName }: LaunchChannel): string {
  refuseVsock(endpoint, "libvirt's vsock does not end at a UNIX socket");
  const path = escaped(endpoint.path);
  const source =
    endpoint.kind === "connect"
      ? [`  <source mode='bind' path='${path}'/>`]
      : [
          `  <source mode='connect' path='${path}'>`,
          "    <reconnect enabled='yes' timeout='1'/>",
          "  </source>",
        ];
  if (device === "serial") return element("serial type='unix'", [...source, "  <target port='1'/>"]);
  return element("channel type='unix'", [...source, `  <target type='virtio' name='${escaped(portName)}'/>`]);
}

function element(start: string, content: readonly string[]): string {
  return [`<${start}>`, ...content, `</${start.split(" ", 1)[0]}>`].join("\n");
}

function escaped(text: string): string {
  const names = { "&": "amp", "<": "lt", ">": "gt", "'": "apos", '"': "quot" };
  return text.replace(/[&<>'"]/g, (char) => `&${ownEntry(names, char)};`);
}
