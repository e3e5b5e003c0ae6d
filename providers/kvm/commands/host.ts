import { ownEntry } from "../../../src/base/own.js";
import { suggestion } from "../../../src/cli/help.js";
import { type Context, UsageError } from "../../../src/cli/io/context.js";

/** Options of `pvbus host`. */
export interface HostOptions {
  /** Directory of the guests' keys. */
  readonly state?: string;
  /** Guests: names, with `=ENDPOINT` for `serve`. */
  readonly guest?: readonly string[];
  /** Configuration file of `serve`. */
  readonly config?: string;
}

/** What an action works with. */
export interface HostAction {
  /** The run. */
  readonly context: Context;
  /** Options of `pvbus host`. */
  readonly own: HostOptions;
  /** Arguments behind the action. */
  readonly args: readonly string[];
}

interface Entry {
  /** Least and most arguments behind the action. */
  readonly args: readonly [least: number, most: number];
  readonly usage: string;
  readonly load: () => Promise<(action: HostAction) => Promise<number>>;
}

/** A start line that starts nothing when the arguments are refused, which `mapfile … < <(pvbus …)` alone does not hear of. */
const QEMU_LINE =
  'lines=$(pvbus host qemu-args FILE) && mapfile -t args < <(printf %s "$lines") && qemu-system-x86_64 … "$' +
  '{args[@]}"';

const ACTIONS: Readonly<Record<string, Entry>> = {
  serve: {
    args: [0, 0],
    usage: "serve --state DIR --guest NAME=ENDPOINT …",
    load: async () => (await import("./serve.js")).serveAction,
  },
  get: {
    args: [1, 1],
    usage: "get --state DIR --guest NAME KEY",
    load: async () => (await import("./keys.js")).getAction,
  },
  set: {
    args: [2, 2],
    usage: "set --state DIR --guest NAME KEY VALUE",
    load: async () => (await import("./keys.js")).setAction,
  },
  rm: {
    args: [1, 1],
    usage: "rm --state DIR --guest NAME KEY",
    load: async () => (await import("./keys.js")).rmAction,
  },
  ls: {
    args: [0, 1],
    usage: "ls --state DIR [--guest NAME [PREFIX]]",
    load: async () => (await import("./keys.js")).lsAction,
  },
  "qemu-args": {
    args: [1, 1],
    usage: `qemu-args FILE; in bash: ${QEMU_LINE}`,
    load: async () => (await import("./launch.js")).qemuAction,
  },
  "libvirt-xml": {
    args: [1, 1],
    usage: "libvirt-xml FILE",
    load: async () => (await import("./launch.js")).libvirtAction,
  },
  "cloud-hypervisor-args": {
    args: [1, 1],
    usage: "cloud-hypervisor-args FILE",
    load: async () => (await import("./launch.js")).cloudHypervisorAction,
  },
};

/** `pvbus host ACTION …`: the host side of KVM's metadata channel. */
export async function hostCommand(
  context: Context,
  [name = "", ...args]: readonly string[],
  own: HostOptions,
): Promise<number> {
  const entry = ownEntry(ACTIONS, name);
  const known = Object.keys(ACTIONS);
  if (entry === undefined) {
    throw new UsageError(
      `host: unknown action '${name}'${suggestion(name, known)}; there are: ${known.join(", ")}`,
    );
  }
  const [least, most] = entry.args;
  if (args.length < least || args.length > most) throw new UsageError(`usage: pvbus host ${entry.usage}`);
  return (await entry.load())({ context, own, args });
}

/** Returns the state directory. @throws UsageError when none was named */
export function stateOf({ own: { state } }: HostAction): string {
  if (state) return state;
  throw new UsageError("host: name the directory of the guests' keys with --state DIR");
}
