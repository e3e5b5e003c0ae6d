import type { CommandOption, ProviderCommand } from "../../src/contract/command.js";
import type { ProviderManifest } from "../../src/contract/manifest.js";
import { BOOT_DATA } from "./boot-data.js";
import { OPTIONS } from "./options.js";

const DAEMON_OPTIONS: readonly CommandOption[] = [
  { name: "device", value: "PATH", description: "the driver's device" },
  {
    name: "pools",
    value: "DIR",
    description: "directory of the pool files and of the network settings that the host sets",
  },
  { name: "private-pools", description: "pool files for their owner alone (0600)" },
];

/** Hyper-V's KVP daemon, and what stands in for it while none runs. */
const COMMANDS: readonly ProviderCommand[] = [
  {
    name: "kvpd",
    args: [],
    description: "serve Hyper-V's key-value exchange, in place of hv_kvp_daemon",
    options: [
      { name: "debug", short: "d", description: "log every request that is refused" },
      { name: "no-daemon", short: "n", description: "stay in the foreground, log to standard error" },
      ...DAEMON_OPTIONS,
      { name: "durable", description: "acknowledge only what is on the disk" },
      { name: "overlay-auto", description: "records of the Auto pool's file replace computed values" },
    ],
    interruptible: true,
    load: async () => (await import("./commands/kvp.js")).kvpdCommand,
  },
  {
    name: "kvp",
    description: "receive: take what a Hyper-V host sends while no daemon runs",
    actions: [
      {
        name: "receive",
        args: [],
        description: "take what the host sends while no daemon runs, keep it in the pools and print it",
        options: [
          ...DAEMON_OPTIONS,
          { name: "key", value: "KEY", multiple: true, description: "key to wait for; repeatable" },
          {
            name: "quiet",
            value: "SECONDS",
            description: "leave after the host was silent for so long (1)",
            parse: seconds,
          },
        ],
        interruptible: true,
        load: async () => (await import("./commands/kvp.js")).receiveAction,
      },
    ],
  },
];

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0)) throw new TypeError("takes a number of seconds, zero or more");
  return value;
}

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
  commands: COMMANDS,
  portableHost: { load: async () => (await import("./portable-host.js")).hypervPortableHost },
  demo: { through: "pool files", load: async () => (await import("./testing/demo.js")).hypervRoundTrip },
  options: OPTIONS,
  bootData: BOOT_DATA,
};
