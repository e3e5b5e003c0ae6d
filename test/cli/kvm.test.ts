import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { PROGRAM } from "../support/command-line.js";
import { start } from "../support/processes.js";

/** The built program on both ends of a UNIX socket, a process for each command. */
describe("pvbus on both sides of KVM's metadata channel", () => {
  let folder: string;
  let server: ReturnType<typeof start>;
  const pvbus = (...args: readonly string[]) => start(process.execPath, [PROGRAM, ...args]);
  const guest = (...args: readonly string[]) =>
    pvbus("-t", "KVM", "--channel", `unix:${folder}/vm.sock`, ...args);
  const host = async (action: string, ...args: readonly string[]) => {
    const { code, stdout, stderr } = await pvbus(
      "host",
      action,
      "--state",
      `${folder}/state`,
      "--guest",
      "vm",
      ...args,
    ).done;
    return { code, stdout, stderr };
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-both-"));
    server = pvbus("host", "serve", "--state", `${folder}/state`, "--guest", `vm=unix:${folder}/vm.sock`);
    const { stderr } = server.child;
    await new Promise<void>((resolve, reject) => {
      stderr?.on("data", (text: string) => text.includes('"serving"') && resolve());
      server.done.then(({ stderr: text }) => reject(new Error(text)), reject);
    });
  });
  after(async () => {
    server.child.kill("SIGTERM");
    await server.done;
    rmSync(folder, { recursive: true, force: true });
  });

  it("has outside at once what is set inside, and the other way round", async () => {
    expect((await guest("set", "meta/status", "ready").done).code).to.equal(0);
    expect(await host("get", "status")).to.include({ code: 0, stdout: "ready\n" });
    expect((await host("set", "config", "from outside")).code).to.equal(0);
    expect((await guest("get", "config").done).stdout).to.equal("from outside\n");
    const listed = JSON.parse((await guest("ls", "--json", "meta/").done).stdout);
    expect(listed).to.deep.include({ key: "meta/config", value: "from outside" });
    expect((await guest("rm", "status").done).code).to.equal(0);
    expect((await host("get", "status")).code).to.equal(1);
    expect((await guest("get", "status").done).code).to.equal(1);
  });

  it("wakes a watch inside by a change outside", async () => {
    const watch = guest("watch", "meta/", "--count", "1");
    await new Promise((resolve) => watch.child.stderr?.once("data", resolve));
    await host("set", "live", "now");
    expect(await watch.done).to.include({ code: 0, stdout: "meta/live=now\n" });
  });

  it("says what works", async () => {
    const { stdout } = await guest("doctor", "--json").done;
    const [{ checks }] = JSON.parse(stdout).interfaces.filter(({ type }: { type: string }) => type === "KVM");
    expect(checks[0]).to.deep.equal({
      what: `the host answers on the metadata channel unix:${folder}/vm.sock`,
      works: true,
    });
  });

  it("says that nobody serves, with the code and how to fix it", async () => {
    const { code, stderr } = await pvbus("-t", "KVM", "--channel", `unix:${folder}/no.sock`, "get", "meta/k")
      .done;
    expect(code).to.equal(1);
    expect(stderr).to.include("ERR_UNAVAILABLE").and.include("start the host side");
  });
});
