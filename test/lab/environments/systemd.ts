import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { debianTree } from "../../support/debian-packages.js";
import { Disk } from "../disk.js";
import type { Environment, Lab } from "../environment.js";
import { addProgram, bootImage, busybox, END } from "../image.js";
import { runMachine } from "../machine.js";
import { CACHE, run } from "../tools.js";

const PACKAGES = ["systemd", "libsystemd-shared", "udev"];
const LIBRARIES = "usr/lib/x86_64-linux-gnu/systemd";
/** Where `npm install -g` puts packages. */
const MODULES = "/usr/lib/node_modules";
const UNITS = "/etc/systemd/system";

/** What the suite needs beside systemd's own early services, which take minutes under emulation when all of them run. */
const LEFT_OUT = [
  "systemd-hwdb-update",
  "systemd-udev-trigger",
  "systemd-logind",
  "systemd-network-generator",
];

const TARGET = `[Unit]
Requires=basic.target lab.service
After=basic.target
AllowIsolate=yes
`;
const SERVICE = `[Unit]
After=basic.target
[Service]
Type=oneshot
WorkingDirectory=${MODULES}/pvbus/dist/test/lab/guest
ExecStart=/usr/bin/node main.js systemd.suite.js
ExecStopPost=/bin/sh /lab/end
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
`;
const FINISH = `code=$EXIT_STATUS
[ "$EXIT_CODE" = exited ] || code=99
${END}`;

/** A device of CUSE stands elsewhere in sysfs than the driver's, for whose place the unit waits. */
const ALIAS = `SUBSYSTEM=="cuse", KERNEL=="vmbus/hv_kvp", ENV{SYSTEMD_ALIAS}="/sys/devices/virtual/misc/vmbus!hv_kvp"
`;
/** Watchdogs that the suite can wait for; and the place of a guest that the unit's comments name. */
const DROP_INS = {
  "pvbus-host.service.d/50-lab.conf": "[Service]\nWatchdogSec=8\nReadWritePaths=/srv/jail\n",
  "pvbus-kvpd.service.d/50-lab.conf": "[Service]\nWatchdogSec=8\n",
};

/** The shape of the distributions' scripts: files first, then a word to the network's manager on the system's bus. */
const SET_IFCONFIG = `#!/bin/sh
umask 0177
cp "$2" /etc/NetworkManager/system-connections/ || exit 1
exec node -e 'require("net").connect("/run/dbus/system_bus_socket").on("connect", () => process.exit(0))'
`;
const GET_DHCP_INFO = '#!/bin/sh\nip address show "$1" | grep -q dynamic && echo Enabled || echo Disabled\n';
const GET_DNS_INFO = "cat /etc/resolv.conf 2>/dev/null | awk '/^nameserver/ { print $2 }'\n";

/** The packaged units below systemd, as the package's user installs them. */
export const systemd: Environment = {
  name: "systemd",
  title: "systemd: pvbus-host.service and pvbus-kvpd.service",
  real: "kernel, systemd and udev, the packaged units and rule",
  inCi: true,
  run: async (lab) => {
    mkdirSync(CACHE, { recursive: true });
    const [image, disk] = [join(CACHE, "systemd.cpio"), join(CACHE, "systemd.ext4")];
    const modules = [
      "qemu_fw_cfg",
      "virtio_pci",
      "virtio_blk",
      "virtio_net",
      "crc32c_generic",
      "ext4",
      "cuse",
      "autofs4",
    ];
    await writeFile(image, bootImage(lab.kernel, modules));
    writeDisk(lab, disk);
    return runMachine({
      name: "systemd",
      args: [
        ...CREDENTIALS.flatMap(([name, value]) => [
          "-fw_cfg",
          `name=opt/io.systemd.credentials/${name},file=${writeCredential(value)}`,
        ]),
        ...["-fw_cfg", "name=opt/org.pvbus/user-data,string=#cloud-config"],
        ...[
          "-smbios",
          "type=11,value=io.systemd.credential:alpha=smbios,value=io.systemd.credential:gamma=a=b=c,value=io.systemd.credential.binary:delta=AP8BAg==,value=io.systemd.credential:empty=,value=io.systemd.credential.binary:bad=!!!",
        ],
        ...["-cpu", "max", "-m", "1024", "-kernel", lab.kernel.image, "-initrd", image],
        ...["-drive", `file=${disk},format=raw,if=virtio,snapshot=on`],
        ...["-device", "virtio-net-pci"],
        ...[
          "-append",
          "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off net.ifnames=0 systemd.show_status=no systemd.set_credential=line:cmdline systemd.set_credential=alpha:line",
        ],
      ],
      limitSeconds: 400,
    });
  },
};

/** Credentials that the machine gets over fw_cfg. */
const CREDENTIALS: readonly (readonly [name: string, value: Buffer])[] = [
  ["alpha", Buffer.from("from fw_cfg")],
  ["bytes", Buffer.from([0, 0xff, 0x0a, 0, 0x0d])],
];

function writeCredential(value: Buffer): string {
  const path = join(CACHE, `credential-${value.toString("hex")}`);
  writeFileSync(path, value);
  return path;
}

function writeDisk({ app }: Lab, path: string): void {
  const { directory } = debianTree("systemd", PACKAGES);
  const tree = new Disk();
  try {
    for (const part of ["etc", "lib", "usr/lib"]) tree.copy(join(directory, part), part);
    const programs = readdirSync(join(directory, "bin")).filter((name) => name !== "systemd");
    for (const name of programs) tree.copy(join(directory, "bin", name), `usr/bin/${name}`);
    // Their libraries are those of them all.
    for (const name of ["lib/systemd/systemd", "bin/systemctl", "bin/udevadm", "bin/systemd-creds"])
      addProgram(tree, join(directory, name), name, join(directory, LIBRARIES));
    tree.link("sbin/init", "../lib/systemd/systemd");
    tree.copy(busybox(), "usr/bin/busybox");
    for (const name of run(busybox(), ["--list"]).trim().split("\n")) tree.link(`usr/bin/${name}`, "busybox");
    for (const name of ["dev", "proc", "sys", "run", "tmp", "root", "srv", "mnt", "var/log", "etc/network"])
      tree.directory(name);

    tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nhypervisor:x:1008:1008::/:/bin/false\n");
    tree.file("etc/group", "root:x:0:\nhypervisor:x:1008:\ntty:x:5:\nsystemd-journal:x:101:\n");
    tree.file("etc/hosts", "127.0.0.1 localhost\n").file("etc/resolv.conf", "nameserver 192.0.2.53\n");
    tree.file("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    tree.file("etc/os-release", 'ID=lab\nNAME="pvbus lab"\nVERSION_ID=1\n');

    addProgram(tree, process.execPath, "/usr/bin/node");
    tree.copy(join(app, "node_modules"), MODULES);
    tree.link("usr/bin/pvbus", `../lib/node_modules/pvbus/dist/bin/pvbus.cjs`);
    const packaged = join(app, "node_modules/pvbus/packaging/systemd");
    for (const name of readdirSync(packaged))
      tree.copy(
        join(packaged, name),
        name.endsWith(".rules") ? `etc/udev/rules.d/${name}` : `${UNITS}/${name}`,
      );
    for (const [name, text] of Object.entries(DROP_INS)) tree.file(`${UNITS}/${name}`, text);
    tree.file("etc/udev/rules.d/60-lab.rules", ALIAS);

    const scripts = "usr/libexec/hypervkvpd";
    tree.file(`${scripts}/hv_set_ifconfig`, SET_IFCONFIG, 0o755);
    tree.file(`${scripts}/hv_get_dhcp_info`, GET_DHCP_INFO, 0o755);
    tree.file(`${scripts}/hv_get_dns_info`, GET_DNS_INFO, 0o755);
    tree.directory("etc/NetworkManager/system-connections");

    tree
      .file(`${UNITS}/lab.target`, TARGET)
      .file(`${UNITS}/lab.service`, SERVICE)
      .file("lab/end", FINISH, 0o755);
    tree.link(`${UNITS}/default.target`, "lab.target");
    for (const name of LEFT_OUT) tree.link(`${UNITS}/${name}.service`, "/dev/null");
    tree.write(path, 1024);
  } finally {
    tree.discard();
  }
}
