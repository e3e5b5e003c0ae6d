import { existsSync } from "node:fs";
import { join } from "node:path";
import { debianPackage } from "../support/debian-packages.js";
import { APP } from "./app.js";
import { CpioArchive } from "./cpio.js";
import type { FileTree } from "./file-tree.js";
import { MARK } from "./guest/say.js";
import type { GuestKernel } from "./kernel.js";
import { modulesInOrder } from "./modules.js";
import { run } from "./tools.js";

/** What a machine runs, and with which modules. */
export interface Job {
  /** Modules to load, by name. */
  readonly modules: readonly string[];
  /** Shell commands; their exit code is the machine's. */
  readonly commands: string;
}

/** Shell commands that end a machine with `$code`: port 0x501 is QEMU's way out. */
export const END = `echo '${MARK}{"event":"exit","code":'$code'}'
printf "\\\\$(printf %o $code)" | dd of=/dev/port bs=1 seek=1281 conv=notrunc 2>/dev/null
`;

const LOAD = `for each in $(cat /lab/modules); do insmod /lab/ko/$each || echo "module $each was refused"; done
`;

/** The first process of a machine: busybox's shell. */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /run /tmp /var/lib /var/log
mount -t devpts devpts /dev/pts
for each in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $each; done
ip link set lo up
${LOAD}sh /lab/run
code=$?
${END}poweroff -f
`;

/** The first process of a machine whose files lie on a disk: it gives way to that one's. */
const BOOT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
${LOAD}mkdir /disk
mount -t ext4 /dev/vda /disk || echo "the disk was refused"
for each in proc sys dev; do mount --move /$each /disk/$each; done
exec switch_root /disk /sbin/init
`;

/** Adds an environment's tools to its machine. */
export type AddTools = (archive: CpioArchive) => void;

/** Makes the first file system of a machine whose own is on a disk. */
export function bootImage(kernel: GuestKernel, modules: readonly string[]): Buffer {
  const archive = new CpioArchive();
  for (const path of ["dev", "proc", "sys", "sbin"]) archive.directory(path);
  addBase(archive, kernel, modules, BOOT);
  return archive.end();
}

/** Makes the first file system of a machine. */
export function machineImage(
  kernel: GuestKernel,
  app: string,
  job: Job,
  addTools: AddTools = () => undefined,
): Buffer {
  const archive = new CpioArchive();
  for (const path of [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "sbin",
    "usr/sbin",
    "usr/bin",
    "etc",
    "var/lib",
  ])
    archive.directory(path);
  archive.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n").file("etc/hosts", "127.0.0.1 localhost\n");
  addBase(archive, kernel, job.modules, INIT);
  archive.file("lab/run", job.commands, 0o755);
  addProgram(archive, process.execPath, "/usr/bin/node");
  archive.copy(join(app, "node_modules"), `${APP}/node_modules`);
  archive.file(`${APP}/package.json`, '{ "private": true, "type": "module" }\n');
  addTools(archive);
  return archive.end();
}

/** The path of busybox, linked with no library. */
export function busybox(): string {
  return join(debianPackage("busybox-static").directory, "bin/busybox");
}

function addBase(archive: CpioArchive, kernel: GuestKernel, names: readonly string[], init: string): void {
  archive.copy(busybox(), "bin/busybox").file("init", init, 0o755);
  const modules = modulesInOrder(kernel, names);
  archive.file("lab/modules", modules.map(({ file }) => `${file}\n`).join(""));
  for (const { path, file } of modules) archive.copy(path, `lab/ko/${file}`);
}

/**
 * Adds a program and the libraries that ldd(1) names.
 * @param libraries directory with libraries that are not installed here
 */
export function addProgram(archive: FileTree, from: string, to: string, libraries?: string): void {
  archive.copy(from, to, true);
  const listed = run("env", [...(libraries ? [`LD_LIBRARY_PATH=${libraries}`] : []), "ldd", from]);
  const missing = /^\s*(\S+) => not found$/m.exec(listed)?.[1];
  if (missing !== undefined) throw new Error(`${from} needs ${missing}, which no package of the lab has`);
  for (const [, path] of listed.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm))
    if (path !== undefined && existsSync(path)) archive.copy(path, libraryPlace(path, libraries), true);
}

/** Libraries of unpacked packages go where the system looks for them. */
function libraryPlace(path: string, libraries: string | undefined): string {
  if (libraries === undefined || !path.startsWith(libraries)) return path;
  return join("/usr/lib/x86_64-linux-gnu", path.slice(libraries.length));
}
