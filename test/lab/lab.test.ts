import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { pending } from "../support/pending.js";
import { findPython, start } from "../support/processes.js";
import { CpioArchive } from "./cpio.js";
import { type MachineOutcome, runMachine } from "./machine.js";
import { ROOT } from "./tools.js";

const PASS = '@@LAB {"event":"pass","title":"works"}';
const FAIL = '@@LAB {"event":"fail","title":"breaks","why":"because"}';
const END = (code: number): string => `@@LAB {"event":"exit","code":${code}}`;

describe("the lab", () => {
  let place: string;
  const path = process.env["PATH"];

  /** Runs what stands in for QEMU: a script that prints and ends. */
  const machine = (script: string, limitSeconds = 20): Promise<MachineOutcome> => {
    const program = join(place, "qemu-system-x86_64");
    writeFileSync(program, `#!/bin/sh\n${script}\n`);
    chmodSync(program, 0o755);
    return runMachine({ name: "stand-in", args: [], limitSeconds });
  };
  const print = (...lines: readonly string[]): string => lines.map((line) => `echo '${line}'`).join("\n");

  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), "pvbus-lab-test-"));
    process.env["PATH"] = `${place}:${path}`;
  });
  afterEach(() => {
    process.env["PATH"] = path;
    rmSync(place, { recursive: true });
  });

  it("takes a machine's tests and facts from between what its kernel prints", async () => {
    const fact = '@@LAB {"event":"fact","name":"kernel","value":"6.1"}';
    const { failure, tests, facts, log } = await machine(
      `${print("[ 0.1] booting", fact, `[ 0.2] noise ${PASS}`, "@@LAB {torn", END(0))}\nexit 1`,
    );
    expect(failure).to.equal(undefined);
    expect([tests, facts]).to.deep.equal([[{ event: "pass", title: "works" }], { kernel: "6.1" }]);
    expect(readFileSync(log, "utf8")).to.contain("[ 0.1] booting");
  });

  for (const [what, script, why, limit] of [
    ["failed commands", `${print(PASS, FAIL, END(1))}\nexit 3`, "ended with 1"],
    ["a machine within it that failed", `${print(PASS, END(1), END(0))}\nexit 1`, "ended with 1"],
    ["a machine that dies", `${print(PASS)}\nexit 0`, "before its tests did"],
    ["an end that QEMU did not see", `${print(PASS, END(0))}\nexit 0`, "ended with 0"],
    ["a machine without tests", `${print(END(0))}\nexit 1`, "ran no test"],
    ["a machine that hangs", `${print(PASS)}\nexec sleep 60`, "did not end within 0.3 s", 0.3],
  ] as const) {
    it(`fails for ${what}`, async () => {
      const { failure, tests } = await machine(script, limit);
      expect(failure).to.contain(why);
      if (script.includes(PASS)) expect(tests[0]).to.deep.equal({ event: "pass", title: "works" });
    });
  }

  it("refuses an environment that is none, and lists those there are", async () => {
    const lab = join(ROOT, "dist/test/lab/main.js");
    const wrong = await start(process.execPath, [lab, "nowhere"]).done;
    expect([wrong.code, wrong.stderr]).to.deep.equal([
      2,
      "no such environment: nowhere; there are: guest, devices, virtualbox, systemd, xen, wine\n",
    ]);
    const { code, stdout } = await start(process.execPath, [lab, "--list"]).done;
    expect([code, stdout.split("\n").length]).to.deep.equal([0, 7]);
  });

  it("makes archives that cpio readers take", async function () {
    const python = findPython("import struct");
    if (python === undefined || !existsSync(ROOT)) {
      return pending(this, "python3 is missing");
    }
    const archive = new CpioArchive().directory("a/b").file("a/b/c", "four", 0o755).link("a/l", "b/c").end();
    const file = join(place, "archive");
    writeFileSync(file, archive);
    const reader = `
import sys
data = open(sys.argv[1], "rb").read(); at = 0
while True:
    head = data[at:at+110]; assert head[:6] == b"070701", head
    f = [int(head[6+8*i:14+8*i], 16) for i in range(13)]
    name = data[at+110:at+110+f[11]-1].decode(); at += (110 + f[11] + 3) // 4 * 4
    body = data[at:at+f[6]]; at += (f[6] + 3) // 4 * 4
    print(name, oct(f[1]), body.decode())
    if name == "TRAILER!!!": break
`;
    const { stdout, stderr } = await start(python, ["-c", reader, file]).done;
    expect(stderr).to.equal("");
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => line.trim()),
    ).to.deep.equal([
      "a 0o40755",
      "a/b 0o40755",
      "a/b/c 0o100755 four",
      "a/l 0o120777 b/c",
      "TRAILER!!! 0o0",
    ]);
  });
});
