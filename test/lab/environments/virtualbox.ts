import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianPackage } from "../../support/debian-packages.js";
import { APP } from "../app.js";
import type { Environment } from "../environment.js";
import { addProgram, machineImage } from "../image.js";
import { runMachine } from "../machine.js";
import { CACHE } from "../tools.js";

/** Where Debian keeps Ignition's program, in the part for the first file system. */
const IGNITION = "usr/lib/dracut/modules.d/30ignition/ignition";

/** VirtualBox's driver as a character device: the host behind it is the simulator, what uses it is not. */
export const virtualbox: Environment = {
  name: "virtualbox",
  title: "VirtualBox's guest properties (CUSE)",
  real: "kernel, character device, Debian's Ignition",
  inCi: true,
  run: async ({ kernel, app }) => {
    const ignition = debianPackage("ignition").directory;
    const job = {
      modules: ["cuse"],
      commands: `cd ${APP}/node_modules/pvbus/dist/test/lab/guest && node main.js virtualbox.suite.js\n`,
    };
    const image = machineImage(kernel, app, job, (archive) => {
      addProgram(archive, join(ignition, IGNITION), "/usr/bin/ignition");
    });
    const path = join(CACHE, "virtualbox.cpio");
    writeFileSync(path, image);
    const args = ["-cpu", "max", "-m", "1024", "-kernel", kernel.image, "-initrd", path];
    const append = "console=ttyS0 quiet loglevel=2 panic=-1";
    return runMachine({ name: "virtualbox", args: [...args, "-append", append], limitSeconds: 480 });
  },
};
