import type { GivenOptions, OptionSchema } from "../../src/base/options.js";

const MEBIBYTE = 1 << 20;

/** Schema of the LXD provider's settings. */
export const OPTIONS = {
  socket: {
    kind: "text",
    line: "path of the guest API's socket",
    pattern: /^\//,
    refusal: "must be an absolute path",
  },
  maxValueBytes: {
    kind: "number",
    default: 16 * MEBIBYTE,
    least: 1,
    most: 512 * MEBIBYTE,
    line: "longest value that is taken",
  },
  patienceMs: {
    kind: "number",
    default: 10_000,
    least: 0,
    line: "longest wait for a daemon or an agent that restarts",
  },
} as const satisfies OptionSchema;

/** Settings of the LXD provider: `openPvbus({ providerOptions: { lxd: {…} } })`. */
export interface LxdOptions extends GivenOptions<typeof OPTIONS> {
  /** Path of the guest API's socket; default: `/dev/incus/sock`, then `/dev/lxd/sock`. */
  readonly socket?: string | undefined;
  /** Longest value in bytes that is taken; default 16 MiB. */
  readonly maxValueBytes?: number | undefined;
  /** Longest wait in milliseconds for a daemon or an agent that restarts; default 10 000. */
  readonly patienceMs?: number | undefined;
}
