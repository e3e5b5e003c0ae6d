/** Below systemd: the packaged units do what they are for, and nothing else. */
import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { config, expect } from "chai";
import { openPvbus, type PvInterface } from "pvbus";
import { openAdministration } from "pvbus/kvm-host";
import {
  decodeIpInfo,
  EMPTY_IP_INFO,
  encodeRequest,
  LINUX_KVP,
  replyStatus,
} from "../../../providers/hyperv/protocol/messages.js";
import { tryLockFile } from "../../../src/native/posix/file-lock.js";
import { serviceDropIns } from "../../support/drop-ins.js";
import { rejects } from "../../support/rejects.js";
import type { Attempts } from "./confinement.js";
import type { KvpEvent } from "./kvp-device.js";

const UNITS = "/etc/systemd/system";
const HOST = "pvbus-host.service";
const KVPD = "pvbus-kvpd.service";
const [JAILED, HYPERVISOR, STRANGER] = [1007, 1008, 1009];
const WEB = "/run/pvbus/guests/web.sock";
const JAIL = "/srv/jail/fc/v.sock_5252";
const ADAPTER = "{f8615163-df3e-46c5-913f-f2d2f965ed0e}";
const LIMIT_MS = 120_000;
/** Each look is a process, which costs more here than elsewhere. */
const POLL_MS = 200;

// The whole list of what was possible after all.
config.truncateThreshold = 0;

function run(command: string, args: readonly string[], uid = 0): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    uid,
    gid: uid,
    timeout: LIMIT_MS,
  });
  if (error !== undefined) return error.message;
  return status === 0 ? stdout.trim() : `exit ${status}: ${stderr.trim()}`;
}
const systemctl = (...args: readonly string[]): string => run("systemctl", args);
const show = (unit: string, property: string): string => systemctl("show", "--value", "-p", property, unit);

/** Does something as another user, as far as the system's permissions go. */
async function as<T>(uid: number, action: () => Promise<T>): Promise<T> {
  process.setegid?.(uid);
  process.seteuid?.(uid);
  try {
    return await action();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

/** What a program in the guest does, which reaches the host through a socket. A process for each would take its time here. */
const inGuest = <T>(uid: number, socket: string, action: (kvm: PvInterface) => Promise<T>): Promise<T> =>
  as(uid, async () => {
    await using bus = await openPvbus({
      interfaces: [{ type: "KVM", channel: `unix:${socket}` }],
      timeoutMs: LIMIT_MS,
    });
    return await action(bus.primary as PvInterface);
  });
const setOutside = async (guest: string, key: string, value: string): Promise<void> => {
  await using keys = await openAdministration("/var/lib/pvbus");
  await keys.set(guest, key, Buffer.from(value));
};
const getOutside = async (guest: string, key: string): Promise<string> => {
  await using keys = await openAdministration("/var/lib/pvbus");
  return Buffer.from((await keys.get(guest, key)) ?? "none").toString();
};

/** Waits for what systemd and the programs below it do, who tell nobody here. */
async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!holds()) {
    if (performance.now() > end)
      throw new Error(`waited in vain until ${what}\n${run("journalctl", ["-n", "30"])}`);
    await sleep(POLL_MS);
  }
}

/** Runs the attempts of confinement.ts in place of a unit's program. */
function confined(unit: string, state: string, add = ""): Attempts {
  const name = `attempts-${unit}`;
  const report = `/run/lab-${unit}.json`;
  const program = join(import.meta.dirname, "confinement.js");
  const text = readFileSync(join(UNITS, unit), "utf8")
    .replace(
      /^ExecStart=.*$/m,
      `ExecStart=/usr/bin/env node ${program} ${state}\nStandardOutput=truncate:${report}`,
    )
    .replace(/^Type=.*$/m, "Type=oneshot")
    .replace(/^(NotifyAccess|Restart|WatchdogSec|BindsTo|After|Before|Condition\w+|ExecReload)=.*\n/gm, "");
  writeFileSync(join("/run/systemd/system", name), `${text}\n[Service]\n${add}`);
  systemctl("daemon-reload");
  expect(systemctl("start", name), run("journalctl", ["-u", name])).to.equal("");
  return JSON.parse(readFileSync(report, "utf8")) as Attempts;
}

/** What no service of ours can do. */
const NEVER = {
  "write /etc": "EROFS",
  "write /usr/bin": "EROFS",
  "write /run": "EROFS",
  "write /srv": "EROFS",
  "write /mnt": "EROFS",
  "write /var/lib": "EROFS",
  "write state": "ok",
  "run what it wrote": "EACCES",
  remove: "ok",
  "run a script": "ok",
  "compile text": "EvalError",
  "become another user": "EPERM",
  mount: "exit 1",
  unshare: "exit 1",
  "see the kernel's files": "ENOENT",
} as const;

let bus: Server;
before((done) => {
  // File systems of their own, as many machines have them.
  for (const place of ["/srv", "/mnt"]) run("mount", ["-t", "tmpfs", "none", place]);
  mkdirSync("/run/dbus", { recursive: true });
  bus = createServer((socket) => socket.resume()).listen("/run/dbus/system_bus_socket", done);
});
after(() => bus.close());

describe("pvbus-host.service", () => {
  let hypervisor: ChildProcess;
  const configure = (more: object = {}): void => {
    const guests = {
      web: { endpoints: [`unix:${WEB}`], socketOwner: { uid: JAILED, gid: JAILED } },
      db: { endpoints: ["connect:/run/vm/db.sock"] },
      fc: { endpoints: ["vsock:/srv/jail/fc/v.sock:5252"], socketOwner: { uid: JAILED, gid: JAILED } },
      ...more,
    };
    writeFileSync("/etc/pvbus/host.json", JSON.stringify({ guests }));
  };
  const pid = (): string => show(HOST, "MainPID");

  before(async () => {
    for (const [path, uid] of [
      ["/run/vm", HYPERVISOR],
      ["/srv/jail/fc", JAILED],
    ] as const) {
      mkdirSync(path, { recursive: true });
      chmodSync(path, 0o700);
      chownSync(path, uid, uid);
    }
    mkdirSync("/etc/pvbus");
    hypervisor = fork(join(import.meta.dirname, "hypervisor.js"), ["/run/vm/db.sock", "/run/vm/guest.sock"], {
      uid: HYPERVISOR,
      gid: HYPERVISOR,
    });
    await once(hypervisor, "message");
  });
  after(() => hypervisor.kill());

  it("stays away without a configuration", () => {
    expect(systemctl("start", HOST)).to.equal("");
    expect(show(HOST, "ConditionResult")).to.equal("no");
  });

  it("is started when it serves", () => {
    configure();
    expect(systemctl("start", HOST)).to.equal("");
    expect([show(HOST, "ActiveState"), show(HOST, "StatusText")]).to.deep.equal([
      "active",
      "serving 3 guests",
    ]);
    for (const path of [WEB, JAIL]) {
      const { uid, mode } = statSync(path);
      expect([uid, mode & 0o777], path).to.deep.equal([JAILED, 0o600]);
    }
    expect(statSync("/var/lib/pvbus").mode & 0o777).to.equal(0o700);
  });

  it("serves a guest whose hypervisor runs as another user", () => {
    const set = ["host", "set", "--state", "/var/lib/pvbus", "--guest", "web", "role", "front"];
    expect(run("pvbus", set)).to.equal("");
    expect(run("pvbus", ["get", "-t", "KVM", "--channel", `unix:${WEB}`, "meta/role"], JAILED)).to.equal(
      "front",
    );
  });

  it("takes what that guest writes, and nothing from other users", async () => {
    await inGuest(JAILED, WEB, (kvm) => kvm.write("meta/status", "up"));
    expect(await getOutside("web", "status")).to.equal("up");
    await rejects(
      inGuest(STRANGER, WEB, (kvm) => kvm.read("meta/role")),
      "ERR_PERMISSION",
    );
  });

  it("serves in a jail that a drop-in names", async () => {
    await inGuest(JAILED, JAIL, (kvm) => kvm.write("meta/status", "jailed"));
    expect(await getOutside("fc", "status")).to.equal("jailed");
  });

  it("dials a hypervisor's socket in a directory of its user alone", async () => {
    await setOutside("db", "role", "back");
    const read = (kvm: PvInterface) => kvm.read("meta/role");
    expect(await inGuest(HYPERVISOR, "/run/vm/guest.sock", read)).to.equal("back");
  });

  it("reads its configuration again", async () => {
    const path = "/run/pvbus/guests/more.sock";
    const before = pid();
    configure({ more: { endpoints: [`unix:${path}`] } });
    expect(systemctl("reload", HOST)).to.equal("");
    await until("the guest that came is served", () => existsSync(path));
    await inGuest(0, path, (kvm) => kvm.write("meta/status", "new"));
    expect(pid()).to.equal(before);
  });

  it("feeds the watchdog, which ends it when it hangs; it comes back with what it kept", async () => {
    const fed = (): number => Number(show(HOST, "WatchdogTimestampMonotonic"));
    const [first, before] = [fed(), pid()];
    await until("the watchdog is fed", () => fed() > first);
    process.kill(Number(before), "SIGSTOP");
    await until(
      "systemd has started another",
      () => show(HOST, "NRestarts") === "1" && show(HOST, "ActiveState") === "active",
    );
    expect(pid()).not.to.equal(before);
    expect(run("journalctl", ["-u", HOST, "-o", "cat"])).to.contain("Watchdog timeout");
    expect(await inGuest(JAILED, WEB, (kvm) => kvm.read("meta/status"))).to.equal("up");
  });

  it("is stopped in order", () => {
    expect(systemctl("stop", HOST)).to.equal("");
    expect([show(HOST, "ActiveState"), show(HOST, "Result")]).to.deep.equal(["inactive", "success"]);
    expect(run("journalctl", ["-u", HOST, "-o", "cat", "-n", "20"])).to.contain('"event":"stopped"');
    expect(existsSync(WEB)).to.equal(false);
  });

  it("cannot do more", () => {
    const { devices, "systemd itself": manager, ...rest } = confined(HOST, "/var/lib/pvbus");
    expect(rest).to.deep.equal({
      ...NEVER,
      "write /root": "EROFS",
      "write /sys/kernel": "EROFS",
      "write /proc/sys/kernel": "ENOENT",
      chown: "ok",
      "the system's bus": "ENOENT",
      "the network": "EAFNOSUPPORT",
    });
    expect(manager).to.equal("ECONNREFUSED");
    expect(devices).not.to.match(/\b(vda|port|mem|kmsg|fuse|cuse|ttyS0)\b/);
  });

  // The other drop-in is a matter of minutes here: emulation of an interpreter.
  it("serves as a hypervisor's user without capabilities, with the documentation's drop-in", async () => {
    const { user = "" } = serviceDropIns(join(import.meta.dirname, "../../../.."));
    mkdirSync(join(UNITS, `${HOST}.d`), { recursive: true });
    writeFileSync(join(UNITS, `${HOST}.d/90-user.conf`), user.replace(/^User=.*$/m, "User=hypervisor"));
    writeFileSync(
      "/etc/pvbus/host.json",
      JSON.stringify({ guests: { web: { endpoints: [`unix:${WEB}`] } } }),
    );
    systemctl("daemon-reload");
    expect(systemctl("start", HOST), run("journalctl", ["-u", HOST, "-n", "20"])).to.equal("");
    expect(readFileSync(`/proc/${pid()}/status`, "utf8"))
      .to.match(new RegExp(`^Uid:\\t${HYPERVISOR}\\t`, "m"))
      .and.match(/^CapEff:\t0+$/m);
    await rejects(setOutside("web", "name", "root"), "ERR_PERMISSION");
    process.seteuid?.(HYPERVISOR);
    try {
      await setOutside("web", "name", "user");
    } finally {
      process.seteuid?.(0);
    }
    expect(await inGuest(HYPERVISOR, WEB, (kvm) => kvm.read("meta/name"))).to.equal("user");
    expect(systemctl("stop", HOST)).to.equal("");
    expect(show(HOST, "Result")).to.equal("success");
  });
});

describe("pvbus-kvpd.service", () => {
  let device: ChildProcess;
  const next = (event: KvpEvent["event"]): Promise<KvpEvent> =>
    new Promise((resolve) => {
      const listen = (got: KvpEvent): void => {
        if (got.event !== event) return;
        device.off("message", listen);
        resolve(got);
      };
      device.on("message", listen);
    });
  const ask = async (request: Parameters<typeof encodeRequest>[0]): Promise<Buffer> => {
    const reply = next("reply");
    device.send({ message: encodeRequest(request, LINUX_KVP).toString("base64") });
    return Buffer.from(((await reply) as { reply: string }).reply, "base64");
  };
  const set = async (key: string, value: string): Promise<number> =>
    replyStatus(await ask({ operation: "set", pool: 0, key: Buffer.from(key), value: Buffer.from(value) }));
  const readRole = async (): Promise<string | undefined> => {
    await using bus = await openPvbus({ interfaces: [{ type: "Hyper-V" }], timeoutMs: LIMIT_MS });
    return await bus.primary?.read("External/role");
  };
  /** Has the driver come, and waits for the daemon that udev and systemd start for it. */
  const plug = async (): Promise<void> => {
    device = fork(join(import.meta.dirname, "kvp-device.js"));
    let registered = false;
    void next("registered").then(() => {
      registered = true;
    });
    await until("the daemon has registered", () => registered && show(KVPD, "ActiveState") === "active");
  };
  const unplug = async (): Promise<void> => {
    device.kill("SIGKILL");
    await once(device, "exit");
  };

  before(() => {
    run("ip", ["link", "set", "eth0", "up"]);
    run("ip", ["address", "add", "192.0.2.7/24", "dev", "eth0"]);
    // What VMBus adapters have: the GUID by which the host names them.
    mkdirSync("/run/net/eth0/device", { recursive: true });
    // Copying by size would wait for the 4,096 bytes that sysfs speaks of.
    writeFileSync("/run/net/eth0/address", readFileSync("/sys/class/net/eth0/address"));
    writeFileSync("/run/net/eth0/device/device_id", `${ADAPTER}\n`);
    run("mount", ["--bind", "/run/net", "/sys/class/net"]);
  });
  after(() => void device.kill("SIGKILL"));

  it("is started by the device", async () => {
    expect(show(KVPD, "ActiveState")).to.equal("inactive");
    await plug();
    expect(show(KVPD, "StatusText")).to.equal("serving the host");
  });

  it("takes what the host sets, for every user to read", async () => {
    expect(await set("role", "db")).to.equal(0);
    expect(statSync("/var/lib/hyperv/.kvp_pool_0").mode & 0o777).to.equal(0o644);
    expect(await as(STRANGER, readRole)).to.equal("db");
  });

  it("answers GET_IP_INFO with this machine's addresses, and its scripts' word", async () => {
    const adapterId = readFileSync("/sys/class/net/eth0/address", "utf8").trim().toUpperCase();
    const reply = await ask({ operation: "getIpInfo", info: { ...EMPTY_IP_INFO, adapterId } });
    expect(replyStatus(reply)).to.equal(0);
    expect(decodeIpInfo(reply)).to.include({ dnsServers: "192.0.2.53;", dhcpEnabled: 0 });
    expect(decodeIpInfo(reply).ipAddresses).to.contain("192.0.2.7");
  });

  it("runs hv_set_ifconfig, which writes for NetworkManager and reaches the system's bus", async () => {
    const reached = once(bus, "connection");
    const info = {
      ...EMPTY_IP_INFO,
      adapterId: ADAPTER,
      addressFamily: 1,
      ipAddresses: "192.0.2.8",
      subnets: "255.255.255.0",
    };
    expect(replyStatus(await ask({ operation: "setIpInfo", info }))).to.equal(0);
    await reached;
    const path = "/etc/NetworkManager/system-connections/eth0.nmconnection";
    expect(readFileSync(path, "utf8")).to.contain("address1=192.0.2.8/24");
    expect(statSync(path).mode & 0o777).to.equal(0o600);
  });

  it("has its helper wait where another program holds a pool's lock", async () => {
    const file = openSync("/var/lib/hyperv/.kvp_pool_0", "r+");
    const lock = tryLockFile(file, { mode: "exclusive" });
    expect(lock).not.to.equal(undefined);
    const tasks = `/proc/${show(KVPD, "MainPID")}/task`;
    const children = (task: string): string => readFileSync(join(tasks, task, "children"), "utf8");
    const answer = set("locked", "yes");
    await until("a child of the daemon waits", () =>
      readdirSync(tasks).some((task) => children(task) !== ""),
    );
    lock?.release();
    expect(await answer).to.equal(0);
    closeSync(file);
  });

  it("feeds the watchdog", async () => {
    const fed = (): number => Number(show(KVPD, "WatchdogTimestampMonotonic"));
    const first = fed();
    await until("the watchdog is fed", () => fed() > first);
  });

  it("goes with the device and comes back with it", async () => {
    await unplug();
    await until("the unit is gone", () => show(KVPD, "ActiveState") === "inactive");
    await plug();
    expect(await set("after", "it")).to.equal(0);
    expect(await readRole()).to.equal("db");
  });

  it("cannot do more", () => {
    const { devices, "systemd itself": manager, ...rest } = confined(KVPD, "/var/lib/hyperv");
    expect(rest).to.deep.equal({
      ...NEVER,
      "write /root": "EACCES",
      "write /sys/kernel": "EROFS",
      "write /proc/sys/kernel": "ENOENT",
      chown: "EPERM",
      "the system's bus": "ok",
      "the network": "EAFNOSUPPORT",
    });
    expect(manager).to.equal("ok");
    expect(devices)
      .to.match(/\bvmbus\b/)
      .and.not.match(/\b(vda|port|mem|kmsg|fuse|cuse|ttyS0)\b/);
  });
});

describe("credentials", () => {
  const bytes = (command: string, ...args: readonly string[]): string => {
    const { status, stdout, stderr } = spawnSync(command, args, { timeout: LIMIT_MS });
    return status === 0 ? stdout.toString("hex") : `exit ${status}: ${stderr.toString()}`;
  };

  it("are those that systemd has imported, byte for byte", () => {
    const imported = readdirSync("/run/credentials/@system").sort();
    expect(imported).to.deep.equal(["alpha", "bytes", "delta", "empty", "gamma", "line"]);
    // A start of a program takes seconds here: two through systemd's own program, the others as it would read them.
    for (const name of ["alpha", "bytes"])
      expect(bytes("pvbus", "creds", "get", name, "-t", "KVM"), name).to.equal(
        bytes("systemd-creds", "--system", "cat", name),
      );
    expect(run("pvbus", ["creds", "export", "/run/exported", "-t", "KVM"])).to.contain("6 credentials");
    for (const name of imported)
      expect(readFileSync(`/run/exported/${name}`), name).to.deep.equal(
        readFileSync(`/run/credentials/@system/${name}`),
      );
    const listed = JSON.parse(run("pvbus", ["creds", "list", "--json", "-t", "KVM"])) as {
      credentials: { name: string; source: string; shadowed: { source: string }[] }[];
      skipped: { place: string }[];
    };
    const alpha = listed.credentials.find(({ name }) => name === "alpha");
    expect([alpha?.source, alpha?.shadowed.map(({ source }) => source)]).to.deep.equal([
      "fw_cfg",
      ["SMBIOS", "command line", "system"],
    ]);
    expect(listed.skipped.map(({ place }) => place.split(":").at(-1))).to.deep.equal(["bad"]);
  });
});

describe("pvbus-nocloud.service", () => {
  it("writes the seed of what the host gives, and nothing else", () => {
    expect(systemctl("start", "pvbus-nocloud.service"), run("journalctl", ["-u", "pvbus-nocloud"])).to.equal(
      "",
    );
    const seed = "/var/lib/cloud/seed/nocloud";
    expect(readdirSync(seed).sort(), run("journalctl", ["-u", "pvbus-nocloud"])).to.deep.equal([
      "meta-data",
      "user-data",
    ]);
    expect(readFileSync(join(seed, "user-data"), "utf8")).to.equal("#cloud-config");
    expect(readFileSync(join(seed, "meta-data"), "utf8")).to.match(
      /^instance-id: (?:pvbus|[0-9a-f-]{36})-[0-9a-f]{16}\n$/,
    );
    expect(statSync(join(seed, "user-data")).mode & 0o777).to.equal(0o600);
  });
});
