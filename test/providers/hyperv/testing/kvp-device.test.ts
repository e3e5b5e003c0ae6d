import { type ChildProcess, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRequest, LINUX_KVP, replyStatus } from "../../../../providers/hyperv/protocol/messages.js";
import { KvpDeviceSimulator, KvpDriverAnswer } from "../../../../providers/testing.js";
import { pending } from "../../../support/pending.js";
import { rejects } from "../../../support/rejects.js";

/** An agent of the test's own, a line of JavaScript each: `reg` registers, `fs` and `fd` are at hand. */
const AGENT = `const fs = require("node:fs");
const message = (...head) => { const m = Buffer.alloc(7432); m.set(head); return m; };
const attempt = (what) => { try { return what(); } catch (error) { return error.code; } };
const say = (what) => process.stdout.write(JSON.stringify(what) + "\\n");
let fd;
const open = () => { fd = fs.openSync("/dev/vmbus/hv_kvp", "r+"); };
const register = () => { fs.writeSync(fd, message(100)); return fs.readSync(fd, Buffer.alloc(7432)); };
`;

function output(child: ChildProcess): Promise<string> {
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  return new Promise((resolve) => child.once("close", () => resolve(said)));
}

describe("simulated KVP device", function () {
  this.timeout(30_000);
  let simulator: KvpDeviceSimulator;

  before(function () {
    const why = KvpDeviceSimulator.whyNot();
    if (why === undefined) return;
    return pending(this, `the simulated device: ${why}`);
  });
  beforeEach(async () => {
    simulator = await KvpDeviceSimulator.start();
  });
  afterEach(() => simulator?.close());

  const agent = (script: string): ChildProcess => simulator.run(process.execPath, ["-e", AGENT + script]);
  const enumerate = encodeRequest({ operation: "enumerate", pool: 0, index: 0 }, LINUX_KVP);

  it("takes one opener, and the next when that one is gone", async () => {
    const script = "open(); say(attempt(open)); fs.closeSync(fd); say(attempt(open) ?? 0);";
    expect(await output(agent(script))).to.equal('"EBUSY"\n0\n');
  });

  it("refuses what the driver refuses: short buffers, short messages, another first operation, an answer unasked", async () => {
    const said = await output(
      agent(`open();
        say(attempt(() => fs.writeSync(fd, Buffer.alloc(7431))));
        say(attempt(() => fs.writeSync(fd, message(1))));
        fs.writeSync(fd, message(100));
        say(attempt(() => fs.writeSync(fd, message(100))));
        say(attempt(() => fs.readSync(fd, Buffer.alloc(100))));
        const version = Buffer.alloc(8000);
        say([fs.readSync(fd, version), version.toString("latin1", 4, 7)]);
        say(attempt(() => fs.writeSync(fd, message(0))));`),
    );
    expect(
      said
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).to.deep.equal(["EINVAL", "EINVAL", "EFAULT", "EINVAL", [7432, "3.1"], "EINVAL"]);
  });

  it("blocks a reader until the host asks, and gives the host the reply", async () => {
    const child = agent(`open(); register();
      const request = Buffer.alloc(7432);
      fs.readSync(fd, request); request.writeUInt32LE(0x80070103); fs.writeSync(fd, request);`);
    const ended = output(child);
    await simulator.waitForRegistration();
    expect(await simulator.agentPid()).to.equal(child.pid);
    expect(replyStatus(await simulator.request(enumerate))).to.equal(0x80070103);
    expect(await ended).to.equal("");
    expect(await simulator.agentPid()).to.equal(undefined);
  });

  it("answers the host by itself: nobody registered, agent gone, time over, driver gone", async () => {
    const why = async (asked: Promise<unknown>): Promise<unknown> => {
      const error = await asked.then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(error).to.be.instanceOf(KvpDriverAnswer).with.property("status", 0x80004005);
      return (error as KvpDriverAnswer).why;
    };
    expect(await why(simulator.request(enumerate))).to.equal("not registered");
    const leaving = agent("open(); register(); fs.readSync(fd, Buffer.alloc(7432));");
    const left = output(leaving);
    await simulator.waitForRegistration();
    expect(await why(simulator.request(enumerate))).to.equal("closed");
    await left;

    const idle = agent(`open(); register();
      setInterval(() => {}, 1000);
      process.once("SIGUSR2", () => { say(attempt(() => fs.writeSync(fd, request))); process.exit(); });
      const request = Buffer.alloc(7432); fs.readSync(fd, request); say("read");`);
    const said = output(idle);
    await simulator.waitForRegistration(1);
    const late = why(simulator.request(enumerate));
    await new Promise((resolve) => idle.stdout?.once("data", resolve));
    await simulator.expire();
    expect(await late).to.equal("timeout");
    idle.kill("SIGUSR2");
    expect(await said).to.equal('"read"\n"EINVAL"\n');

    const removed = agent("open(); register(); say(attempt(() => fs.readSync(fd, Buffer.alloc(7432))));");
    const end = output(removed);
    await simulator.waitForRegistration(2);
    await simulator.remove();
    expect(await end).to.equal('"EBADF"\n');
    expect(await why(simulator.request(enumerate))).to.equal("removed");
    await simulator.restore();
    expect(await why(simulator.request(enumerate))).to.equal("not registered");
  });

  it("a host's request is no longer than a message", async () => {
    const failure = await simulator.request(Buffer.alloc(7433)).catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(RangeError);
  });

  it("two simulators know nothing of each other, and leave no trace", async () => {
    const directory = mkdtempSync(join(tmpdir(), "pvbus-two-"));
    try {
      writeFileSync(join(directory, "mark"), "other");
      const other = await KvpDeviceSimulator.start({ directory, version: "9.9" });
      const script = `open(); fs.writeSync(fd, message(100)); const v = Buffer.alloc(7432); fs.readSync(fd, v);
        say([v.toString("latin1", 4, 7), fs.readdirSync("/var/lib/hyperv")]);`;
      const mine = output(agent(script));
      const its = output(other.run(process.execPath, ["-e", AGENT + script]));
      expect([await mine, await its]).to.deep.equal(['["3.1",[]]\n', '["9.9",["mark"]]\n']);
      await other.close();
      await other.close();
      expect(existsSync(join(directory, "mark"))).to.equal(true);
      await simulator.close();
      expect(existsSync(simulator.directory)).to.equal(false);
      expect(readFileSync("/proc/self/mounts", "utf8")).to.not.contain("hv_kvp");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("a device whose process is killed fails calls instead of hanging them", async () => {
    const child = agent("open(); register(); say(attempt(() => fs.readSync(fd, Buffer.alloc(7432))));");
    const said = output(child);
    await simulator.waitForRegistration();
    const asked = rejects(simulator.request(enumerate), "ERR_UNAVAILABLE");
    const { stdout } = spawnSync("pgrep", ["-f", `fuse-server.js ${simulator.directory}`], {
      encoding: "utf8",
    });
    for (const pid of stdout.trim().split("\n")) process.kill(Number(pid), "SIGKILL");
    await asked;
    expect(await said).to.match(/ENOTCONN|ECONNABORTED|""|^$/);
  });
});
