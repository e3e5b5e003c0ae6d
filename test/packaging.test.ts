import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { pending } from "./support/pending.js";
import { ROOT } from "./support/pools.js";
import { start } from "./support/processes.js";

const file = (name: string): string => join(ROOT, "packaging", name);

describe("packaging", () => {
  for (const unit of ["pvbus-kvpd.service", "pvbus-host.service"]) {
    it(`systemd takes ${unit} as it is`, function () {
      const args = ["verify", "--man=no", file(`systemd/${unit}`)];
      const { status, stderr, error } = spawnSync("systemd-analyze", args, { encoding: "utf8" });
      if (error !== undefined) {
        return pending(this, "systemd-analyze is missing; apt-get install systemd");
      }
      expect([stderr, status]).to.deep.equal(["", 0]);
    });
  }

  it("the udev rule starts that unit and no other", () => {
    const rule = readFileSync(file("systemd/61-pvbus-kvpd.rules"), "utf8");
    expect(rule).to.match(
      /^KERNEL=="vmbus\/hv_kvp", TAG\+="systemd", ENV\{SYSTEMD_WANTS\}="pvbus-kvpd.service"$/m,
    );
  });

  it("FreeBSD's rc script is one to a shell, and hands the flags to the daemon, not to daemon(8)", async () => {
    const script = readFileSync(file("freebsd/pvbus_kvpd"), "utf8");
    const settings =
      'run_rc_command() { echo "$command_args|$pvbus_kvpd_flags|$required_files"; }; load_rc_config() { pvbus_kvpd_flags="--private-pools"; }';
    const { stdout, code, stderr } = await start("sh", [
      "-euc",
      script.replace(". /etc/rc.subr", settings),
      "pvbus_kvpd",
      "start",
    ]).done;
    expect([stderr, code]).to.deep.equal(["", 0]);
    expect(stdout).to.match(/ \/usr\/local\/bin\/pvbus kvpd -n --private-pools\|\|\/dev\/hv_kvp_dev\n$/);
  });

  it("both run commands that pvbus knows", async () => {
    for (const name of ["systemd/pvbus-kvpd.service", "freebsd/pvbus_kvpd"])
      expect(readFileSync(file(name), "utf8")).to.contain("kvpd -n");
    const { code, stdout } = await start(process.execPath, [
      join(ROOT, "dist/bin/pvbus.cjs"),
      "kvpd",
      "--help",
    ]).done;
    expect([code, stdout.includes("-n, --no-daemon")]).to.deep.equal([0, true]);
  });
});
