import type { ProviderManifest } from "../../src/contract/manifest.js";
import { BOOT_DATA } from "./boot-data.js";
import { OPTIONS } from "./options.js";

/** VirtualBox' guest properties, through the driver of Linux or of VirtualBox' additions. */
export const virtualboxManifest: ProviderManifest = {
  id: "virtualbox",
  type: "VirtualBox",
  load: async () => (await import("./module.js")).virtualboxModule,
  locate: async (host) => (await import("./hardware.js")).pciAddress(host) !== undefined,
  // Guests are shown KVM's or Hyper-V's processor; the driver makes its nodes for VirtualBox' device alone.
  detection: { paths: ["/dev/vboxguest"] },
  bootData: BOOT_DATA,
  options: OPTIONS,
  systems: {
    read: ["linux", "freebsd", "win32"],
    write: ["linux", "freebsd", "win32"],
    delete: ["linux", "freebsd", "win32"],
    list: ["linux", "freebsd", "win32"],
    watch: ["linux", "freebsd", "win32"],
  },
  portableHost: { load: async () => (await import("./portable-host.js")).virtualboxPortableHost },
};
