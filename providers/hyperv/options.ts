import { pvbusError } from "../../src/base/errors.js";
import { type CheckedOptions, checkOptions, type OptionSchema } from "../../src/base/options.js";

/** Settings of the Hyper-V provider: `openPvbus({ providerOptions: { hyperv: {…} } })`. */
export interface HypervOptions {
  /** Pool directory, below the sysroot where there is one; default: the system's own. */
  readonly directory?: string;
  /** Creates a missing pool file in an existing pool directory on the first write, as the daemon would. Default false. */
  readonly createPools?: boolean;
  /** Takes pool files from group and others (mode 0600) when they are opened; the daemon keeps that mode. Default false. */
  readonly privatePools?: boolean;
  /** Zeroes what deleted and overwritten records left behind, in the whole pool, at the first write. Default false. */
  readonly scrubTails?: boolean;
  /** Resolves a write only after the data reached the disk. Default false, as the daemon never does. */
  readonly durable?: boolean;
  /** Accepts what a record holds (511 and 2047 bytes) though the host gets 254 and 1022 units of it. Default false. */
  readonly wideLimits?: boolean;
  /** Pools beside Guest that this program may write, for whoever plays the host's part. Default none. */
  readonly writablePools?: readonly string[];
}

/** The settings as data. */
export const OPTIONS = {
  createPools: flag("make a missing pool file on the first write"),
  privatePools: flag("take pool files from group and others"),
  scrubTails: flag("zero what deleted and overwritten records left behind, at the first write"),
  durable: flag("resolve a write only when the data is on the disk"),
  wideLimits: flag("accept all that a record holds, though the host gets less of it"),
  directory: {
    kind: "text",
    line: "pool directory, below the sysroot where there is one",
    refusal: "must be a path",
  },
  writablePools: { kind: "list", of: "pool names", line: "pools beside Guest that this program may write" },
} as const satisfies OptionSchema;

function flag(line: string) {
  return { kind: "boolean", line, default: false } as const;
}

/** Settings with their defaults. */
export type CompleteOptions = CheckedOptions<typeof OPTIONS>;

/** Completes settings that came from outside. @throws TypeError for an unknown name or a wrong type */
export function completeOptions(given?: Readonly<Record<string, unknown>>): CompleteOptions & HypervOptions {
  return checkOptions("hyperv", OPTIONS, given);
}

/**
 * Refuses settings that mean nothing on a system.
 * @param names of those settings
 * @throws PvbusError `ERR_NOT_SUPPORTED` when one is given
 */
export function refuseOptions(options: HypervOptions, names: readonly string[], why: string): void {
  for (const name of names as readonly (keyof HypervOptions)[]) {
    if (options[name] === undefined || options[name] === false) continue;
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `${why}; the option ${name} has no meaning there, leave it out or name a captured tree with --sysroot`,
    );
  }
}
