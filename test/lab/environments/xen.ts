import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { debianPackage, debianTree } from "../../support/debian-packages.js";
import { XEN_PACKAGES } from "../../support/xen/packages.js";
import { APP } from "../app.js";
import type { Environment } from "../environment.js";
import { addProgram, machineImage } from "../image.js";
import { runMachine } from "../machine.js";
import { CACHE } from "../tools.js";

const TOOLS = "usr/lib/xen-4.17/bin";
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
const GUEST_SECONDS = 120;

const GUEST = `name = "lab"
type = "pv"
kernel = "/lab/vmlinuz"
ramdisk = "/lab/guest.cpio.gz"
extra = "console=hvc0 quiet loglevel=2 nokaslr mitigations=off panic=-1"
memory = 512
vcpus = 1
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
`;

const SUITES = `${APP}/node_modules/pvbus/dist/test/lab/guest`;

/** What dom0 does: the daemons, its own tests, the guest with its tests. */
const DOM0 = `export PATH=/${TOOLS}:$PATH
mkdir -p /var/lib/xen /var/lib/xenstored /var/log/xen/console /run/xenstored /run/xen /run/lock
ln -sfn /run /var/run; ln -sfn /run/lock /var/lock
mount -t xenfs xenfs /proc/xen
xenstored --pid-file /run/xenstored.pid || exit 1
xen-init-dom0 || exit 1
xenconsoled --log=all --log-dir=/var/log/xen/console || exit 1
cd ${SUITES}
node main.js xen-dom0.suite.js || exit 1
xl create /lab/guest.cfg || exit 1
log=/var/log/xen/console/guest-lab.log
for second in $(seq ${GUEST_SECONDS}); do
  sleep 1
  xl domid lab >/dev/null 2>&1 || break
done
cat $log
grep -q '"event":"exit","code":0' $log
`;

/** Debian's Xen under QEMU: dom0 with the C xenstored, and a paravirtualised guest that uses /dev/xen/xenbus. */
export const xen: Environment = {
  name: "xen",
  title: "Xen: dom0 and a PV guest",
  real: "hypervisor 4.17, kernels, xenstored (C), /dev/xen/xenbus",
  inCi: true,
  run: async ({ kernel, app }) => {
    const hypervisor = debianPackage("xen-hypervisor-4.17-amd64").directory;
    const { directory } = debianTree("xen", XEN_PACKAGES);
    const libraries = join(directory, LIBRARIES);
    const guest = machineImage(kernel, app, {
      modules: [],
      commands: `mkdir -p /proc/xen; cd ${SUITES} && node main.js xen-guest.suite.js\n`,
    });
    const dom0 = machineImage(
      kernel,
      app,
      { modules: ["xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd"], commands: DOM0 },
      (archive) => {
        for (const name of ["xenstored", "xenconsoled", "xen-init-dom0", "xl"])
          addProgram(archive, join(directory, TOOLS, name), `/${TOOLS}/${name}`, libraries);
        archive.copy(join(directory, "etc/xen"), "/etc/xen");
        archive.copy(kernel.image, "/lab/vmlinuz");
        archive.file("/lab/guest.cpio.gz", gzipSync(guest, { level: 1 }));
        archive.file("/lab/guest.cfg", GUEST);
      },
    );
    const [image, core] = [join(CACHE, "xen.cpio"), join(CACHE, "xen-hypervisor")];
    writeFileSync(image, dom0);
    writeFileSync(core, gunzipSync(readFileSync(join(hypervisor, "boot/xen-4.17-amd64.gz"))));
    return runMachine({
      name: "xen",
      args: [
        // Xen and this emulation lose vector registers between them: programs crash at random with AVX.
        ...["-cpu", "max,-smap,-smep,-rdtscp,-xsave,-avx,-avx2", "-m", "3072", "-kernel", core, "-initrd"],
        `${kernel.image} console=hvc0 quiet loglevel=2 nokaslr mitigations=off,${image}`,
        "-append",
        "console=com1 com1=115200,8n1 dom0_mem=1536M,max:1536M dom0_max_vcpus=1 noreboot loglvl=warning",
      ],
      limitSeconds: 400,
    });
  },
};
