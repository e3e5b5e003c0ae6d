import type { ProviderManifest } from "../../src/contract/manifest.js";
import { hypervCommands } from "./commands/entries.js";
import { OPTIONS } from "./options.js";

/** Hyper-V's KVP exchange: pool files, Windows' registry, OpenBSD's device; and the daemon's work. */
export const hypervManifest: ProviderManifest = {
  id: "hyperv",
  type: "Hyper-V",
  load: async () => (await import("./module.js")).hypervModule,
  locate: async (host) => (await import("./transport/files/directory.js")).hasPools(host),
  systems: {
    read: ["linux", "freebsd", "win32", "openbsd"],
    write: ["linux", "freebsd", "win32", "openbsd"],
    delete: ["linux", "freebsd", "win32"],
    list: ["linux", "freebsd", "win32", "openbsd"],
    watch: ["linux", "freebsd", "win32", "openbsd"],
  },
  commands: hypervCommands(async () => (await import("./receive.js")).receiveKvp),
  portableHost: { load: async () => (await import("./portable-host.js")).hypervPortableHost },
  demo: {
    through: "pool files",
    load: async () => (await import("./testing/demo.js")).hypervRoundTrip,
  },
  options: OPTIONS,
};
