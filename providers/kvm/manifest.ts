import type { ProviderManifest } from "../../src/contract/manifest.js";
import { KVM_COMMANDS } from "./commands/entries.js";
import { OPTIONS } from "./options.js";

/** What a guest of QEMU, and of others with the same devices, has: the metadata channel, fw_cfg, SMBIOS; and the channel's host. */
export const kvmManifest: ProviderManifest = {
  id: "kvm",
  type: "KVM",
  serves: ["qemu", "bhyve", "nvmm", "haxm", "lkvm", "apple"],
  load: async () => (await import("./module.js")).kvmModule,
  locate: async (host) => (await import("./capabilities.js")).hasSources(host),
  options: OPTIONS,
  systems: {
    read: ["linux", "freebsd", "win32"],
    write: ["linux", "freebsd"],
    delete: ["linux", "freebsd"],
    list: ["linux", "freebsd", "win32"],
    watch: ["linux", "freebsd"],
  },
  commands: KVM_COMMANDS,
  portableHost: { load: async () => (await import("./portable-host.js")).kvmPortableHost },
  demo: {
    through: "a metadata socket",
    load: async () => (await import("./testing/demo.js")).kvmRoundTrip,
  },
};
