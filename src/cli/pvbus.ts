#!/usr/bin/env node
import { isElevated, isHidden, processEnvironment } from "../base/host/environment.js";
import { BUILT_IN, openPvbus } from "../composition.js";
import { descriptorSink, readAll, startProcess, untilInterrupted } from "./io/process.js";
import { VERSION } from "./io/version.js";
import { runPvbus, wantsJson } from "./program.js";

const argv = process.argv.slice(2);

startProcess(
  "pvbus",
  () =>
    runPvbus(argv, {
      version: VERSION,
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
