import type { Bus } from "../bus/bus.js";
import { openPvbus } from "../composition.js";
import { openBusDevice, openOpenbsdDevice } from "./hostctl/devices.js";
import { runHostctl } from "./hostctl/run.js";
import { descriptorSink, readAll, startProcess } from "./io/process.js";

/** Runs `hostctl` in this process. */
export function main(): void {
  startProcess("hostctl", async () => {
    let bus: Bus | undefined;
    try {
      return await runHostctl(process.argv.slice(2), {
        stdout: descriptorSink(1),
        stderr: descriptorSink(2),
        readInput: () => readAll(0),
        devices: {
          open: async (name, mode) => {
            if (process.platform === "openbsd") return openOpenbsdDevice(name, mode);
            bus ??= await openPvbus();
            return openBusDevice(bus, name);
          },
        },
      });
    } finally {
      await bus?.close();
    }
  });
}
