import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRecord } from "../../providers/hyperv/protocol/record.js";
import { visible } from "../../src/cli/io/output.js";
import { openPvbus } from "../../src/index.js";
import { PROGRAM, run } from "../support/command-line.js";
import { fixture, PoolTree, ROOT } from "../support/pools.js";
import { start } from "../support/processes.js";

const pair = (key: string, value: string): Buffer =>
  encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });

/** Runs the command line in this process: a start of Node takes a hundred times as long as most commands. */
async function here(args: readonly string[]) {
  const { stdout, stderr, code } = await run(args, { open: openPvbus });
  return { stdout, stderr, status: code };
}

/** Runs the built program: one of each command, and all that is about processes, streams and the environment. */
function pvbus(args: readonly string[], input: string | Buffer = "", env: NodeJS.ProcessEnv = {}) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [PROGRAM, ...args], {
    input,
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  return { stdout, stderr, status };
}

describe("pvbus command line", () => {
  let tree: PoolTree;
  let at: string[];
  beforeEach(() => {
    tree = new PoolTree();
    tree.put(0, fixture("pool0_basic.bin"));
    tree.put(3, fixture("pool3_parameters.bin"));
    at = ["--sysroot", tree.sysroot];
  });
  afterEach(() => tree[Symbol.asyncDispose]());

  describe("usage", () => {
    const WRONG: readonly (readonly [readonly string[], RegExp])[] = [
      [[], /^Usage: pvbus/],
      [["gte", "k"], /unknown command 'gte' \(did you mean get\?\)/],
      [["get"], /get: missing argument <key>/],
      [["set", "k"], /set: missing argument <value>/],
      [["get", "a", "b"], /too many arguments/],
      [["ls", "--jsno"], /unknown option '--jsno' \(did you mean --json\?\)/],
      [["ls", "-x"], /unknown option '-x'/],
      [["ls", "--count", "1"], /ls has no option --count/],
      [["watch", "--count", "0"], /--count takes a whole number/],
      [["get", "k", "--timeout", "soon"], /--timeout takes a number of seconds/],
      [["get", "k", "--sysroot"], /sysroot/],
      [["get", "k", "--channel", "unix:x"], /--channel needs -t TYPE/],
      [["set", "k", "v", "-o", "durable=true"], /--option needs -t TYPE/],
      [["ls", "-t", "Hyper-V", "-o", "durable"], /--option takes NAME=VALUE/],
      [["completion", "tcsh"], /no completion for tcsh/],
      [["ls", "--sysroot", "/nonexistent"], /--sysroot takes a directory that exists/],
      [["ls", "--sysroot="], /--sysroot takes a directory that exists/],
      [["demo", "-t", "bhyve"], /no simulator for bhyve/],
    ];
    for (const [args, message] of WRONG) {
      it(`pvbus ${args.join(" ")}: exit 2, message on standard error only`, async () => {
        const { stdout, stderr, status } = await here(args);
        expect([stdout, status]).to.deep.equal(["", 2]);
        expect(stderr).to.match(message);
      });
    }

    it("prints help and version on standard output", async () => {
      const help = pvbus(["--help"]);
      expect(help).to.include({ stderr: "", status: 0 });
      expect(help.stdout).to.match(/Commands:[\s\S]*hostctl|Commands:[\s\S]*detect/);
      const watch = await here(["watch", "-h"]);
      expect(watch.stdout).to.match(/Usage: pvbus watch \[prefix\][\s\S]*--count N/);
      expect(await here(["help"])).to.deep.equal(help);
      expect(await here(["help", "watch"])).to.deep.equal(watch);
      expect(await here(["watch", "--help"])).to.deep.equal(watch);
      const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
      expect(pvbus(["-V"])).to.deep.equal({ stdout: `${version}\n`, stderr: "", status: 0 });
    });

    for (const shell of ["bash", "zsh", "fish"]) {
      it(`gives a completion script for ${shell}`, async () => {
        expect((await here(["completion", shell])).stdout).to.match(/detect[\s\S]*demo/);
      });
    }

    it("gives a script that bash can complete with", () => {
      const script = `${pvbus(["completion", "bash"]).stdout}
COMP_WORDS=(pvbus de); COMP_CWORD=1; _pvbus; echo "\${COMPREPLY[@]}"`;
      expect(spawnSync("bash", ["-c", script], { encoding: "utf8" }).stdout.trim()).to.equal("detect demo");
    });
  });

  it("completes keys of the host in bash without ever running what they say", () => {
    const canary = join(tree.sysroot, "canary");
    tree.put(
      0,
      Buffer.concat([pair(`$(touch ${canary})`, "v"), pair("`id`;x", "v"), pair("plain key", "v")]),
    );
    const script = `pvbus() { "$NODE" "$PROGRAM" --sysroot "$ROOT" "$@"; }
${pvbus(["completion", "bash"]).stdout}
COMP_WORDS=(pvbus get External/); COMP_CWORD=2; _pvbus; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync("bash", ["-c", script], {
      encoding: "utf8",
      env: { ...process.env, NODE: process.execPath, PROGRAM, ROOT: tree.sysroot },
    });
    expect(existsSync(canary)).to.equal(false);
    expect(stdout, stderr).to.include("External/plain\\ key\n").and.to.include("External/\\$\\(touch");
  });

  describe("on the genuine pools", () => {
    it("ls External --json gives exactly the pairs of the fixture's README", () => {
      const { stdout, stderr, status } = pvbus([...at, "ls", "External", "--json"]);
      expect([stderr, status]).to.deep.equal(["", 0]);
      expect(JSON.parse(stdout)).to.deep.equal([
        { key: "External/alpha", value: "one" },
        { key: "External/beta", value: "two" },
        { key: "External/com.example.agent/config", value: '{"role":"web","replicas":3}' },
      ]);
    });

    it("takes a bare pool directory as the sysroot", () => {
      expect(pvbus(["--sysroot", tree.directory, "get", "External/alpha"]).stdout).to.equal("one\n");
      expect(pvbus(["get", "External/alpha"], "", { PVBUS_SYSROOT: tree.sysroot }).stdout).to.equal("one\n");
    });

    it("get prints the value, as JSON the pair; a missing key is exit 1 with a message", async () => {
      expect(await here([...at, "get", "External/alpha"])).to.deep.equal({
        stdout: "one\n",
        stderr: "",
        status: 0,
      });
      expect(JSON.parse(pvbus([...at, "get", "External/alpha", "--json"]).stdout)).to.deep.equal({
        key: "External/alpha",
        value: "one",
      });
      expect(pvbus([...at, "get", "External/nope"])).to.deep.equal({
        stdout: "",
        stderr: "pvbus: no such key: External/nope\n",
        status: 1,
      });
      expect(await here([...at, "--json", "get", "External/nope"])).to.include({ stdout: "", status: 1 });
    });

    it("set, get, rm and ls go round, on the layout of the vendor's daemon", async () => {
      expect(pvbus([...at, "set", "Guest/k", "v"])).to.deep.equal({ stdout: "", stderr: "", status: 0 });
      expect(tree.get(1).equals(pair("k", "v"))).to.equal(true);
      expect(pvbus([...at, "ls", "Guest"]).stdout).to.equal("Guest/k=v\n");
      expect(pvbus([...at, "rm", "Guest/k"]).status).to.equal(0);
      expect(await here([...at, "rm", "Guest/k"])).to.include({ stdout: "", status: 1 });
      expect((await here([...at, "ls", "Guest", "--json"])).stdout).to.equal("[]\n");
    });

    it("takes values from standard input as they are, and those that begin with a dash after --", async () => {
      pvbus([...at, "set", "Guest/in", "-"], "two\nlines\n");
      expect((await here([...at, "get", "Guest/in"])).stdout).to.equal("two\nlines\n\n");
      await here([...at, "set", "--", "Guest/-k", "--json"]);
      expect((await here([...at, "get", "Guest/-k"])).stdout).to.equal("--json\n");
      expect(pvbus([...at, "set", "Guest/bin", "-"], Buffer.from([0xff]))).to.include({ status: 1 });
    });

    it("info tells what the host told", async () => {
      expect(JSON.parse(pvbus([...at, "info", "--json"]).stdout)).to.include({
        type: "Hyper-V",
        vmName: "web-01",
        hostName: "HV-HOST-01",
      });
      expect((await here([...at, "info"])).stdout).to.match(
        /^interface: pvbus0 \(Hyper-V\)\nvmName: web-01\n/,
      );
    });

    it("passes provider settings with -o", async () => {
      const result = await here([
        ...at,
        "-t",
        "hyper-v",
        "-o",
        "writablePools=External",
        "-o",
        "durable=true",
        "set",
        "External/n",
        "v",
      ]);
      expect(result).to.deep.equal({ stdout: "", stderr: "", status: 0 });
      expect((await here([...at, "-t", "Hyper-V", "-o", "durrable=true", "ls"])).stderr).to.match(
        /no option durrable/,
      );
    });

    it("errors are one line with their code, or an object with --json", async () => {
      const plain = await here([...at, "set", "External/alpha", "x"]);
      expect([plain.stdout, plain.status]).to.deep.equal(["", 1]);
      expect(plain.stderr).to.match(/^pvbus: .*\[ERR_READ_ONLY\]\n$/);
      const { error } = JSON.parse((await here([...at, "set", "External/alpha", "x", "--json"])).stderr);
      expect(error).to.include({ code: "ERR_READ_ONLY", interface: "pvbus0", key: "External/alpha" });
      chmodSync(tree.path(0), 0o644);
      expect((await here([...at, "-i", "pvbus7", "ls"])).stderr).to.match(
        /no interface pvbus7.*ERR_NO_INTERFACE/,
      );
      expect((await here([...at, "-t", "Nope", "ls"])).stderr).to.match(/ERR_NOT_SUPPORTED/);
    });

    it("untrusted text forges no line and drives no terminal", async () => {
      tree.put(0, Buffer.concat([pair("a\nExternal/forged=1", "x\x1b[2Jy"), pair("b\\", "\u202eevil")]));
      const { stdout } = await here([...at, "ls", "External"]);
      expect(stdout).to.equal(
        "External/a\\nExternal/forged\\u{3d}1=x\\u{1b}[2Jy\nExternal/b\\\\=\\u{202e}evil\n",
      );
      const [entry] = JSON.parse((await here([...at, "ls", "External", "--json"])).stdout);
      expect(entry.key).to.equal("External/a\nExternal/forged=1");
      expect((await here([...at, "get", entry.key])).stdout).to.equal("x\x1b[2Jy\n");
    });

    it("gives bytes that are not UTF-8 as valueBase64", async () => {
      const record = pair("k", "v");
      record[512] = 0xff;
      tree.put(0, record);
      expect(JSON.parse((await here([...at, "ls", "External", "--json"])).stdout)).to.deep.equal([
        { key: "External/k", valueBase64: "/w==" },
      ]);
      expect(JSON.parse((await here([...at, "get", "External/k", "--json"])).stdout)).to.deep.equal({
        key: "External/k",
        valueBase64: "/w==",
      });
    });

    it("writes a large listing whole into a slow pipe, and ends quietly when nobody reads", () => {
      tree.put(0, Buffer.concat(Array.from({ length: 2000 }, (_, i) => pair(`k${i}`, "v".repeat(500)))));
      const slow = spawnSync(
        "bash",
        [
          "-c",
          `"$0" "$1" --sysroot "$2" ls External | (sleep 0.3; wc -l)`,
          process.execPath,
          PROGRAM,
          tree.sysroot,
        ],
        { encoding: "utf8" },
      );
      expect([slow.stdout.trim(), slow.stderr]).to.deep.equal(["2000", ""]);
      const head = spawnSync(
        "bash",
        ["-c", `"$0" "$1" --sysroot "$2" ls External | head -1`, process.execPath, PROGRAM, tree.sysroot],
        { encoding: "utf8" },
      );
      expect([head.stdout.split("=")[0], head.stderr]).to.deep.equal(["External/k0", ""]);
    });

    it("watch prints changes as they come and ends by count, time and signal with exit 0", async () => {
      const watching = start(process.execPath, [PROGRAM, ...at, "watch", "Guest", "--count", "2"]);
      await new Promise((resolve) => watching.child.stderr?.once("data", resolve));
      pvbus([...at, "set", "Guest/a", "1"]);
      pvbus([...at, "rm", "Guest/a"]);
      expect(await watching.done).to.include({
        code: 0,
        stdout: "Guest/a=1\n-Guest/a\n",
        stderr: "watching Guest on pvbus0\n",
      });
      expect(pvbus([...at, "watch", "Guest", "--timeout", "0.1"])).to.include({ status: 0, stdout: "" });
      const ended = start(process.execPath, [PROGRAM, ...at, "watch"]);
      await new Promise((resolve) => ended.child.stderr?.once("data", resolve));
      ended.child.kill("SIGTERM");
      expect(await ended.done).to.include({ code: 0, signal: null });
    });
  });

  describe("detect and demo", () => {
    it("detect --json has the fields of the contract, live and below a sysroot", async () => {
      for (const args of [
        ["detect", "--json"],
        [...at, "detect", "--json"],
      ]) {
        const { stdout, status } = await here(args);
        expect(status).to.equal(0);
        const document = JSON.parse(stdout);
        expect(document).to.include.keys(
          "virtual",
          "primary",
          "primaryName",
          "interfaces",
          "platform",
          "container",
          "confidential",
          "nested",
        );
        for (const each of document.interfaces) {
          expect(each).to.include.keys(
            "unit",
            "name",
            "id",
            "type",
            "role",
            "base",
            "emulated",
            "evidence",
            "details",
            "capabilities",
          );
          expect(each.capabilities).to.have.all.keys("read", "write", "delete", "list", "watch");
        }
      }
      expect(JSON.parse((await here([...at, "detect", "--json"])).stdout).interfaces).to.deep.equal([]);
    });

    it("detect decides from snapshot.json in the sysroot, and from --snapshot FILE", async () => {
      const cases = JSON.parse(readFileSync(join(ROOT, "test/fixtures/detection/cases.json"), "utf8")).cases;
      const azure = cases.find(({ id }: { id: string }) => id === "azure");
      writeFileSync(join(tree.sysroot, "snapshot.json"), JSON.stringify(azure));
      const document = JSON.parse((await here([...at, "detect", "--json"])).stdout);
      expect([document.primary, document.platform]).to.deep.equal(["hyperv", "azure"]);
      expect(document.interfaces[0].capabilities.read).to.equal(true);
      expect((await here([...at, "get", "External/alpha"])).stdout).to.equal("one\n");
      expect((await here(["detect", "--snapshot", join(tree.sysroot, "snapshot.json")])).stdout).to.match(
        /on Hyper-V.*platform azure/,
      );
      expect(await here(["detect", "--snapshot", join(tree.sysroot, "nope")])).to.include({
        stdout: "",
        status: 1,
      });
      expect(pvbus(["detect", "--snapshot", tree.path(0)]).stderr).to.match(/ERR_CORRUPT/);
    });

    it("says what to do on a machine without an interface", async () => {
      const empty = mkdtempSync(join(tmpdir(), "pvbus-empty-"));
      mkdirSync(join(empty, "var"));
      const { stderr, status } = await here(["--sysroot", empty, "ls"]);
      rmSync(empty, { recursive: true });
      expect(status).to.equal(1);
      expect(stderr).to.match(/pvbus detect.*-t TYPE.*ERR_NO_INTERFACE/);
    });

    it("demo does the whole round trip and leaves nothing behind", () => {
      const before = new Set(
        spawnSync("ls", [tmpdir()], { encoding: "utf8" })
          .stdout.split("\n")
          .filter((name) => name.startsWith("pvbus-demo-")),
      );
      const { stdout, stderr, status } = pvbus(["demo"]);
      expect([stderr, status]).to.deep.equal(["", 0]);
      for (const step of [
        /This is /,
        /guest: reads External\/role: "web"/,
        /host: {2}sees build = "1\.2\.3"/,
        /its watch sees External\/role become "db"/,
        /sees 0 pairs/,
      ]) {
        expect(stdout).to.match(step);
      }
      expect(stdout).not.to.include("\x1b");
      const after = spawnSync("ls", [tmpdir()], { encoding: "utf8" })
        .stdout.split("\n")
        .filter((name) => name.startsWith("pvbus-demo-"));
      expect(after.filter((name) => !before.has(name))).to.deep.equal([]);
    });

    it("demo -t KVM does it over a metadata channel", () => {
      const { stdout, stderr, status } = pvbus(["demo", "-t", "kvm"]);
      expect([stderr, status]).to.deep.equal(["", 0]);
      for (const step of [
        /guest: reads role: "web"/,
        /host: {2}sees build = "1\.2\.3"/,
        /its watch sees meta\/role become "db"/,
        /sees build gone/,
      ]) {
        expect(stdout).to.match(step);
      }
    });
  });

  it("shows control characters as escapes and leaves other scripts alone", () => {
    expect(visible("Grüße 値 🙂")).to.equal("Grüße 値 🙂");
    expect(visible("a\tb\x7f\u2028")).to.equal("a\\tb\\u{7f}\\u{2028}");
  });
});

describe("pvbus doctor and snapshot", () => {
  it("doctor says per check whether it works and what fixes it, exit 1 when something does not", async () => {
    await using tree = new PoolTree();
    const plain = pvbus(["doctor", "--sysroot", tree.sysroot]);
    expect(plain.status).to.equal(1);
    expect(plain.stdout).to.match(/FAIL the VMBus driver is loaded\n {7}fix: modprobe hv_vmbus/);
    expect(plain.stdout).to.match(/ok {3}pool Guest can be written/);
    const { healthy, interfaces } = JSON.parse(
      (await here(["doctor", "--json", "--sysroot", tree.sysroot])).stdout,
    );
    expect([healthy, interfaces[0].type]).to.deep.equal([false, "Hyper-V"]);
  });

  it("doctor finds a whole exchange in order", async () => {
    await using tree = new PoolTree();
    const put = (path: string, content: string): void => {
      mkdirSync(join(tree.sysroot, path, ".."), { recursive: true });
      writeFileSync(join(tree.sysroot, path), content);
    };
    put("/sys/bus/vmbus/devices/242ff919/class_id", "{a9a0f4e7-5a45-4d96-b827-8a841e8c03e6}\n");
    put("/dev/vmbus/hv_kvp", "");
    put("/proc/321/comm", "hv_kvp_daemon\n");
    expect(await here(["doctor", "-t", "Hyper-V", "--sysroot", tree.sysroot])).to.include({
      stderr: "",
      status: 0,
    });
  });

  it("snapshot makes a document that detect takes", async () => {
    await using tree = new PoolTree();
    const { stdout, status } = pvbus(["snapshot"]);
    expect(status).to.equal(0);
    writeFileSync(join(tree.sysroot, "machine.json"), stdout);
    const replayed = JSON.parse(
      pvbus(["detect", "--json", "--snapshot", join(tree.sysroot, "machine.json")]).stdout,
    );
    const live = JSON.parse(pvbus(["detect", "--json"]).stdout);
    expect(replayed.interfaces).to.deep.equal(live.interfaces);
  });
});
