import { createRequire } from "node:module";
import { isElevated, isHidden, processEnvironment } from "../base/host/environment.js";
import { BUILT_IN, openPvbus } from "../composition.js";
import { descriptorSink, readAll, startProcess, untilInterrupted } from "./io/process.js";
import { runPvbus, wantsJson } from "./program.js";

/** Set by the bundler, so that a start reads no further file. */
declare const __PVBUS_VERSION__: string | undefined;

/** Runs `pvbus` in this process. */
export function main(): void {
  const argv = process.argv.slice(2);

  startProcess(
    "pvbus",
    () =>
      runPvbus(argv, {
        version:
          typeof __PVBUS_VERSION__ === "string"
            ? __PVBUS_VERSION__
            : (createRequire(import.meta.url)("pvbus/package.json") as { version: string }).version,
        stdout: descriptorSink(1),
        stderr: descriptorSink(2),
        env: processEnvironment(),
        readInput: () => readAll(0),
        open: openPvbus,
        builtIn: BUILT_IN,
        isElevated: isElevated(),
        hidesProviders: isHidden("PVBUS_PROVIDERS"),
        untilInterrupted,
      }),
    wantsJson(argv),
  );
}
