import { ownEntry } from "../../src/base/own.js";
import type { Privilege } from "./transport/vsock.js";

/** Settings of the VMware provider: `openPvbus({ providerOptions: { vmware: {…} } })`. */
export interface VmwareOptions {
  /** Goes over this way alone. Default `auto`: vsock where it is there, else the backdoor, else the vendor's library. */
  readonly transport?: "auto" | "vsock" | "backdoor" | "libvmtools";
  /**
   * Whether the host is to know that a privileged program speaks, by a vsock port below 1024. `prefer` (default) where this
   * program may have one; `require` sends nothing without; `never` does not ask for one.
   */
  readonly privilege?: Privilege;
  /** Opens the DataSet of that name as the store in place of guestinfo: it can list and delete. vSphere 8 and later. */
  readonly dataset?: string;
  /** Reads back each value that was written, because hosts have cut values without a word. Default false. */
  readonly verify?: boolean;
  /** Milliseconds between two looks of a watch when there was a change. Default 250. */
  readonly pollMs?: number;
  /** Longest time in milliseconds between two looks of a watch. Default 5000. */
  readonly longestPollMs?: number;
}

const CHOICES: Readonly<Record<string, readonly string[]>> = {
  transport: ["auto", "vsock", "backdoor", "libvmtools"],
  privilege: ["prefer", "require", "never"],
};
const KINDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  dataset: (value) => typeof value === "string" && value !== "",
  verify: (value) => typeof value === "boolean",
  pollMs: (value) => typeof value === "number" && value > 0,
  longestPollMs: (value) => typeof value === "number" && value > 0,
};

/**
 * Validates settings that came from outside.
 * @throws TypeError for an unknown name or a wrong value: a misspelt safety option must not pass silently
 */
export function checkVmwareOptions(given: Readonly<Record<string, unknown>> = {}): VmwareOptions {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const choices = ownEntry(CHOICES, name);
    const fits = ownEntry(KINDS, name);
    if (choices !== undefined) {
      if (!choices.includes(value as string))
        throw new TypeError(`vmware option ${name} is one of ${choices.join(", ")}`);
    } else if (fits === undefined) {
      const names = [...Object.keys(CHOICES), ...Object.keys(KINDS)].join(", ");
      throw new TypeError(`vmware has no option ${name}; it has ${names}`);
    } else if (!fits(value)) throw new TypeError(`vmware option ${name} has no such value`);
  }
  return given as VmwareOptions;
}
