import type { ProviderManifest } from "../../src/contract/manifest.js";
import { BOOT_DATA } from "./boot-data.js";
import { OPTIONS } from "./options.js";

/** VMware's guestinfo and DataSets: vsock, the backdoor, the vendor's library, OpenBSD's device. */
export const vmwareManifest: ProviderManifest = {
  id: "vmware",
  type: "VMware",
  load: async () => (await import("./module.js")).vmwareModule,
  bootData: BOOT_DATA,
  options: OPTIONS,
  systems: {
    read: ["linux", "freebsd", "win32", "openbsd"],
    write: ["linux", "freebsd", "win32", "openbsd"],
    delete: ["linux", "win32"],
    list: ["linux", "win32"],
    watch: ["linux", "freebsd", "win32", "openbsd"],
  },
  portableHost: { load: async () => (await import("./portable-host.js")).vmwarePortableHost },
  demo: {
    through: "a guest RPC socket",
    load: async () => (await import("./testing/demo.js")).vmwareRoundTrip,
  },
};
