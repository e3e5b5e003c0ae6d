import type { ProviderCommand } from "../../src/contract/command.js";
import type { ProviderManifest } from "../../src/contract/manifest.js";
import { BOOT_DATA } from "./boot-data.js";
import { OPTIONS } from "./options.js";

/** A start line that starts nothing when the arguments are refused, which `mapfile … < <(pvbus …)` alone does not hear of. */
const QEMU_LINE =
  'lines=$(pvbus host qemu-args FILE) && mapfile -t args < <(printf %s "$lines") && qemu-system-x86_64 … "$' +
  '{args[@]}"';

const COMMANDS: readonly ProviderCommand[] = [
  {
    name: "host",
    description:
      "KVM's metadata channel from the host: serve, get, set, rm, ls, wait, qemu-args, libvirt-xml, cloud-hypervisor-args",
    options: [
      { name: "state", value: "DIR", description: "directory of the guests' keys" },
      {
        name: "guest",
        value: "NAME[=ENDPOINT]",
        multiple: true,
        description: "guest to work on; for serve with its endpoint, repeatable",
      },
      { name: "config", value: "FILE", description: "guests, endpoints, limits and namespaces for serve" },
    ],
    actions: [
      {
        name: "serve",
        args: [],
        description: "serve guests until it is told to end",
        usage: "host serve --state DIR --guest NAME=ENDPOINT …",
        interruptible: true,
        load: async () => (await import("./commands/serve.js")).serveAction,
      },
      {
        name: "get",
        args: ["<key>"],
        description: "print the value of a guest's key",
        usage: "host get --state DIR --guest NAME KEY",
        load: async () => (await import("./commands/keys.js")).getAction,
      },
      {
        name: "set",
        args: ["<key>", "<value>"],
        description: "write a value; - takes it from standard input",
        usage: "host set --state DIR --guest NAME KEY VALUE",
        load: async () => (await import("./commands/keys.js")).setAction,
      },
      {
        name: "rm",
        args: ["<key>"],
        description: "remove a guest's key",
        usage: "host rm --state DIR --guest NAME KEY",
        load: async () => (await import("./commands/keys.js")).rmAction,
      },
      {
        name: "ls",
        args: ["[prefix]"],
        description: "list a guest's keys and values, or the guests",
        usage: "host ls --state DIR [--guest NAME [PREFIX]]",
        load: async () => (await import("./commands/keys.js")).lsAction,
      },
      {
        name: "wait",
        args: ["[key]"],
        description: "wait until guests are ready, or until a key has a value",
        usage: "host wait --state DIR --guest NAME … [KEY[=VALUE]] [--ready] [--timeout SECONDS]",
        options: [
          { name: "ready", description: "wait until they are ready, besides a key" },
          { name: "key", value: "KEY", description: "a key that holds a =" },
          { name: "value", value: "VALUE", description: "the value that it is to have" },
        ],
        load: async () => (await import("./commands/wait.js")).waitAction,
      },
      {
        name: "qemu-args",
        args: ["<file>"],
        description: "print QEMU's arguments for a description of keys and channel",
        usage: `host qemu-args FILE; in bash: ${QEMU_LINE}`,
        load: async () => (await import("./commands/launch.js")).qemuAction,
      },
      {
        name: "libvirt-xml",
        args: ["<file>"],
        description: "print the elements to add to a domain of libvirt",
        usage: "host libvirt-xml FILE",
        load: async () => (await import("./commands/launch.js")).libvirtAction,
      },
      {
        name: "cloud-hypervisor-args",
        args: ["<file>"],
        description: "print Cloud Hypervisor's arguments",
        usage: "host cloud-hypervisor-args FILE",
        load: async () => (await import("./commands/launch.js")).cloudHypervisorAction,
      },
    ],
  },
];

/** What a guest of QEMU, and of others with the same devices, has: the metadata channel, fw_cfg, SMBIOS; and the channel's host. */
export const kvmManifest: ProviderManifest = {
  id: "kvm",
  type: "KVM",
  serves: ["qemu", "bhyve", "nvmm", "haxm", "lkvm", "apple"],
  load: async () => (await import("./module.js")).kvmModule,
  locate: async (host) => (await import("./capabilities.js")).hasSources(host),
  bootData: BOOT_DATA,
  options: OPTIONS,
  systems: {
    read: ["linux", "freebsd", "win32"],
    write: ["linux", "freebsd"],
    delete: ["linux", "freebsd"],
    list: ["linux", "freebsd", "win32"],
    watch: ["linux", "freebsd"],
  },
  commands: COMMANDS,
  portableHost: { load: async () => (await import("./portable-host.js")).kvmPortableHost },
  demo: {
    through: "a metadata socket",
    load: async () => (await import("./testing/demo.js")).kvmRoundTrip,
  },
};
