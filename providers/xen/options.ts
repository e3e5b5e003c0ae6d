/** Settings of the Xen provider: `openPvbus({ providerOptions: { xen: {…} } })`. */
export interface XenOptions {
  /**
   * Takes any text for names in keys and encodes what XenStore cannot hold: `com.example` becomes `com@2eexample`. Default
   * false: keys are XenStore paths as they are.
   */
  readonly encodeNames?: boolean;
}

/**
 * Validates settings that came from outside.
 * @throws TypeError for an unknown name or a wrong type
 */
export function checkOptions(given: Readonly<Record<string, unknown>> = {}): XenOptions {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (name !== "encodeNames") throw new TypeError(`xen has no option ${name}; it has encodeNames`);
    if (typeof value !== "boolean") throw new TypeError("xen option encodeNames must be true or false");
  }
  return given as XenOptions;
}
