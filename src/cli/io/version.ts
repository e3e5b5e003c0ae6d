import { createRequire } from "node:module";

/** Set by the bundler, so that a start reads no further file. */
declare const __PVBUS_VERSION__: string | undefined;

/** Version of the installed package. */
export const VERSION: string =
  typeof __PVBUS_VERSION__ === "string"
    ? __PVBUS_VERSION__
    : (createRequire(import.meta.url)("pvbus/package.json") as { version: string }).version;
