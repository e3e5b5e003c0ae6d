#!/usr/bin/env node
import { openPvbus } from "../open.js";
import { BusDevices } from "./hostctl/devices.js";
import { runHostctl } from "./hostctl/run.js";
import { descriptorSink, readAll, startProcess } from "./process.js";

startProcess("hostctl", (signal) => {
  const bus = openPvbus({ signal });
  return runHostctl(process.argv.slice(2), {
    stdout: descriptorSink(1),
    stderr: descriptorSink(2),
    readInput: () => readAll(0),
    devices: { open: async (name) => new BusDevices(await bus).open(name) },
  }).finally(async () => (await bus).close());
});
