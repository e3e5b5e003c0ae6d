import { type CheckedOptions, checkOptions, type OptionSchema } from "../../src/base/options.js";
import { ownEntry } from "../../src/base/own.js";

const HOUR_MS = 3_600_000;

/** The settings, as the command line, help and documentation take them. */
export const OPTIONS = {
  staticNamespace: {
    kind: "text",
    default: "org.pvbus",
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$/,
    line: "reverse domain name under which plain keys lie in fw_cfg and SMBIOS",
  },
  portName: {
    kind: "text",
    default: "org.pvbus.mdata.0",
    pattern: /^[^/\p{Cc}]{1,200}$/u,
    line: "name of the metadata channel's virtio-serial port",
  },
  maxItemBytes: {
    kind: "number",
    default: 1024 * 1024,
    least: 1,
    most: 0x7fff_ffff,
    line: "largest fw_cfg item that is read, in bytes",
  },
  maxLineBytes: {
    kind: "number",
    default: 16 * 1024 * 1024,
    least: 1024,
    most: 256 * 1024 * 1024,
    line: "longest line that the host may answer with, in bytes",
  },
  connectTimeoutMs: {
    kind: "number",
    default: 5_000,
    least: 1,
    most: HOUR_MS,
    line: "longest time in milliseconds until the host must have answered on a channel that was opened",
  },
  idleMs: {
    kind: "number",
    default: 1_000,
    least: 0,
    most: HOUR_MS,
    line: "milliseconds until a port or serial line that nobody uses is given back to other programs",
  },
  pollMs: {
    kind: "number",
    default: 1_000,
    least: 10,
    most: HOUR_MS,
    line: "first pause in milliseconds between two looks of a watch where the host tells of no changes",
  },
  confirmMs: {
    kind: "number",
    default: 30_000,
    least: 10,
    most: HOUR_MS,
    line: "milliseconds after which a watch makes sure that the host still tells of changes",
  },
} as const satisfies OptionSchema;

/** Settings of the KVM provider: `openPvbus({ providerOptions: { kvm: {…} } })`. */
export interface KvmOptions {
  /** Reverse domain name before plain keys: fw_cfg `opt/<namespace>/<key>`, OEM string `<namespace>:<key>=<value>`. Default `org.pvbus`. */
  readonly staticNamespace?: string;
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
export type CompleteOptions = CheckedOptions<typeof OPTIONS>;

/** @throws TypeError for an unknown name, a wrong type or a value out of range */
export function completeOptions(given: Readonly<Record<string, unknown>> = {}): CompleteOptions {
  if (ownEntry(given, "namespace") !== undefined)
    throw new TypeError("kvm has no option namespace any more; it is called staticNamespace now");
  return checkOptions("kvm", OPTIONS, given);
}
