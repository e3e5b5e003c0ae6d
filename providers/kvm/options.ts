import { ownEntry, putEntry } from "../../src/base/own.js";

/** Settings of the KVM provider: `openPvbus({ providerOptions: { kvm: {…} } })`. */
export interface KvmOptions {
  /**
   * Reverse domain name under which plain keys lie in the static sources: fw_cfg `opt/<namespace>/<key>`, OEM string
   * `<namespace>:<key>=<value>`. Default `org.pvbus`.
   */
  readonly namespace?: string;
  /** Name of the virtio-serial port of the metadata channel. Default `org.pvbus.mdata.0`. */
  readonly portName?: string;
  /** Largest fw_cfg item that is read, in bytes; a read takes the square of the size. Default 1 MiB. */
  readonly maxItemBytes?: number;
  /** Longest line that the host may answer with, in bytes; a value takes 4/3 of its size. Default 16 MiB. */
  readonly maxLineBytes?: number;
  /** Longest time in milliseconds until the host must have answered on a channel that was opened. Default 5000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds until a port or serial line that nobody uses is given back to other programs. Default 1000. */
  readonly idleMs?: number;
  /** First pause in milliseconds between two looks of a watch where the host tells of no changes. Default 1000. */
  readonly pollMs?: number;
  /** Milliseconds after which a watch makes sure that the host still tells of changes. Default 30 000. */
  readonly confirmMs?: number;
}

/** Settings with every value in its place. */
export type CompleteOptions = Required<KvmOptions>;

const DEFAULTS: CompleteOptions = {
  namespace: "org.pvbus",
  portName: "org.pvbus.mdata.0",
  maxItemBytes: 1024 * 1024,
  maxLineBytes: 16 * 1024 * 1024,
  connectTimeoutMs: 5_000,
  idleMs: 1_000,
  pollMs: 1_000,
  confirmMs: 30_000,
};
/** Smallest and largest value of each number. */
const RANGES: Readonly<Record<string, readonly [least: number, most: number]>> = {
  maxItemBytes: [1, 0x7fff_ffff],
  maxLineBytes: [1024, 256 * 1024 * 1024],
  connectTimeoutMs: [1, 3_600_000],
  idleMs: [0, 3_600_000],
  pollMs: [10, 3_600_000],
  confirmMs: [10, 3_600_000],
};
const NAMES: Readonly<Record<string, RegExp>> = {
  namespace: /^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$/,
  portName: /^[^/\p{Cc}]{1,200}$/u,
};

/**
 * Validates settings that came from outside and adds the others.
 * @throws TypeError for an unknown name, a wrong type or a value out of range
 */
export function completeOptions(given: Readonly<Record<string, unknown>> = {}): CompleteOptions {
  const options: Record<string, unknown> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(DEFAULTS, name))
      throw new TypeError(`kvm has no option ${name}; it has ${Object.keys(DEFAULTS).join(", ")}`);
    check(name, value);
    putEntry(options, name, value);
  }
  return options as unknown as CompleteOptions;
}

function check(name: string, value: unknown): void {
  const range = ownEntry(RANGES, name);
  if (range !== undefined) {
    const [least, most] = range;
    if (!Number.isInteger(value) || (value as number) < least || (value as number) > most)
      throw new TypeError(`kvm option ${name} must be a whole number from ${least} to ${most}`);
  } else if (typeof value !== "string" || !ownEntry(NAMES, name)?.test(value)) {
    throw new TypeError(
      `kvm option ${name} must be a name, such as ${ownEntry<unknown>(DEFAULTS as unknown as Record<string, unknown>, name)}`,
    );
  }
}
