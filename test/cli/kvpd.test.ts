import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRequest, LINUX_KVP } from "../../providers/hyperv/protocol/messages.js";
import {
  type KvpDeviceSimulator,
  KvpDriverAnswer,
} from "../../providers/hyperv/testing/kvp-device/simulator.js";
import { PROGRAM, run } from "../support/command-line.js";
import { startAgent, withSimulatedDevice } from "../support/kvp-agents.js";
import { childrenOf, eventually, helperOf, isWaiting } from "../support/lock-helpers.js";
import { LockHolder } from "../support/lock-holder.js";
import { pending } from "../support/pending.js";
import { findPython, type Outcome, start } from "../support/processes.js";

/** Runs pvbus where the simulated device is. */
function runIn(simulator: KvpDeviceSimulator, args: readonly string[], env = process.env): Promise<Outcome> {
  const child = simulator.run(process.execPath, [PROGRAM, ...args], { env });
  let [stdout, stderr] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return new Promise((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr })),
  );
}

describe("pvbus kvpd", function () {
  this.timeout(60_000);

  describe("without a device", () => {
    it("says what is missing, makes nothing and ends with 1, in the foreground and in the background", async () => {
      const parent = mkdtempSync(join(tmpdir(), "pvbus-kvpd-test-"));
      const pools = join(parent, "pools");
      for (const args of [["kvpd", "-n"], ["kvpd"], ["kvp", "receive"]]) {
        const { code, stdout, stderr } = await start(process.execPath, [
          PROGRAM,
          ...args,
          "--device",
          "/dev/vmbus/none",
          "--pools",
          pools,
        ]).done;
        expect([code, stdout]).to.deep.equal([1, ""]);
        expect(stderr).to.contain("/dev/vmbus/none").and.to.contain("modprobe hv_utils");
        expect(existsSync(pools), args.join(" ")).to.equal(false);
      }
      rmSync(parent, { recursive: true });
    });

    it("takes no arguments and no unknown options: wrong usage is 2", async () => {
      for (const args of [
        ["kvpd", "x"],
        ["kvpd", "--frobnicate"],
        ["kvp"],
        ["kvp", "send"],
        ["get", "-n", "Guest/x"],
      ]) {
        const { code, stdout } = await run(args);
        expect([args.join(" "), code, stdout]).to.deep.equal([args.join(" "), 2, ""]);
      }
    });
  });

  describe("on the simulated device", () => {
    const { device, registered } = withSimulatedDevice();

    it("serves, says the two lines that the vendor's says, and ends with 0 on SIGTERM", async () => {
      const { child, said, ended } = await startAgent(device(), "ours");
      expect(await device().set(0, "k", "v")).to.equal(0);
      expect(readFileSync(`/proc/${child.pid}/comm`, "utf8").trim()).to.equal("pvbus-kvpd");
      child.kill("SIGTERM");
      expect(await ended).to.deep.equal({ code: 0, signal: null });
      expect(said()).to.contain(`KVP starting; pid is:${child.pid}`).and.to.contain("KVP LIC Version: 3.1");
    });

    it("goes into the background when it serves; a second one is told that the device is taken", async () => {
      const first = await runIn(device(), ["kvpd"]);
      expect(first).to.deep.include({ code: 0, stdout: "", stderr: "" });
      expect(await device().set(0, "k", "v")).to.equal(0);
      for (const args of [["kvpd"], ["kvpd", "-n"]]) {
        const { code, stderr } = await runIn(device(), args);
        expect(code).to.equal(1);
        expect(stderr).to.contain("another KVP daemon has it");
      }
      const pid = (await device().agentPid()) as number;
      expect(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[5], "session").to.equal(String(pid));
      process.kill(pid, "SIGTERM");
    });

    it("makes nothing while another daemon has the device", async () => {
      await startAgent(device(), "ours");
      const parent = mkdtempSync(join(tmpdir(), "pvbus-kvpd-test-"));
      const pools = join(parent, "pools");
      for (const args of [
        ["kvpd", "-n"],
        ["kvp", "receive"],
      ]) {
        const { code, stderr } = await runIn(device(), [...args, "--pools", pools]);
        expect([code, existsSync(pools)], stderr).to.deep.equal([1, false]);
        expect(stderr).to.contain("another KVP daemon has it");
      }
      expect(await device().set(0, "k", "v"), "the first one goes on").to.equal(0);
      rmSync(parent, { recursive: true });
    });

    it("goes on at SIGHUP where it has no terminal, in the foreground and in the background", async () => {
      const { child, said, ended } = await startAgent(device(), "ours");
      child.kill("SIGHUP");
      expect(await device().set(0, "k", "v")).to.equal(0);
      // The answer may be quicker than the signal's own way.
      await eventually(() => said().includes("SIGHUP is ignored") || undefined);
      child.kill("SIGTERM");
      expect(await ended).to.deep.equal({ code: 0, signal: null });

      expect((await runIn(device(), ["kvpd"])).code).to.equal(0);
      const pid = (await device().agentPid()) as number;
      process.kill(pid, "SIGHUP");
      expect(await device().list(0)).to.deep.equal([{ key: "k", value: "v" }]);
      process.kill(pid, "SIGTERM");
    });

    it("ends in order when its terminal is hung up", async function () {
      const python = findPython("import pty");
      if (python === undefined) {
        console.warn("      NOT HUNG UP: there is no Python 3");
        return this.skip();
      }
      const script = `
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
said = b""
while b"KVP LIC Version" not in said:
    said += os.read(terminal, 4096)
signal.sigwait({signal.SIGUSR1})
os.close(terminal)
_, status = os.waitpid(pid, 0)
print("code", os.waitstatus_to_exitcode(status))
`;
      // Outside of the device's mount namespace, which has no terminals.
      const place = ["--device", device().devicePath, "--pools", device().directory];
      const { child, done } = start(python, [
        "-c",
        script,
        process.execPath,
        PROGRAM,
        "kvpd",
        "-n",
        ...place,
      ]);
      await registered();
      expect(await device().set(0, "k", "v")).to.equal(0);
      child.kill("SIGUSR1");
      expect(await done).to.deep.include({ code: 0, stdout: "code 0\n", stderr: "" });
    });

    it("has a helper wait for a pool's lock, from the bundled program too, and stores the pair", async function () {
      const why = LockHolder.whyNot();
      if (why !== undefined) {
        console.warn(`      NOT TESTED: ${why}`);
        return this.skip();
      }
      const { child } = await startAgent(device(), "ours");
      const holder = await LockHolder.start(join(device().directory, ".kvp_pool_0"), "record", "exclusive");
      const setting = device().set(0, "k", "v");
      const agent = child.pid as number;
      const helper = await eventually(() => helperOf(agent, "/var/lib/hyperv/.kvp_pool_0"));
      await eventually(() => isWaiting(helper));
      await holder.release();
      expect(await setting).to.equal(0);
      expect(childrenOf(agent)).not.to.include(helper);
      expect(await device().list(0)).to.deep.equal([{ key: "k", value: "v" }]);
    });

    it("registers again after a reply that came too late", async () => {
      await startAgent(device(), "ours");
      const slow = encodeRequest({ operation: "enumerate", pool: 0, index: 0 }, LINUX_KVP);
      const agent = (await device().agentPid()) as number;
      process.kill(agent, "SIGSTOP");
      const failure = device()
        .request(slow)
        .catch((error: unknown) => error);
      await new Promise((resolve) => setTimeout(resolve, 50));
      await device().expire();
      expect(await failure)
        .to.be.instanceOf(KvpDriverAnswer)
        .with.property("why", "timeout");
      process.kill(agent, "SIGCONT");
      await registered(2);
      expect(await device().set(0, "after", "it")).to.equal(0);
    });

    it("registers again when the driver went away and came back", async () => {
      const { said } = await startAgent(device(), "ours");
      await device().set(0, "k", "v");
      await device().remove();
      await device().restore();
      await registered(2);
      expect(await device().list(0)).to.deep.equal([{ key: "k", value: "v" }]);
      expect(said()).to.contain("registering again");
    });

    it("tells systemd when it serves and when it ends", async function () {
      const python = findPython("import socket");
      if (python === undefined) return pending(this, "no python3");
      const directory = mkdtempSync(join(tmpdir(), "pvbus-notify-"));
      const path = join(directory, "socket");
      const script =
        "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint('bound',flush=True)\n" +
        "while True:\n m=s.recv(4096).decode()\n print(repr(m),flush=True)\n if m=='STOPPING=1': break";
      const listener = start(python, ["-c", script, path]);
      await new Promise((resolve) => listener.child.stdout?.once("data", resolve));
      const env = { ...process.env, NOTIFY_SOCKET: path, WATCHDOG_USEC: "100000", JOURNAL_STREAM: "1:2" };
      const running = runIn(device(), ["kvpd", "-n"], env);
      await registered();
      await new Promise((resolve) => setTimeout(resolve, 200));
      process.kill((await device().agentPid()) as number, "SIGTERM");
      const { stdout } = await listener.done;
      expect(stdout.split("\n")[1]).to.equal("'READY=1\\nSTATUS=serving the host'");
      expect(stdout).to.contain("'WATCHDOG=1'").and.to.contain("'STOPPING=1'");
      expect((await running).stderr).to.match(/^<6>KVP starting/);
      rmSync(directory, { recursive: true });
    });

    it("is what `pvbus doctor` looks for", async () => {
      await startAgent(device(), "ours");
      const { stdout } = await runIn(device(), ["doctor", "-t", "Hyper-V", "--json"]);
      const checks = JSON.stringify(JSON.parse(stdout));
      expect(checks).to.contain('"what":"the KVP daemon runs","works":true');
    });
  });

  describe("receive", () => {
    const { device, registered } = withSimulatedDevice();

    it("prints the key that it waits for, and keeps all that the host sends with it", async () => {
      const running = runIn(device(), [
        "kvp",
        "receive",
        "--key",
        "ignition.config",
        "--timeout",
        "20",
        "--quiet",
        "0.3",
      ]);
      await registered();
      expect(await device().set(3, "HostName", "HV-01")).to.equal(0);
      expect(await device().set(0, "ignition.config", "{}\n")).to.equal(0);
      expect(await device().set(0, "later", "too")).to.equal(0);
      expect((await device().list(2)).length, "answers the host besides").to.equal(10);
      expect(await running).to.deep.include({ code: 0, stdout: "{}\n\n", stderr: "" });
      await startAgent(device(), "ours");
      expect(await device().list(0)).to.deep.equal([
        { key: "ignition.config", value: "{}\n" },
        { key: "later", value: "too" },
      ]);
      expect(await device().list(3)).to.deep.equal([{ key: "HostName", value: "HV-01" }]);
    });

    it("without a key prints what came until the host fell silent", async () => {
      const running = runIn(device(), ["kvp", "receive", "--quiet", "0.2", "--json"]);
      await registered();
      await device().set(0, "a", "1");
      await device().set(3, "b", "2");
      const { code, stdout } = await running;
      expect(code).to.equal(0);
      expect(JSON.parse(stdout)).to.deep.equal([
        { key: "External/a", value: "1" },
        { key: "Guest/Parameters/b", value: "2" },
      ]);
    });

    it("names the keys that did not come, and keeps what did", async () => {
      const running = runIn(device(), [
        "kvp",
        "receive",
        "--key",
        "a",
        "--key",
        "External/b",
        "--timeout",
        "1",
      ]);
      await registered();
      await device().set(0, "a", "1");
      const { code, stderr } = await running;
      expect(code).to.equal(1);
      expect(stderr)
        .to.contain("External/b")
        .and.to.contain("[ERR_TIMEOUT]")
        .and.not.to.contain("External/a");
      await startAgent(device(), "ours");
      expect(await device().list(0)).to.deep.equal([{ key: "a", value: "1" }]);
    });

    it("beside a running daemon waits for its pools", async () => {
      await startAgent(device(), "ours");
      await device().set(0, "there", "already");
      const there = await runIn(device(), ["kvp", "receive", "--key", "there", "--timeout", "20"]);
      expect(there).to.deep.include({ code: 0, stdout: "already\n" });
      const waiting = runIn(device(), ["kvp", "receive", "--key", "late", "--timeout", "20", "-v"]);
      await new Promise((resolve) => setTimeout(resolve, 800));
      await device().set(0, "late", "but here");
      expect(await waiting).to.deep.include({ code: 0, stdout: "but here\n" });
    });

    it("refuses keys that no host sends", async () => {
      const { code, stderr } = await runIn(device(), ["kvp", "receive", "--key", "Guest/x"]);
      expect(code).to.equal(1);
      expect(stderr).to.contain("[ERR_KEY_INVALID]");
    });
  });
});
