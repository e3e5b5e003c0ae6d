import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { nodeHost, openPvbus } from "../../../src/index.js";
import { exportCredentials, getCredential, listCredentials } from "../../../src/tools/index.js";
import { KvmTree, smbiosFiles } from "../../support/boot-stores.js";
import { run } from "../../support/command-line.js";
import { rejects } from "../../support/rejects.js";
import { addFiles, asNobody } from "../../support/trees.js";

const ITEM = "opt/io.systemd.credentials/";

describe("credentials", () => {
  let tree: KvmTree;
  const use = async <T>(
    work: (...args: Parameters<typeof listCredentials>) => Promise<T>,
    env = {},
  ): Promise<T> => {
    await using bus = await openPvbus(tree.open);
    return await work(bus, { host: nodeHost({ sysroot: tree.sysroot, platform: "linux", env }) });
  };
  const get = (name: string, env = {}) =>
    use(async (bus, options) => {
      const value = await getCredential(bus, name, options);
      return value && Buffer.from(value).toString("latin1");
    }, env);

  afterEach(() => tree[Symbol.asyncDispose]());

  it("come from all sources in systemd's order, and the first of a name counts", async () => {
    tree = new KvmTree(
      { [`${ITEM}alpha`]: "fw_cfg", [`${ITEM}bytes`]: Buffer.from([0, 0xff, 10]) },
      smbiosFiles("", [
        "io.systemd.credential:alpha=smbios",
        "io.systemd.credential:gamma=a=b=c",
        "io.systemd.credential.binary:delta=AP8BAg==",
        "io.systemd.credential:empty=",
      ]),
    );
    addFiles(tree.sysroot, {
      "proc/cmdline":
        "quiet systemd.set_credential=alpha:line systemd.set_credential=gamma:line systemd.set_credential=line:v\n",
      "run/credentials/@initrd/early": "initrd",
      "run/credentials/@initrd/line": "initrd",
      "run/credentials/@system/alpha": "fw_cfg",
      "run/own/mine": "own",
    });
    const report = await use(listCredentials, { CREDENTIALS_DIRECTORY: "/run/own" });
    expect(report.skipped).to.deep.equal([]);
    expect(report.unreadable).to.deep.equal([]);
    expect(
      report.credentials.map(({ name, source, value, shadowed }) => [
        name,
        source,
        Buffer.from(value).toString("latin1"),
        shadowed.map((each) => each.source).join(),
      ]),
    ).to.deep.equal([
      ["alpha", "fw_cfg", "fw_cfg", "SMBIOS,command line,system"],
      ["bytes", "fw_cfg", "\0\xff\n", ""],
      ["gamma", "SMBIOS", "a=b=c", "command line"],
      ["delta", "SMBIOS", "\x00\xff\x01\x02", ""],
      ["empty", "SMBIOS", "", ""],
      ["line", "command line", "v", "initrd"],
      ["early", "initrd", "initrd", ""],
      ["mine", "CREDENTIALS_DIRECTORY", "own", ""],
    ]);
    expect(await get("delta")).to.equal("\x00\xff\x01\x02");
    expect(await get("mine")).to.equal(undefined);
  });

  it("leave out what systemd leaves out, and say why", async () => {
    const large = Buffer.alloc(600 * 1024, 0x61);
    tree = new KvmTree(
      {
        [`${ITEM}a/b`]: "slash",
        [`${ITEM}one`]: large,
        [`${ITEM}two`]: large,
        [`${ITEM}huge`]: Buffer.alloc(1024 * 1024 + 1),
      },
      smbiosFiles("", [
        "io.systemd.credential.binary:bad=!!!",
        "io.systemd.credential:sl/ash=x",
        "io.systemd.credential:none",
      ]),
    );
    const { credentials, skipped, unreadable } = await use(listCredentials);
    expect(credentials.map(({ name }) => name)).to.deep.equal(["one"]);
    expect(unreadable.map(({ source, error }) => `${source} ${error.code}`)).to.deep.equal([
      "fw_cfg ERR_VALUE_TOO_LONG",
    ]);
    expect(skipped.map(({ place, why }) => `${place.split("/").at(-1)}: ${why}`)).to.deep.equal([
      "b: its name can be no credential's",
      "two: all credentials together would have more than 1048576 bytes",
      "ash: its name can be no credential's",
      "io.systemd.credential.binary:bad: its value is no base64",
    ]);
  });

  it("are printed as they are, nothing behind them", async () => {
    tree = new KvmTree({ [`${ITEM}bytes`]: "a\nb", [`${ITEM}empty`]: "" });
    expect(await run(["creds", "get", "bytes", ...tree.args])).to.deep.equal({
      code: 0,
      stdout: "a\nb",
      stderr: "",
    });
    expect(await run(["creds", "get", "empty", ...tree.args])).to.deep.equal({
      code: 0,
      stdout: "",
      stderr: "",
    });
    expect(await run(["creds", "get", "none", ...tree.args])).to.deep.include({
      code: 1,
      stderr: "pvbus: no such credential: none\n",
    });
    expect((await run(["creds", "get", "a/b", ...tree.args])).stderr).to.contain("ERR_KEY_INVALID");
    const { stdout } = await run(["creds", "get", "bytes", "--json", ...tree.args]);
    expect(JSON.parse(stdout)).to.deep.equal({ name: "bytes", valueBase64: "YQpi" });
    const listed = await run(["creds", "list", ...tree.args]);
    expect(listed.stdout).to.equal(
      `bytes\tfw_cfg (fwcfg/${ITEM}bytes)\t3 bytes\nempty\tfw_cfg (fwcfg/${ITEM}empty)\t0 bytes\n`,
    );
  });

  it("that only root may read are not taken for missing", async function () {
    if (process.geteuid?.() !== 0) this.skip();
    tree = new KvmTree({ [`${ITEM}alpha`]: "x" });
    addFiles(tree.sysroot, { "run/credentials/@initrd/x": "x" });
    chmodSync(tree.sysroot, 0o755);
    chmodSync(join(tree.sysroot, "run/credentials/@initrd"), 0o700);
    await asNobody(async () => {
      expect(await get("alpha")).to.equal("x");
      await rejects(get("beta"), "ERR_PERMISSION");
    });
  });

  describe("exported", () => {
    let memory: string | undefined;
    let disk: string;
    beforeEach(() => {
      disk = mkdtempSync(join(tmpdir(), "pvbus-creds-"));
      memory = existsSync("/dev/shm") ? mkdtempSync("/dev/shm/pvbus-creds-") : undefined;
      tree = new KvmTree({ [`${ITEM}alpha`]: "1", [`${ITEM}bytes`]: Buffer.from([0, 0xff]) });
    });
    afterEach(() => {
      for (const each of [disk, memory]) if (each !== undefined) rmSync(each, { recursive: true });
    });

    it("are files of their owner alone, in memory", async function () {
      if (memory === undefined) this.skip();
      const directory = join(memory, "new");
      for (const _ of "12") await use((bus, options) => exportCredentials(bus, directory, options));
      expect(readdirSync(directory).sort()).to.deep.equal(["alpha", "bytes"]);
      expect(readFileSync(join(directory, "bytes"))).to.deep.equal(Buffer.from([0, 0xff]));
      expect([directory, join(directory, "alpha")].map((path) => statSync(path).mode & 0o777)).to.deep.equal([
        0o700, 0o400,
      ]);
    });

    it("do not get onto a disk without a word", async function () {
      const onDisk = [0x0102_1994, 0x8584_58f6].includes((await import("node:fs")).statfsSync(disk).type);
      if (onDisk) this.skip();
      await rejects(
        use((bus, options) => exportCredentials(bus, disk, options)),
        "ERR_NOT_SUPPORTED",
      );
      expect(readdirSync(disk)).to.deep.equal([]);
      const { code } = await run(["creds", "export", disk, "--on-disk", ...tree.args]);
      expect([code, readdirSync(disk).sort()]).to.deep.equal([0, ["alpha", "bytes"]]);
    });
  });
});
