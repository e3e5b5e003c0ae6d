import { pvbusError } from "../../src/base/errors.js";

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

const BOOLEANS = ["createPools", "privatePools", "scrubTails", "durable", "wideLimits"] as const;

/**
 * Validates settings that came from outside.
 * @throws TypeError for an unknown name or a wrong type: a misspelt safety option must not pass silently
 */
export function checkOptions(given: Readonly<Record<string, unknown>> = {}): HypervOptions {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if ((BOOLEANS as readonly string[]).includes(name)) {
      if (typeof value !== "boolean") throw new TypeError(`hyperv option ${name} must be true or false`);
    } else if (name === "directory") {
      if (typeof value !== "string" || value === "")
        throw new TypeError("hyperv option directory must be a path");
    } else if (name === "writablePools") {
      if (!Array.isArray(value) || value.some((pool) => typeof pool !== "string")) {
        throw new TypeError("hyperv option writablePools must be a list of pool names");
      }
    } else {
      throw new TypeError(
        `hyperv has no option ${name}; it has ${[...BOOLEANS, "directory", "writablePools"].join(", ")}`,
      );
    }
  }
  return given as HypervOptions;
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
