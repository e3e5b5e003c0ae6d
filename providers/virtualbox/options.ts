import { type CheckedOptions, checkOptions, type OptionSchema } from "../../src/base/options.js";

/** There are none yet; a misspelt one must not pass silently. */
export const OPTIONS = {} as const satisfies OptionSchema;

/** Checks settings that came from outside. @throws TypeError for any */
export function checkVirtualBoxOptions(
  given?: Readonly<Record<string, unknown>>,
): CheckedOptions<typeof OPTIONS> {
  return checkOptions("virtualbox", OPTIONS, given);
}
