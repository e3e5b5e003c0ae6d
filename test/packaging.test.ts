import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { expect } from "chai";
import { serviceDropIns } from "./support/drop-ins.js";
import { pending } from "./support/pending.js";
import { ROOT } from "./support/pools.js";
import { findPython, start } from "./support/processes.js";

const file = (name: string): string => join(ROOT, "packaging", name);

/** What MemoryDenyWriteExecute= does, by prctl(2): PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN. */
const DENY = `import ctypes, os, sys
def deny():
    if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit("refused")
`;

describe("packaging", () => {
  let place: string;
  before(() => {
    place = mkdtempSync(join(tmpdir(), "pvbus-units-"));
  });
  after(() => rmSync(place, { recursive: true }));

  /** Asks systemd about a unit, with a drop-in behind it. */
  const analyse = (self: Mocha.Context, verb: readonly string[], unit: string, dropIn = "") => {
    // A template is looked at as one of its instances.
    const path = join(place, unit.replace("@.", "@com.example.my-agent."));
    writeFileSync(path, `${readFileSync(file(`systemd/${unit}`), "utf8")}\n${dropIn}`);
    const { status, stdout, stderr, error } = spawnSync("systemd-analyze", [...verb, path], {
      encoding: "utf8",
    });
    if (error !== undefined) pending(self, "systemd-analyze is missing; apt-get install systemd");
    return { status, stdout, stderr };
  };

  for (const [unit, dropIn, exposure] of [
    ["pvbus-host.service", undefined, 1.2],
    ["pvbus-host.service", "user", 0.4],
    ["pvbus-host.service", "jitless", 1.2],
    ["pvbus-kvpd.service", undefined, 1.3],
    ["pvbus-nocloud.service", undefined, 1.9],
    ["pvbus-sync@.service", undefined, 1.1],
  ] as const) {
    const title = dropIn === undefined ? unit : `${unit} with the drop-in "${dropIn}"`;
    const text = (): string =>
      dropIn === undefined ? "" : (serviceDropIns(ROOT)[dropIn] ?? "no such drop-in");

    it(`systemd takes ${title} as it is`, function () {
      const { status, stderr } = analyse(this, ["verify", "--man=no"], unit, text());
      expect([stderr, status]).to.deep.equal(["", 0]);
    });

    it(`systemd gives ${title} an exposure of ${exposure} or less`, function () {
      const { stdout, stderr } = analyse(this, ["security", "--offline=true", "--no-pager"], unit, text());
      const said = /^→ Overall exposure level for \S+: (\d+\.\d)/m.exec(stdout)?.[1];
      expect(said, stderr).to.be.a("string");
      const open = stdout.split("\n").filter((line) => line.startsWith("✗"));
      expect(Number(said), open.join("\n")).to.be.at.most(exposure);
    });
  }

  for (const unit of [
    "pvbus-host.service",
    "pvbus-kvpd.service",
    "pvbus-nocloud.service",
    "pvbus-sync@.service",
  ])
    it(`${unit} names no path for running that ProtectSystem=strict has to protect`, () => {
      const text = readFileSync(file(`systemd/${unit}`), "utf8");
      const of = (name: string): string[] =>
        [...text.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].flatMap(([, paths = ""]) => paths.split(" "));
      const own = [
        ...of("StateDirectory").map((name) => `/var/lib/${name}`),
        ...of("RuntimeDirectory").map((name) => `/run/${name}`),
      ];
      expect(of("NoExecPaths")).to.have.members([...own, "/tmp", "/var/tmp", "/dev/shm"]);
      expect(of("ExecPaths")).to.deep.equal([]);
    });

  it("documents the drop-ins that are tried here and in the lab", () => {
    expect(Object.keys(serviceDropIns(ROOT))).to.deep.equal(["user", "jitless"]);
  });

  it("the drop-in jitless serves where no memory becomes executable", async function () {
    const python = findPython(`${DENY}deny()`);
    if (python === undefined)
      return pending(this, "python3, or a kernel that denies executable memory (6.3)");
    const options = /^Environment=NODE_OPTIONS=(.*)$/m.exec(serviceDropIns(ROOT)["jitless"] ?? "")?.[1];
    const guest = ["--state", join(place, "state"), "--guest"];
    const pvbus = (...args: readonly string[]) =>
      start(
        python,
        ["-c", `${DENY}deny(); os.execv(sys.argv[1], sys.argv[1:])`, process.execPath].concat(
          join(ROOT, "dist/bin/pvbus.cjs"),
          "host",
          args,
        ),
        { ...process.env, NODE_OPTIONS: options },
      );
    const { child, done } = pvbus("serve", ...guest, `web=unix:${join(place, "web.sock")}`);
    try {
      const errors = child.stderr as Readable;
      await new Promise<void>((resolve, reject) => {
        errors.on("data", (text: string) => text.includes('"event":"serving"') && resolve());
        done.then(({ code, signal, stderr }) => reject(new Error(`${code ?? signal}: ${stderr}`)), reject);
      });
      expect((await pvbus("set", ...guest, "web", "key", "value").done).code).to.equal(0);
      expect((await pvbus("get", ...guest, "web", "key").done).stdout).to.equal("value\n");
    } finally {
      child.kill();
    }
    expect((await done).code).to.equal(0);
  });

  it("the udev rule starts that unit and no other, and gives nobody the device", () => {
    const lines = readFileSync(file("systemd/61-pvbus-kvpd.rules"), "utf8")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(lines).to.deep.equal([
      'KERNEL=="vmbus/hv_kvp", TAG+="systemd", ENV{SYSTEMD_WANTS}="pvbus-kvpd.service"',
    ]);
  });

  it("only the rc script is a program, and only its owner may write any", () => {
    const modes = readdirSync(file(""), { recursive: true, encoding: "utf8" })
      .map((name) => [name, statSync(file(name))] as const)
      .filter(([, stat]) => stat.isFile())
      .map(([name, { mode }]) => [name, mode & 0o133]);
    expect(Object.fromEntries(modes)).to.deep.equal({
      "freebsd/pvbus_kvpd": 0o111,
      "systemd/61-pvbus-kvpd.rules": 0,
      "systemd/pvbus-host.service": 0,
      "systemd/pvbus-kvpd.service": 0,
      "systemd/pvbus-nocloud.service": 0,
      "systemd/pvbus-sync@.service": 0,
    });
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
    expect(stdout).to.match(
      / \/usr\/bin\/env -i HOME=\/ PATH=\S*:\/usr\/local\/bin \/usr\/local\/bin\/pvbus kvpd -n --private-pools\|\|\/dev\/hv_kvp_dev\n$/,
    );
  });

  it("pvbus-sync@.service runs a command that pvbus takes, with names and without", async () => {
    const text = readFileSync(file("systemd/pvbus-sync@.service"), "utf8");
    const [, line = ""] = /^ExecStart=\/usr\/bin\/env pvbus (.*)$/m.exec(text) ?? [];
    for (const names of ["", "role level"]) {
      const words = line.replace("/run/pvbus-sync/", `${place}/`).replaceAll("%i", "com.example.my-agent");
      const args = words.replace("$NAMES", names).split(" ").filter(Boolean);
      const { stderr, code } = await start(process.execPath, [
        ...[join(ROOT, "dist/bin/pvbus.cjs"), ...args, "--once", "--sysroot", place, "-t", "Hyper-V"],
      ]).done;
      // There are no pools, and nothing was wrong about the line.
      expect([code, stderr], args.join(" ")).to.match(/^1,.*\[ERR_UNAVAILABLE\]\n$/);
    }
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
