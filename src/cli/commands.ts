import { statSync } from "node:fs";
import { type Context, UsageError } from "./io/context.js";

/** Runs one command: its context, its arguments, its own options. */
export type Action = (
  context: Context,
  args: readonly string[],
  own: Readonly<Record<string, unknown>>,
) => Promise<number>;

/** One command: how it is called, and what runs it, loaded when it is called. */
export interface CommandEntry {
  /** Its name. */
  readonly name: string;
  /** Its arguments, `<required>` or `[optional]`; `<several...>` at the end. */
  readonly args: readonly string[];
  /** What it does, in one line. */
  readonly description: string;
  /** SIGINT and SIGTERM end it as planned, through the context's signal; where an action is named, only that one. */
  readonly interruptible?: true | string;
  /** Loads what runs it. */
  readonly load: () => Promise<Action>;
}

/** One option. */
export interface OptionEntry {
  /** Long name. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** Name of its value; none for a switch. */
  readonly value?: string;
  /** May be given several times. */
  readonly multiple?: boolean;
  /** The commands that have it; all of them where none is named. */
  readonly commands?: readonly string[];
  /** What it does, in one line. */
  readonly description: string;
  /** Checks and converts the value. @throws UsageError */
  readonly parse?: (option: string, text: string) => unknown;
}

function seconds(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0))
    throw new UsageError(`${option} takes a number of seconds, zero or more`);
  return value;
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`${option} takes a whole number, one or more`);
  return value;
}

function setting(option: string, text: string): Record<string, unknown> {
  const at = text.indexOf("=");
  if (at < 1) throw new UsageError(`${option} takes NAME=VALUE`);
  const name = text.slice(0, at);
  const value = text.slice(at + 1);
  return { [name]: settingValue(name, value) };
}

function settingValue(name: string, value: string): unknown {
  if (value === "true" || value === "false") return value === "true";
  if (/^-?\d+(\.\d+)?$/.test(value)) return Number(value);
  return name.endsWith("Pools") ? value.split(",") : value;
}

/** A mistyped directory would look like a machine without anything. */
function directory(option: string, path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
  throw new UsageError(`${option} takes a directory that exists, not '${path}'`);
}

/** Every option, those of all commands first. */
export const OPTIONS: readonly OptionEntry[] = [
  { name: "json", description: "print JSON" },
  {
    name: "sysroot",
    value: "DIR",
    description: "take every file below DIR (also PVBUS_SYSROOT)",
    parse: directory,
  },
  { name: "interface", short: "i", value: "NAME", description: "work on this interface, such as pvbus1" },
  { name: "type", short: "t", value: "TYPE", description: "work on this type, whatever detection says" },
  { name: "channel", value: "SPEC", description: "transport of that type, such as unix:PATH" },
  { name: "timeout", value: "SECONDS", description: "longest time to wait", parse: seconds },
  {
    name: "option",
    short: "o",
    value: "NAME=VALUE",
    multiple: true,
    description: "setting of the provider (with -t); repeatable",
    parse: setting,
  },
  { name: "verbose", short: "v", description: "say more on standard error" },
  { name: "help", short: "h", description: "show this help" },
  { name: "version", short: "V", description: "show the version" },
  { name: "snapshot", value: "FILE", commands: ["detect"], description: "decide from a recorded machine" },
  { name: "full-scan", commands: ["detect"], description: "look at all 256 CPUID bases" },
  {
    name: "identifiers",
    commands: ["snapshot"],
    description: "keep all that was read: serial numbers, UUIDs, names, boot messages",
  },
  { name: "debug", short: "d", commands: ["kvpd"], description: "log every request that is refused" },
  {
    name: "no-daemon",
    short: "n",
    commands: ["kvpd"],
    description: "stay in the foreground, log to standard error",
  },
  { name: "device", value: "PATH", commands: ["kvpd", "kvp"], description: "the driver's device" },
  {
    name: "pools",
    value: "DIR",
    commands: ["kvpd", "kvp"],
    description: "directory of the pool files and of the network settings that the host sets",
  },
  {
    name: "private-pools",
    commands: ["kvpd", "kvp"],
    description: "pool files for their owner alone (0600)",
  },
  { name: "durable", commands: ["kvpd"], description: "acknowledge only what is on the disk" },
  {
    name: "overlay-auto",
    commands: ["kvpd"],
    description: "records of the Auto pool's file replace computed values",
  },
  {
    name: "key",
    value: "KEY",
    multiple: true,
    commands: ["kvp"],
    description: "key to wait for; repeatable",
  },
  {
    name: "quiet",
    value: "SECONDS",
    commands: ["kvp"],
    description: "leave after the host was silent for so long (1)",
    parse: seconds,
  },
  { name: "state", value: "DIR", commands: ["host"], description: "directory of the guests' keys" },
  {
    name: "guest",
    value: "NAME[=ENDPOINT]",
    multiple: true,
    commands: ["host"],
    description: "guest to work on; for serve with its endpoint, repeatable",
  },
  {
    name: "config",
    value: "FILE",
    commands: ["host"],
    description: "guests, endpoints, limits and namespaces for serve",
  },
  { name: "permissions", short: "p", commands: ["ls"], description: "show permissions too (Xen)" },
  { name: "recursive", short: "r", commands: ["chmod"], description: "everything below the key too" },
  { name: "count", value: "N", commands: ["watch"], description: "end after N changes", parse: positive },
];

/** Every command. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "detect",
    args: [],
    description: "which hypervisor interfaces are here, and the evidence",
    load: async () => {
      const { detectCommand } = await import("./commands/detect.js");
      return (context, _args, own) => detectCommand(context, own);
    },
  },
  {
    name: "get",
    args: ["<key>"],
    description: "print the value of a key",
    load: async () => {
      const { getCommand } = await import("./commands/get.js");
      return (context, [key = ""]) => getCommand(context, key);
    },
  },
  {
    name: "set",
    args: ["<key>", "<value>"],
    description: "write a value; - takes it from standard input",
    load: async () => {
      const { setCommand } = await import("./commands/set.js");
      return (context, [key = "", value = ""]) => setCommand(context, key, value);
    },
  },
  {
    name: "rm",
    args: ["<key>"],
    description: "remove a key",
    load: async () => {
      const { rmCommand } = await import("./commands/rm.js");
      return (context, [key = ""]) => rmCommand(context, key);
    },
  },
  {
    name: "ls",
    args: ["[prefix]"],
    description: "list keys and values",
    load: async () => {
      const { lsCommand } = await import("./commands/ls.js");
      return (context, [prefix], own) => lsCommand(context, prefix, own);
    },
  },
  {
    name: "watch",
    args: ["[prefix]"],
    description: "print changes as they happen",
    interruptible: true,
    load: async () => {
      const { watchCommand } = await import("./commands/watch.js");
      return (context, [prefix], own) => watchCommand(context, prefix, own);
    },
  },
  {
    name: "chmod",
    args: ["<key>", "<permission...>"],
    description: "replace a key's permissions (Xen): n7 r0, the owner's first",
    load: async () => (await import("./commands/permissions.js")).chmodCommand,
  },
  {
    name: "info",
    args: [],
    description: "what the host tells about this machine",
    load: async () => (await import("./commands/info.js")).infoCommand,
  },
  {
    name: "doctor",
    args: [],
    description: "what works, what does not, why, and what mends it",
    load: async () => (await import("./commands/doctor.js")).doctorCommand,
  },
  {
    name: "snapshot",
    args: [],
    description: "record all facts of this machine as one JSON document",
    load: async () => {
      const { snapshotCommand } = await import("./commands/snapshot.js");
      return (context, _args, own) => snapshotCommand(context, own);
    },
  },
  {
    name: "kvpd",
    args: [],
    description: "serve Hyper-V's key-value exchange, in place of hv_kvp_daemon",
    interruptible: true,
    load: async () => {
      const { kvpdCommand } = await import("../../providers/hyperv/commands/kvpd.js");
      return (context, _args, own) => kvpdCommand(context, own);
    },
  },
  {
    name: "kvp",
    args: ["<action>"],
    description: "receive: take what a Hyper-V host sends while no daemon runs",
    interruptible: true,
    load: async () => {
      const { kvpCommand } = await import("../../providers/hyperv/commands/kvp.js");
      return (context, [action = ""], own) => kvpCommand(context, action, own);
    },
  },
  {
    name: "host",
    args: ["<action>", "[key]", "[value]"],
    description:
      "KVM's metadata channel from the host: serve, get, set, rm, ls, qemu-args, libvirt-xml, cloud-hypervisor-args",
    interruptible: "serve",
    load: async () => (await import("../../providers/kvm/commands/host.js")).hostCommand,
  },
  {
    name: "demo",
    args: [],
    description: "the whole round trip on an embedded simulator",
    interruptible: true,
    load: async () => (await import("./commands/demo.js")).demoCommand,
  },
  {
    name: "completion",
    args: ["<shell>"],
    description: "print a completion script for bash, zsh or fish",
    load: async () => {
      const { completionCommand } = await import("./commands/completion.js");
      return (context, [shell = ""]) =>
        completionCommand(context, shell, { commands: COMMANDS.map(nameOf), options: OPTIONS });
    },
  },
];

/** Returns a command's name. */
export function nameOf({ name }: { readonly name: string }): string {
  return name;
}
