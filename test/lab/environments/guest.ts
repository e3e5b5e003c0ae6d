import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianTree } from "../../support/debian-packages.js";
import { APP } from "../app.js";
import type { Environment } from "../environment.js";
import { addProgram, machineImage } from "../image.js";
import { type LabTest, runMachine } from "../machine.js";
import { CACHE } from "../tools.js";

/** Longest time that the host's side may take for one command. */
const HOST_MS = 20_000;

/** A guest of QEMU with static values and a live channel; our host side runs outside, from the same package. */
export const guest: Environment = {
  name: "guest",
  title: "QEMU guest: fw_cfg, SMBIOS, virtio-serial, vsock",
  real: "kernel, QEMU's devices, vsock loopback, pvbus on both sides",
  inCi: true,
  run: async ({ kernel, app }) => {
    const place = mkdtempSync(join(tmpdir(), "pvbus-lab-"));
    const program = join(app, "node_modules/pvbus/dist/bin/pvbus.cjs");
    const socket = join(place, "port.sock");
    const state = ["--state", join(place, "state")];
    const host = (...args: readonly string[]): string => {
      const command = [program, "host", ...args, ...state, "--guest", "lab"];
      const { status, stdout, stderr } = spawnSync(process.execPath, command, {
        encoding: "utf8",
        timeout: HOST_MS,
      });
      return status === 0 ? stdout.replace(/\n$/, "") : `exit ${status}: ${stderr.trim()}`;
    };
    const image = join(CACHE, "guest.cpio");
    const config = join(place, "user-data");
    writeFileSync(config, "#cloud-config\nhostname: lab\n");
    writeFileSync(
      image,
      machineImage(
        kernel,
        app,
        {
          modules: ["qemu_fw_cfg", "virtio_pci", "virtio_console", "vsock_loopback"],
          commands: `cd ${APP}/node_modules/pvbus/dist/test/lab/guest && node main.js kvm.suite.js boot.suite.js vmware.suite.js ../../native/vsock.test.js\n`,
        },
        (archive) => {
          const { directory } = debianTree("socat", ["socat", "libwrap0"]);
          const libraries = join(directory, "usr/lib/x86_64-linux-gnu");
          addProgram(archive, join(directory, "usr/bin/socat"), "/usr/bin/socat", libraries);
        },
      ),
    );
    host("set", "role", "web");
    const server = spawn(
      process.execPath,
      [program, "host", "serve", ...state, "--guest", `lab=connect:${socket}`],
      {
        stdio: "ignore",
      },
    );
    const outside: LabTest[] = [];
    try {
      const outcome = await runMachine({
        name: "guest",
        limitSeconds: 300,
        args: [
          ...["-cpu", "max", "-m", "1024", "-kernel", kernel.image, "-initrd", image],
          ...["-append", "console=ttyS0 quiet loglevel=2 panic=-1 systemd.set_credential=line:cmdline"],
          ...["-fw_cfg", "name=opt/org.pvbus/site,string=lab one"],
          ...["-fw_cfg", `name=opt/org.pvbus/user-data,file=${config}`],
          ...["-fw_cfg", 'name=opt/com.coreos/config,string={"ignition":{}}'],
          ...["-fw_cfg", "name=opt/io.systemd.credentials/alpha,string=from fw_cfg"],
          ...[
            "-smbios",
            "type=11,value=org.pvbus:rack=7,,b,value=io.systemd.credential:alpha=smbios,value=io.systemd.credential:gamma=a=b,value=io.systemd.credential.binary:delta=AP8BAg==",
          ],
          ...["-smbios", "type=1,manufacturer=pvbus lab,product=virtual,serial=ds=nocloud;i=lab-7;h=lab"],
          ...["-device", "virtio-serial-pci", "-chardev", `socket,id=meta,path=${socket},server=on,wait=off`],
          ...["-device", "virtserialport,chardev=meta,name=org.pvbus.mdata.0"],
        ],
        // What the guest has written is looked at from outside, and what it waits for is set.
        onSaid: ({ event, key, value }) => {
          if (event === "written") {
            const seen = host("get", String(key));
            const title = `outside: pvbus host get ${key} gives what the guest wrote`;
            outside.push(
              seen === value
                ? { event: "pass", title }
                : {
                    event: "fail",
                    title,
                    why: `${JSON.stringify(seen)} instead of ${JSON.stringify(value)}`,
                  },
            );
          } else if (event === "waiting") host("set", String(key), String(value));
        },
      });
      return { ...outcome, tests: [...outcome.tests, ...outside] };
    } finally {
      server.kill();
      rmSync(place, { recursive: true, force: true });
    }
  },
};
