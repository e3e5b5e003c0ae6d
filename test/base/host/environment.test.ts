import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type EnvironmentOwner, isElevated, processEnvironment } from "../../../src/base/host/environment.js";
import { run } from "../../support/command-line.js";

const env = { PVBUS_SYSROOT: "/elsewhere", XENSTORED_PATH: "/tmp/socket", XENSTORED_RUNDIR: "/tmp" };
const owner = (uid: number, euid: number, gid: number, egid: number): EnvironmentOwner => ({
  env,
  getuid: () => uid,
  geteuid: () => euid,
  getgid: () => gid,
  getegid: () => egid,
});

describe("environment of a process", () => {
  it("counts for nothing where the process is setuid or setgid", () => {
    for (const elevated of [owner(1000, 0, 1000, 1000), owner(1000, 1000, 1000, 0), owner(0, 1000, 0, 0)]) {
      expect(isElevated(elevated)).to.equal(true);
      expect(processEnvironment(elevated)).to.deep.equal({});
    }
  });

  it("counts for its caller, root behind sudo -E included, and where there are no ids", () => {
    const sudo = { ...owner(0, 0, 0, 0), env: { ...env, SUDO_UID: "1000" } };
    expect(processEnvironment(sudo)).to.include(env);
    expect(processEnvironment(owner(1000, 1000, 1000, 1000))).to.equal(env);
    expect(processEnvironment({ env })).to.equal(env);
  });

  describe("that names a sysroot", () => {
    let sysroot: string;
    before(() => {
      sysroot = mkdtempSync(join(tmpdir(), "pvbus-sysroot-"));
    });
    after(() => rmSync(sysroot, { recursive: true }));

    it("is told of by doctor and -v", async () => {
      const surroundings = { env: { PVBUS_SYSROOT: sysroot } };
      const { stdout } = await run(["doctor"], surroundings);
      expect(stdout).to.include(`files below ${sysroot}, from PVBUS_SYSROOT`);
      const { stdout: json, stderr } = await run(["doctor", "--json", "-v"], surroundings);
      expect(JSON.parse(json)).to.include({ sysroot, sysrootFromEnvironment: true });
      expect(JSON.parse(stderr.split("\n", 1)[0] ?? "")).to.include({
        event: "the sysroot comes from PVBUS_SYSROOT",
        sysroot,
      });
      const { stderr: verbose } = await run(["detect", "-v"], surroundings);
      expect(verbose).to.include("the sysroot comes from PVBUS_SYSROOT");
    });

    it("is no word of one that the command line names, or of none", async () => {
      const { stdout, stderr } = await run(["doctor", "-v", "--sysroot", sysroot]);
      expect(stdout + stderr)
        .to.include(sysroot)
        .and.not.include("PVBUS_SYSROOT");
      expect((await run(["doctor", "-v"])).stdout).not.to.include("of the files below");
    });
  });
});
