import type { ProviderManifest } from "../../src/contract/manifest.js";
import { OPTIONS } from "./options.js";

/** Xen's XenStore: a daemon's socket, a kernel's device, Windows' driver, OpenBSD's device. */
export const xenManifest: ProviderManifest = {
  id: "xen",
  type: "Xen",
  load: async () => (await import("./module.js")).xenModule,
  locate: async (host) => (await import("./transport/locate.js")).locateDaemon(host) !== undefined,
  options: OPTIONS,
  systems: {
    read: ["linux", "freebsd", "netbsd", "win32", "openbsd"],
    write: ["linux", "freebsd", "netbsd", "win32", "openbsd"],
    delete: ["linux", "freebsd", "netbsd", "win32"],
    list: ["linux", "freebsd", "netbsd", "win32", "openbsd"],
    watch: ["linux", "freebsd", "netbsd"],
  },
  portableHost: { load: async () => (await import("./portable-host.js")).xenPortableHost },
  demo: {
    through: "a daemon's socket",
    load: async () => (await import("./testing/demo.js")).xenRoundTrip,
  },
};
