import { type CheckedOptions, checkOptions, type OptionSchema } from "../../src/base/options.js";
import type { Privilege } from "./transport/sources.js";

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
  /** Milliseconds between two looks of a watch when there was a change. Default 250, of a DataSet 1000. */
  readonly pollMs?: number;
  /** Longest time in milliseconds between two looks of a watch. Default 5000, of a DataSet 10000. */
  readonly longestPollMs?: number;
}

const MILLISECONDS = {
  kind: "number",
  whole: false,
  least: Number.MIN_VALUE,
  refusal: "must be a number of milliseconds above 0",
} as const;

/** The same as data. */
export const OPTIONS = {
  transport: {
    kind: "choice",
    choices: ["auto", "vsock", "backdoor", "libvmtools"],
    default: "auto",
    line: "the transport: vsock where it is there, else the backdoor, else the vendor's library; or one of them alone",
  },
  privilege: {
    kind: "choice",
    choices: ["prefer", "require", "never"],
    default: "prefer",
    line: "whether a vsock port below 1024 shows the host that a privileged program speaks; require sends nothing without",
  },
  dataset: { kind: "text", line: "the DataSet to open in place of guestinfo (vSphere 8)" },
  verify: {
    kind: "boolean",
    default: false,
    line: "read back each value that was written, since hosts have cut values",
  },
  pollMs: {
    ...MILLISECONDS,
    line: "milliseconds to a watch's next look after a change: 250, of a DataSet 1000",
  },
  longestPollMs: {
    ...MILLISECONDS,
    line: "longest time in milliseconds between two looks of a watch: 5000, of a DataSet 10000",
  },
} as const satisfies OptionSchema;

/**
 * Checks settings that came from outside.
 * @throws TypeError for an unknown name or a wrong value: a misspelt safety option must not pass silently
 */
export function checkVmwareOptions(
  given?: Readonly<Record<string, unknown>>,
): CheckedOptions<typeof OPTIONS> {
  return checkOptions("vmware", OPTIONS, given);
}
