import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { HypervHostSimulator, VmxHost } from "../../../providers/testing.js";
import { pause } from "../../../src/base/flow/abort.js";
import { openPvbus } from "../../../src/index.js";
import { BARE, PROGRAM, run as runHere } from "../../support/command-line.js";
import { pending } from "../../support/pending.js";
import { PoolTree } from "../../support/pools.js";
import { findPython } from "../../support/processes.js";
import { SimulatedVmx } from "../../support/vmware.js";

const NS = "com.example.agent";

describe("pvbus sync", () => {
  let tree: PoolTree;
  let host: HypervHostSimulator;
  let place: string;
  const children: ChildProcess[] = [];
  beforeEach(async () => {
    tree = new PoolTree();
    host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
    place = mkdtempSync(join(tmpdir(), "pvbus-sync-"));
  });
  afterEach(async () => {
    for (const child of children.splice(0))
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await once(child, "exit");
      }
    await tree[Symbol.asyncDispose]();
    rmSync(place, { recursive: true });
  });
  const file = (name: string): string => join(place, name);
  const read = (name: string): string => (existsSync(file(name)) ? readFileSync(file(name), "utf8") : "");
  const give = (data: Readonly<Record<string, string>>): Promise<unknown> =>
    host.addKvpItems(Object.entries(data).map(([name, value]) => ({ name, data: value })));
  const run = (...argv: readonly string[]) =>
    runHere(["sync", ...argv], {
      env: { PVBUS_SYSROOT: tree.sysroot },
      open: (options) => openPvbus(options),
    });

  /** Starts the program; gives its messages as they come. */
  const start = (argv: readonly string[], env: NodeJS.ProcessEnv = {}) => {
    const child = spawn(process.execPath, [PROGRAM, "sync", ...argv], {
      env: { ...process.env, PVBUS_SYSROOT: tree.sysroot, ...env },
    });
    children.push(child);
    const said = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said.stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said.stderr += text));
    const ended = once(child, "close");
    const until = async (holds: () => boolean): Promise<void> => {
      while (!holds()) {
        if (child.exitCode !== null) throw new Error(`it has ended with ${child.exitCode}: ${said.stderr}`);
        await pause(5);
      }
    };
    return { child, said, ended, until };
  };

  describe("--once", () => {
    it("keeps a file, a directory, and runs the program behind --, of a prefix", async () => {
      await give({ role: "web", "a.b": "x y", ".x": "1" });
      const { said, ended } = start([
        ...["External", "--env", file("env"), "--dir", file("d"), "--once", "--"],
        ...["sh", "-c", 'echo "$1"; cat "$0"', file("env"), "--json"],
      ]);
      expect((await ended)[0], said.stderr).to.equal(0);
      expect(said).to.deep.equal({ stdout: '--json\nA_B="x y"\nROLE=web\n_X=1\n', stderr: "" });
      expect(readdirSync(file("d")).sort()).to.deep.equal(["%2Ex", "a.b", "role"]);
    });

    it("keeps a namespace, or the names that are given", async () => {
      await give({ [`${NS}/role`]: "web", [`${NS}/level`]: "1", other: "x" });
      expect((await run("-n", NS, "--env", file("all"), "--once")).code).to.equal(0);
      expect(read("all")).to.equal("LEVEL=1\nROLE=web\n");
      expect((await run("-n", NS, "level", "none", "--env", file("some"), "--once")).code).to.equal(0);
      expect(read("some")).to.equal("LEVEL=1\n");
    });

    it("says as JSON what it has written, by names", async () => {
      await give({ role: "web" });
      const { stdout, stderr, code } = await run("External/", "--env", file("env"), "--once", "--json");
      expect([JSON.parse(stdout), stderr, code]).to.deep.equal([
        { keys: 1, changed: ["role"], gone: [] },
        "",
        0,
      ]);
    });

    it("takes a prefix that begins with a dash, and a program with any words", async () => {
      await give({ "-x/role": "web" });
      expect((await run("--prefix=External/-x", "--env", file("env"), "--once")).code).to.equal(0);
      expect(read("env")).to.equal("ROLE=web\n");
    });

    it("exits with 1 and the code where something cannot be kept or has failed, and writes nothing", async () => {
      await give({ "a.b": "1", "a-b": "2" });
      const collision = await run("External", "--env", file("env"), "--once");
      expect([collision.code, collision.stderr]).to.deep.equal([
        1,
        'pvbus: the keys "a.b" and "a-b" both become the variable A_B; rename one of them, or name the keys that are wanted [ERR_CONFLICT]\n',
      ]);
      expect(readdirSync(place)).to.deep.equal([]);
      const failed = await run("External", "--dir", file("d"), "--once", "--", "sh", "-c", "exit 3");
      expect([failed.code, failed.stderr]).to.deep.equal([
        1,
        'pvbus: the command "sh" has failed with 3 [ERR_UNAVAILABLE]\n',
      ]);
      const slow = await run("External", "--once", "--timeout", "0.2", "--", "sleep", "600");
      expect([slow.code, slow.stderr]).to.match(/^1,.*\[ERR_TIMEOUT\]\n$/);
    });

    it("needs names on a store that cannot list, and keeps them there", async () => {
      const vmx = new VmxHost();
      vmx.set(`guestinfo.${NS}.role`, "web");
      await using machine = await SimulatedVmx.start(vmx);
      const on = ["-t", "VMware", "--channel", machine.channel, "--env", file("env"), "--once"];
      const here = (argv: readonly string[]) => runHere(["sync", ...argv]);
      for (const argv of [["guestinfo."], ["-n", NS]]) {
        const { code, stderr } = await here([...argv, ...on]);
        expect([code, stderr]).to.match(
          /^1,pvbus: the VMware store .*: `pvbus sync -n \S+ NAME \.\.\.` \[ERR_NOT_SUPPORTED\]\n$/,
        );
      }
      expect((await here(["-n", NS, "role", ...on])).code).to.equal(0);
      expect(read("env")).to.equal("ROLE=web\n");
    });
  });

  it("is wrong usage without anything to keep or run, with two prefixes, or a prefix in a namespace", async () => {
    for (const argv of [
      [],
      ["External"],
      ["External", "--"],
      ["External", "Guest", "--env", "f"],
      ["External", "--prefix", "Guest", "--env", "f"],
      ["-n", NS, "--prefix", "x", "--env", "f"],
    ]) {
      const { code, stderr } = await run(...argv);
      expect([argv, code, stderr]).to.match(/,2,pvbus: sync: .+\n$/);
    }
  });

  it("refuses the host's word in a confidential machine, unless it is to be trusted", async () => {
    const open = (options: object) => openPvbus({ snapshot: BARE, ...options });
    const confidential = async (...argv: readonly string[]) =>
      runHere(["sync", "External", "--env", file("env"), "--once", "-t", "Hyper-V", ...argv], {
        env: { PVBUS_SYSROOT: tree.sysroot },
        open: async (options) => {
          const bus = await open(options);
          Object.defineProperty(bus, "detection", { value: { ...bus.detection, confidential: "sev-snp" } });
          return bus;
        },
      });
    const refused = await confidential();
    expect([refused.code, refused.stderr]).to.match(/^1,.*--trust-host.* \[ERR_PERMISSION\]\n$/);
    expect(existsSync(file("env"))).to.equal(false);
    expect((await confidential("--trust-host")).code).to.equal(0);
  });

  it("keeps no file and runs no program with the rights of somebody else", async function () {
    if (process.geteuid?.() !== 0) return pending(this, "root, which becomes somebody else");
    const script = `process.seteuid(65534); process.argv.splice(1, 0, "pvbus"); require(${JSON.stringify(PROGRAM)});`;
    const argv = [
      "sync",
      "External",
      "-t",
      "Hyper-V",
      "--env",
      file("env"),
      "--once",
      "--",
      "touch",
      file("ran"),
    ];
    const child = spawn(process.execPath, ["-e", script, "--", ...argv]);
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    expect([(await once(child, "close"))[0], stderr]).to.match(/^1,.*setuid.*\[ERR_PERMISSION\]\n$/);
    expect(readdirSync(place)).to.deep.equal([]);
  });

  it("follows changes until a signal ends it, and runs the program behind each", async () => {
    await give({ role: "web" });
    const { child, said, ended, until } = start([
      ...[
        "External/",
        "--env",
        file("env"),
        "--dir",
        file("d"),
        "--",
        "sh",
        "-c",
        'cat "$0" >>"$0.runs"',
        file("env"),
      ],
    ]);
    await until(() => read("env.runs") === "ROLE=web\n");
    await give({ level: "1" });
    await until(() => read("env.runs") === "ROLE=web\nLEVEL=1\nROLE=web\n");
    await host.removeKvpItems(["role"]);
    await until(() => read("env.runs").endsWith("\nLEVEL=1\n") && read("env") === "LEVEL=1\n");
    child.kill("SIGTERM");
    expect([await ended, said.stdout]).to.deep.equal([[0, null], ""]);
    expect(said.stderr).to.match(/^(pvbus: info: keys were synced \{"keys":\d,"changed":\d,"gone":\d\}\n)+$/);
  });

  it("tells what goes wrong later on standard error, as JSON where all is to be, and goes on", async () => {
    await give({ "a.b": "1" });
    const { child, said, ended, until } = start([
      "External",
      "--env",
      file("env"),
      "--json",
      "--",
      "sh",
      "-c",
      "exit 3",
    ]);
    await until(() => said.stderr.includes("has failed with 3"));
    await give({ "a-b": "2" });
    await until(() => said.stderr.includes("ERR_CONFLICT"));
    expect(read("env")).to.equal("A_B=1\n");
    child.kill("SIGINT");
    expect((await ended)[0]).to.equal(0);
    const lines = said.stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ level, code }) => [level, code])).to.deep.equal([
      ["info", undefined],
      ["error", "ERR_UNAVAILABLE"],
      ["error", "ERR_CONFLICT"],
    ]);
  });

  it("ends a program that runs, with its group, when it is ended itself", async () => {
    await give({ role: "web" });
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      const script = 'sleep 600 & echo "$! $$" >"$0.new"; mv "$0.new" "$0"; wait';
      const { child, ended, until } = start(["External", "--", "sh", "-c", script, file(signal)]);
      await until(() => read(signal) !== "");
      child.kill(signal);
      expect((await ended)[0], signal).to.equal(0);
      for (const pid of read(signal).trim().split(" "))
        expect(() => process.kill(Number(pid), 0), `${signal} ${pid}`).to.throw("ESRCH");
    }
  });

  it("tells systemd when the first content is there, and that it ends", async function () {
    await give({ role: "web" });
    const python = findPython("import socket");
    if (python === undefined) return pending(this, "python3, since Node has no UNIX datagrams");
    const listening = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound")
while True: print(s.recv(100).decode().split("\\n")[0])`;
    const listener = spawn(python, ["-uc", listening, file("notify")]);
    children.push(listener);
    let heard = "";
    listener.stdout.setEncoding("utf8").on("data", (text: string) => (heard += text));
    while (heard !== "bound\n") await pause(5);
    const { child, ended } = start(["External", "--env", file("env")], { NOTIFY_SOCKET: file("notify") });
    while (!heard.includes("READY=1")) await pause(5);
    expect(read("env")).to.equal("ROLE=web\n");
    child.kill("SIGTERM");
    await ended;
    while (!heard.includes("STOPPING=1")) await pause(5);
  });
});
