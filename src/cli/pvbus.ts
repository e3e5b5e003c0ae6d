#!/usr/bin/env node
import { openPvbus } from "../open.js";
import { descriptorSink, readAll, startProcess, untilInterrupted } from "./process.js";
import { runPvbus } from "./program.js";
import { VERSION } from "./version.js";

startProcess("pvbus", () =>
  runPvbus(process.argv.slice(2), {
    version: VERSION,
    stdout: descriptorSink(1),
    stderr: descriptorSink(2),
    env: process.env,
    readInput: () => readAll(0),
    open: openPvbus,
    untilInterrupted,
  }),
);
