import { known } from "../base/firmware/fact.js";
import type { Facts } from "./facts.js";

/** All PCI devices, for everybody to read: a line each, vendor and device as eight hex digits in its second column (Linux drivers/pci/proc.c). */
export const PCI_DEVICES = "/proc/bus/pci/devices";

/** Virtio devices on any bus. */
export const VIRTIO_DEVICES = "/sys/bus/virtio/devices";

/** What devices that one hypervisor makes say, by the beginning of vendor and device. */
const NAMED: readonly (readonly [RegExp, string])[] = [
  [/^80ee/, "virtualbox"],
  [/^5853/, "xen"],
  // QEMU has VMware's screen, disk controller and network card too, and VirtualBox the screen.
  [/^15ad(?!0405|07c0|07b0)/, "vmware"],
  // The screen and the GPU of guests; Microsoft's vendor id is on network cards of physical machines as well.
  [/^1414(5353|008e)/, "hyperv"],
];
/** QEMU's own devices, and VMware's that others have too: a virtual machine, whosoever. */
const VIRTUAL = /^(1b36|15ad(0405|07c0|07b0))/;
/** There are physical cards too that speak virtio. */
const VIRTIO = /^1af4/;

function pciDevices(facts: Facts): string[] {
  return idsIn(known(facts.file(PCI_DEVICES)) ?? "");
}

function idsIn(lines: string): string[] {
  return [...lines.matchAll(/^[0-9a-f]{4}\t([0-9a-f]{8})\t/gm)].map(([, id]) => id as string);
}

/** Returns the hypervisor that a device names, and the words for it. */
export function namedDevice(
  facts: Facts,
  wanted?: string,
): { readonly id: string; readonly detail: string } | undefined {
  for (const device of pciDevices(facts)) {
    const id = NAMED.find(([pattern]) => pattern.test(device))?.[1];
    if (id !== undefined && (wanted === undefined || id === wanted))
      return { id, detail: `${PCI_DEVICES}: ${device.slice(0, 4)}:${device.slice(4)}` };
  }
  return undefined;
}

/** Reports whether there is a device that only virtual machines have. */
export function hasVirtualDevice(facts: Facts): boolean {
  return pciDevices(facts).some((device) => VIRTUAL.test(device));
}

/** Reports whether there is a virtio device, on PCI or on a bus of its own. */
export function hasVirtioDevice(facts: Facts): boolean {
  return pciDevices(facts).some((device) => VIRTIO.test(device)) || facts.names(VIRTIO_DEVICES).length > 0;
}

/** Of the PCI devices, those that a rule knows, without their places and addresses. */
export function knownDevices(text: string): string {
  const telling = idsIn(text).filter(
    (id) => VIRTUAL.test(id) || VIRTIO.test(id) || NAMED.some(([pattern]) => pattern.test(id)),
  );
  return telling.map((id) => `0000\t${id}\t0`).join("\n");
}
