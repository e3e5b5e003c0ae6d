import type { ProviderManifest } from "../../src/contract/manifest.js";
import { BOOT_DATA } from "./boot-data.js";
import { OPTIONS } from "./options.js";

/** The guest API of LXD and Incus, in containers and machines: a store beside the hypervisor's own. */
export const lxdManifest: ProviderManifest = {
  id: "lxd",
  type: "LXD",
  load: async () => (await import("./module.js")).lxdModule,
  locate: async (host) => (await import("./transport/locate.js")).locate(host),
  bootData: BOOT_DATA,
  options: OPTIONS,
  systems: { read: ["linux"], write: [], delete: [], list: ["linux"], watch: ["linux"] },
  demo: {
    through: "the guest API's socket",
    load: async () => (await import("./testing/demo.js")).lxdRoundTrip,
  },
};
