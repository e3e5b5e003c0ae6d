import { FIELD_NAMES, type FieldNames, REGISTRY_KEY } from "../base/firmware/dmi.js";
import { idOfSignature, idOfType } from "../contract/interfaces.js";
import { hypervisorFlag, namedProcessor } from "./cpuid.js";
import { knownDevices, PCI_DEVICES, VIRTIO_DEVICES } from "./devices.js";
import { AZURE_ASSET_TAG, LXC_GROUP } from "./environment.js";
import {
  busLine,
  busNames,
  FREEBSD_GUESTS,
  HYPERV_NAMES,
  HYPERV_PARAMETERS,
  MAC_MODELS,
  NETBSD_GUESTS,
} from "./foreign-systems.js";
import { DEVICES, FADT_IDS, VIRTUAL_DEVICE, VMBUS } from "./linux.js";
import { CLOCKS, QEMU_PROCESSOR } from "./weak.js";

/*
 * What a snapshot keeps of a machine that is to stay nameless. It is a list of what is kept: a fact that nobody has named here is
 * replaced, so that a rule that reads something new leaks nothing before somebody has thought about it. What is kept is what the
 * decision needs, and the firmware's texts of maker, model and version, which make a report of a machine that no rule knows useful.
 */

/** Stands for what is not kept. */
export const REDACTED = "redacted";

/** Sources of named texts. */
export type TextSource = "dmi" | "files" | "sysctl" | "kenv" | "acpi" | "registry";

/** Returns what is kept of a text that is not empty. */
type Keep = (text: string) => string;

const whole: Keep = (text) => text;
/** That there is something is all that counts. */
const presence: Keep = () => "";

function oneOf(known: Iterable<string>): Keep {
  const words = new Set(known);
  return (text) => (words.has(text.trim()) ? text : REDACTED);
}

function matching(pattern: RegExp): Keep {
  return (text) => (pattern.test(text.trim()) ? text : REDACTED);
}

/** Keeps a known beginning, and of the rest that there is one. */
function beginning(...known: readonly string[]): Keep {
  return (text) => {
    const front = known.find((each) => text.toLowerCase().startsWith(each.toLowerCase()));
    if (front === undefined) return REDACTED;
    return text.length === front.length ? text : `${text.slice(0, front.length)}${REDACTED}`;
  };
}

/** Texts of the firmware by the file names of /sys/class/dmi/id; makers, models and their versions, no single machine's. */
const FIRMWARE = new Map<string, Keep>([
  ["sys_vendor", whole],
  ["product_name", whole],
  ["product_version", whole],
  ["product_family", whole],
  ["board_vendor", whole],
  ["board_name", whole],
  ["bios_vendor", whole],
  ["bios_version", whole],
  ["chassis_vendor", whole],
  ["product_serial", beginning("GoogleCloud-")],
  ["product_uuid", beginning("ec2")],
  [
    "chassis_asset_tag",
    (text) =>
      [AZURE_ASSET_TAG, "OracleCloud.com", "Amazon EC2"].includes(text) ? text : beginning("OpenStack")(text),
  ],
]);

/** Fields that are recorded, beyond those that today's rules read. */
export const FIRMWARE_FIELDS: readonly string[] = [...FIRMWARE.keys(), "product_sku"];

/** The same texts by their names elsewhere. */
function renamed(by: keyof FieldNames): [string, Keep][] {
  return Object.entries(FIELD_NAMES).flatMap(([field, { [by]: names = [] }]) =>
    [names].flat().map((name): [string, Keep] => [name, FIRMWARE.get(field) ?? (() => REDACTED)]),
  );
}

/** Containers by the names that their managers give themselves (systemd src/basic/virt.c and the managers' own). */
const CONTAINERS = [
  ..."docker podman lxc lxc-libvirt systemd-nspawn oci rkt wsl proot pouch openvz".split(" "),
  ..."kube kubernetes crio garden flatpak bwrap incus".split(" "),
];
/** Clocks that every kernel may have. */
const PLAIN_CLOCKS = "tsc hpet acpi_pm jiffies refined-jiffies arch_sys_counter tsc-early".split(" ");

const FILES = new Map<string, Keep>([
  ["/proc/cpuinfo", processorFlags],
  [PCI_DEVICES, knownDevices],
  ["/proc/sys/kernel/osrelease", kernelRelease],
  ["/proc/1/environ", containerVariable],
  ["/proc/1/cgroup", containerGroup],
  ["/run/host/container-manager", oneOf(CONTAINERS)],
  ["/run/systemd/container", oneOf(CONTAINERS)],
  ["/run/.containerenv", presence],
  ["/proc/vz", presence],
  ["/proc/bc", presence],
  ["/proc/xen", presence],
  ["/proc/xen/capabilities", oneOf(["control_d"])],
  ["/sys/bus/vmbus", presence],
  ["/sys/devices/platform/arm-cca-dev", presence],
  ["/sys/firmware/uv/prot_virt_guest", oneOf(["0", "1"])],
  ["/sys/hypervisor/type", oneOf(["xen"])],
  ["/sys/hypervisor/guest_type", oneOf(["PV", "HVM", "PVH", "Xen"])],
  ["/sys/hypervisor/uuid", beginning("ec2")],
  ["/sys/hypervisor/properties/features", matching(/^[0-9a-f]{1,16}$/i)],
  ["/sys/devices/system/clocksource/clocksource0/available_clocksource", knownClocks],
  ["/proc/device-tree/hypervisor/compatible", hypervisorNode],
  [
    "/proc/device-tree/compatible",
    (text) => (text.includes("linux,dummy-virt") ? "linux,dummy-virt" : REDACTED),
  ],
  ["/var/run/dmesg.boot", knownBus],
]);

const KEPT: Readonly<Record<TextSource, ReadonlyMap<string, Keep>>> = {
  dmi: FIRMWARE,
  files: FILES,
  kenv: new Map(renamed("kenv")),
  sysctl: new Map<string, Keep>([
    ...renamed("sysctl"),
    ["kern.vm_guest", oneOf([...Object.keys(FREEBSD_GUESTS), "none", "generic"])],
    ["hw.hv_vendor", (text) => (idOfSignature(text) === undefined ? REDACTED : text)],
    ["kern.hv_vmm_present", oneOf(["0", "1"])],
    [
      "hw.model",
      (text) =>
        /^[A-Za-z]{1,20}\d{1,3},\d{1,3}$/.test(text) ? text : beginning(...firstOf(MAC_MODELS))(text),
    ],
    [
      "machdep.hypervisor",
      (text) =>
        /^Xen (PV|HVM|PVH|PVHVM)$/.test(text) ? text : beginning(...firstOf(NETBSD_GUESTS), "none")(text),
    ],
  ]),
  acpi: new Map([["fadtHypervisorId", firmwareIdentity]]),
  registry: new Map<string, Keep>([
    ...renamed("registry").map(([name, keep]): [string, Keep] => [`${REGISTRY_KEY}\\${name}`, keep]),
    ...HYPERV_NAMES.map((name): [string, Keep] => [`${HYPERV_PARAMETERS}\\${name}`, presence]),
  ]),
};

const ACPI_NAME = /^[A-Z0-9_]{1,8}:[0-9a-f]{2,4}$/i;
const DEVICE_TREE = "/proc/device-tree";

/** Returns what is kept of a text; {@link REDACTED} of what nobody named. */
export function keptText(source: TextSource, name: string, text: string): string {
  if (text === "") return "";
  const keep = KEPT[source].get(name);
  return keep === undefined ? REDACTED : keep(text);
}

/** Reports whether a name in a directory is kept: those that rules look for. */
export function keepsName(directory: string, name: string): boolean {
  if (directory === DEVICE_TREE) return /^fw-cfg@[0-9a-f]{1,16}$/.test(name);
  if (directory === VIRTIO_DEVICES) return /^virtio\d{1,5}$/.test(name);
  return directory === DEVICES && ACPI_NAME.test(name) && isTelling(name);
}

/** Returns what is kept of the type that a pvbus device answers with. */
export function keptType(type: string): string {
  return idOfType(type) === undefined ? REDACTED : type;
}

function isTelling(name: string): boolean {
  return VMBUS.test(name) || VIRTUAL_DEVICE.test(name);
}

function firstOf(table: readonly (readonly [string, string])[]): string[] {
  return table.map(([first]) => first);
}

/** Of a processor's description, whose ARM form has a serial number, the one flag, and QEMU's name. */
function processorFlags(text: string): string {
  const flag = hypervisorFlag(text);
  const name = namedProcessor(text) === QEMU_PROCESSOR ? [`model name\t: ${QEMU_PROCESSOR}`] : [];
  if (flag === undefined) return name.join();
  return [...name, flag ? "flags\t\t: hypervisor" : "flags\t\t:"].join("\n");
}

/** The kernel's number, and that it is Microsoft's: whoever builds kernels may write names behind it. */
function kernelRelease(text: string): string {
  const number = /^\d{1,4}(\.\d{1,6}){0,3}/.exec(text)?.[0] ?? REDACTED;
  const maker = /Microsoft|WSL/i.exec(text)?.[0];
  return maker === undefined ? number : `${number}-${maker}`;
}

function containerVariable(text: string): string {
  const name = /(?:^|\0)container=([^\0]+)/.exec(text)?.[1];
  return name === undefined ? "" : `container=${oneOf(CONTAINERS)(name)}`;
}

function containerGroup(text: string): string {
  if (/[/-]libpod-/.test(text)) return `0::/libpod-${REDACTED}`;
  if (/\/docker[/-]/.test(text)) return `0::/docker/${REDACTED}`;
  return LXC_GROUP.test(text) ? `0::/lxc/${REDACTED}` : "0::/";
}

function knownClocks(text: string): string {
  return text
    .split(/\s+/)
    .filter((each) => CLOCKS.has(each) || PLAIN_CLOCKS.includes(each))
    .join(" ");
}

function hypervisorNode(text: string): string {
  const kept = (name: string): string => {
    if (name === "" || name === "linux,kvm" || /^xen,xen(-\d{1,3}\.\d{1,3})?$/.test(name)) return name;
    if (name.startsWith("xen,xen")) return "xen,xen";
    if (name === "microsoft,hyperv") return name;
    return name.includes("vmware") ? "vmware" : REDACTED;
  };
  return text.split("\0").map(kept).join("\0");
}

/** Of OpenBSD's boot messages, which name disks, serial numbers and addresses, the line of the bus and of it the known types. */
function knownBus(text: string): string {
  const kept = busNames(text).filter(({ id }) => id !== undefined);
  return kept.length === 0 ? "" : busLine(kept);
}

function firmwareIdentity(text: string): string {
  const identity = text.replaceAll("\0", "").trim();
  return identity === "" || Object.hasOwn(FADT_IDS, identity) || identity === "QEMU" ? identity : REDACTED;
}
