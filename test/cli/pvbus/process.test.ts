import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRecord } from "../../../providers/hyperv/protocol/record.js";
import { bash, PROGRAM } from "../../support/command-line.js";
import { pending } from "../../support/pending.js";
import { fixture, PoolTree } from "../../support/pools.js";

const MANY = 2000;
const DEAF_MS = 5000;

/** Ends a program by SIGTERM and gives its exit code and signal: SIGKILL when it would not hear. */
async function ended(child: ChildProcess): Promise<unknown[]> {
  const timer = setTimeout(() => child.kill("SIGKILL"), DEAF_MS);
  child.kill("SIGTERM");
  const outcome = await once(child, "exit");
  clearTimeout(timer);
  return outcome;
}

describe("pvbus as a process", () => {
  let tree: PoolTree;
  beforeEach(() => {
    tree = new PoolTree();
    tree.put(0, fixture("pool0_basic.bin"));
  });
  afterEach(() => tree[Symbol.asyncDispose]());
  const run = (script: string) => bash(script, { PVBUS_SYSROOT: tree.sysroot });

  describe("signals", () => {
    it("end a command that waits for standard input", async () => {
      const child = spawn(process.execPath, [PROGRAM, "--sysroot", tree.sysroot, "set", "Guest/k", "-"]);
      child.stdin.write("half a value");
      // Nothing tells that it reads; a signal before that ends it in the same way.
      await new Promise((resolve) => setTimeout(resolve, 300));
      const [code, signal] = await ended(child);
      expect([code, signal]).to.deep.equal([null, "SIGTERM"]);
      expect(tree.get(1)).to.have.length(0);
    });

    it("end a command whose reader has stopped reading", async () => {
      const records = Array.from({ length: MANY }, (_, i) =>
        encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.alloc(500, "v") }),
      );
      tree.put(0, Buffer.concat(records));
      const child = spawn(process.execPath, [PROGRAM, "--sysroot", tree.sysroot, "ls"]);
      await once(child.stdout, "readable");
      const [, signal] = await ended(child);
      expect(signal).to.equal("SIGTERM");
    });
  });

  describe("outputs that nobody takes", () => {
    it("a closed standard output ends it quietly, whatever it was doing", () => {
      for (const command of ["ls", "detect", "detect --json", "--help", "completion bash", "demo"]) {
        const { stderr, code } = run(`set -o pipefail; "$node" "$pvbus" ${command} | head -0`);
        expect([command, stderr, code]).to.deep.equal([command, "", 0]);
      }
    });

    it("demo removes its directory when the reader goes in the middle", () => {
      const temporary = mkdtempSync(join(tmpdir(), "pvbus-demo-test-"));
      for (const lines of [1, 4, 8, 10, 12]) {
        run(`TMPDIR=${temporary} "$node" "$pvbus" demo | head -n ${lines}`);
      }
      expect(readdirSync(temporary)).to.deep.equal([]);
      rmSync(temporary, { recursive: true });
    });

    it("messages that nobody reads do not turn a failure into success", () => {
      const { stdout } = run(
        `exec 3>&1; { "$node" "$pvbus" get External/nope 2>&1 >/dev/null; echo "code $?" >&3; } | head -0`,
      );
      expect(stdout).to.equal("code 1\n");
    });

    it("a full disk under standard output is a failure with a message", function () {
      if (process.platform !== "linux") pending(this, "/dev/full, which is Linux's");
      const { stderr, code } = run('"$node" "$pvbus" get External/alpha >/dev/full');
      expect(code).to.equal(1);
      expect(stderr).to.match(/^pvbus: .*ENOSPC.*\n$/);
    });
  });

  describe("wrong usage", () => {
    const WRONG = [
      "get",
      "gte k",
      "ls --jsno",
      "get -i -t x",
      "watch --count 0",
      "ls --sysroot /nonexistent",
    ];
    for (const args of WRONG) {
      it(`pvbus ${args} --json: exit 2 and one line of JSON on standard error`, () => {
        const { stdout, stderr, code } = run(`"$node" "$pvbus" --json ${args}`);
        expect([stdout, code]).to.deep.equal(["", 2]);
        expect(stderr).to.match(/^[^\n]+\n$/);
        expect(JSON.parse(stderr).error).to.include({ code: null, interface: null, key: null });
      });
    }

    it("is one line without --json too, and --json behind -- is a value", () => {
      const { stderr, code } = run('"$node" "$pvbus" get -i -t x');
      expect(code).to.equal(2);
      expect(stderr).to.match(/^pvbus: [^\n]+\n$/);
      expect(run('"$node" "$pvbus" gte -- --json').stderr).to.match(/^pvbus: unknown command/);
    });

    it("names a PVBUS_SYSROOT that is no directory", () => {
      for (const command of ["ls", "detect", "snapshot", "demo"]) {
        const { stderr, code } = run(`PVBUS_SYSROOT=/nonexistent "$node" "$pvbus" ${command}`);
        expect([command, code]).to.deep.equal([command, 2]);
        expect(stderr).to.match(/PVBUS_SYSROOT takes a directory that exists, not '\/nonexistent'/);
      }
    });

    it("covers settings that the provider does not know, words of JavaScript too", () => {
      for (const setting of [
        "durrable=true",
        "__proto__=x",
        "constructor=x",
        "durable=1",
        "durable=toString",
      ]) {
        const { stdout, stderr, code } = run(`"$node" "$pvbus" -t Hyper-V -o ${setting} ls`);
        expect([setting, stdout, code]).to.deep.equal([setting, "", 2]);
        expect(stderr).to.match(/hyperv (has no )?option/);
      }
    });
  });

  it("reads no more of standard input than any store could take", () => {
    const { stderr, code } = run('head -c 80000000 /dev/zero | "$node" "$pvbus" set Guest/k -');
    expect(code).to.equal(1);
    expect(stderr).to.match(/the input is longer than \d+ bytes.*ERR_VALUE_TOO_LONG/);
    expect(tree.get(1)).to.have.length(0);
  });

  it("takes keys with spaces, line ends, dashes and equals signs", () => {
    for (const key of ["Guest/two words", "Guest/line\nend", "Guest/--json", "Guest/a=b"]) {
      const env = { PVBUS_SYSROOT: tree.sysroot, key };
      expect(
        bash('"$node" "$pvbus" set "$key" "-v" 2>&1 || "$node" "$pvbus" set -- "$key" "-v"', env).code,
      ).to.equal(0);
      expect(bash('"$node" "$pvbus" get "$key"', env)).to.deep.equal({ stdout: "-v\n", stderr: "", code: 0 });
      expect(bash('"$node" "$pvbus" rm "$key"', env).code).to.equal(0);
    }
  });
});
