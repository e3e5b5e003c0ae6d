import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { IoctlFile, type WaitEnding } from "../../src/native/posix/ioctl-file.js";
import { openDescriptors } from "../support/descriptors.js";
import { LockHolder } from "../support/lock-holder.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { removeTree } from "../support/trees.js";

/** TCGETS of a device that is no terminal. */
const TCGETS = 0x5401;
const NEVER: Omit<WaitEnding, "memory"> = { request: TCGETS, isDone: () => false };

/*
 * A wait in a driver that forgets limits and ends: fcntl(2) has the form of ioctl(2) and waits for a lock as long as somebody
 * holds it.
 */
const PROGRAM = `
import { openSync } from "node:fs";
import { IoctlFile } from "${ROOT}/dist/src/native/posix/ioctl-file.js";
const file = new IoctlFile(openSync(process.argv[1], "r+"), "int fcntl(int, unsigned long, void *)");
const memory = file.allocate(64);
memory.bytes.writeInt16LE(1);
const ending = file.allocate(64);
// F_OFD_SETLKW
void file.wait(38, memory, { request: 1, memory: ending, isDone: () => false });
process.exitCode = 7;
process.on("exit", () => console.log("exit"));
setTimeout(() => (process.argv[2] === "exit" ? process.exit() : process.exit(3)), 100);
`;

describe("a device that is asked by ioctl", () => {
  before(function () {
    if (process.platform !== "linux") pending(this, "it is for Linux");
  });

  it("gives errors by their names, and lets descriptors go", async () => {
    const before = openDescriptors();
    const file = new IoctlFile(openSync("/dev/null", "r"));
    const memory = file.allocate(64);
    expect(await file.request(TCGETS, memory)).to.equal("ENOTTY");
    expect(await file.wait(TCGETS, memory, { ...NEVER, memory })).to.equal("ENOTTY");
    const late = file.request(TCGETS, memory);
    const closed = file.close();
    expect(await file.request(TCGETS, memory), "closed").to.equal("EBADF");
    expect(await late, "under way").to.equal("ENOTTY");
    await closed;
    await file.close();
    memory.free();
    expect(openDescriptors()).to.deep.equal(before);
    expect(process.listeners("exit").filter(({ name }) => name === "endWaits")).to.deep.equal([]);
  });

  for (const [how, code] of [
    ["exit", 7],
    ["exit with a code", 3],
  ] as const)
    it(`does not keep a process that wants to ${how} though the wait never ends`, async function () {
      const why = LockHolder.whyNot();
      if (why !== undefined) pending(this, why);
      this.timeout(30_000);
      const folder = mkdtempSync(join(tmpdir(), "pvbus-ioctl-"));
      const path = join(folder, "file");
      writeFileSync(path, "");
      const holder = await LockHolder.start(path, "record", "exclusive");
      try {
        const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM, path, how], {
          stdio: ["ignore", "pipe", "inherit"],
        });
        let printed = "";
        child.stdout.on("data", (data) => {
          printed += data;
        });
        const [exit] = await once(child, "exit");
        expect(exit).to.equal(code);
        expect(printed).to.equal("exit\n");
      } finally {
        await holder.release();
        removeTree(folder);
      }
    });
});
