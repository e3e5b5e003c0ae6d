import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianPackage } from "../../support/debian-packages.js";
import { APP } from "../app.js";
import type { Environment } from "../environment.js";
import { addProgram, machineImage } from "../image.js";
import { runMachine } from "../machine.js";
import { CACHE } from "../tools.js";

/** Character devices made with CUSE: what needs a real device file rather than Hyper-V. */
export const devices: Environment = {
  name: "devices",
  title: "KVP and pvbus character devices (CUSE)",
  real: "kernel, character devices, hv_kvp_daemon",
  inCi: true,
  run: async ({ kernel, app }) => {
    const daemons = debianPackage("hyperv-daemons").directory;
    const job = {
      modules: ["cuse"],
      commands: `cd ${APP}/node_modules/pvbus/dist/test/lab/guest && node main.js devices.suite.js\n`,
    };
    const image = machineImage(kernel, app, job, (archive) => {
      addProgram(archive, join(daemons, "usr/sbin/hv_kvp_daemon"), "/usr/sbin/hv_kvp_daemon");
      archive.copy(join(daemons, "usr/libexec/hypervkvpd"), "/usr/libexec/hypervkvpd");
    });
    const path = join(CACHE, "devices.cpio");
    writeFileSync(path, image);
    const args = ["-cpu", "max", "-m", "1024", "-kernel", kernel.image, "-initrd", path];
    const append = "console=ttyS0 quiet loglevel=2 panic=-1";
    return runMachine({ name: "devices", args: [...args, "-append", append], limitSeconds: 240 });
  },
};
