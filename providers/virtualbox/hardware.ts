import type { Host } from "../../src/base/host/host.js";

const DEVICES = "/sys/bus/pci/devices";
const DRIVER = "/sys/bus/pci/drivers/vboxguest";
/** The device that talks to the virtual machine monitor, VMMDev. */
const VENDOR = "0x80ee";
const DEVICE = "0xcafe";
/** Attributes of sysfs are short. */
const ATTRIBUTE_BYTES = 64;

function attribute(host: Host, path: string): string | undefined {
  return host.files.read(path, ATTRIBUTE_BYTES)?.toString("latin1").trim();
}

/** Returns the PCI address of VirtualBox' own device, `0000:00:04.0`; undefined where there is none, or no sysfs. */
export function pciAddress(host: Host): string | undefined {
  return host.files
    .names(DEVICES)
    .find(
      (name) =>
        attribute(host, `${DEVICES}/${name}/vendor`) === VENDOR &&
        attribute(host, `${DEVICES}/${name}/device`) === DEVICE,
    );
}

/** What Linux's own driver says of a device that it has taken; undefined where it has not. */
export function boundDriver(host: Host, address: string) {
  if (!host.files.names(DRIVER).includes(address)) return undefined;
  return { hostVersion: attribute(host, `${DRIVER}/${address}/host_version`) };
}
