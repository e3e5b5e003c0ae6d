import type { GivenOptions, OptionSchema } from "../../src/base/options.js";

/** Schema of the Xen provider's settings. */
export const OPTIONS = {
  encodeNames: {
    kind: "boolean",
    default: false,
    line: "take any text for names in keys, encoding what XenStore cannot hold",
  },
} as const satisfies OptionSchema;

/** Settings of the Xen provider: `openPvbus({ providerOptions: { xen: {…} } })`. */
export interface XenOptions extends GivenOptions<typeof OPTIONS> {
  /**
   * Takes any text for names in keys and encodes what XenStore cannot hold: `com.example` becomes `com@2eexample`. Default
   * false: keys are XenStore paths as they are.
   */
  readonly encodeNames?: boolean | undefined;
}
