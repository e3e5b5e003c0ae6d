import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { openPvbus } from "../../../src/index.js";
import { type NoCloudOptions, writeNoCloudSeed } from "../../../src/tools/index.js";
import { writeSeedDirectory } from "../../../src/tools/userdata/seed-directory.js";
import { BOOT_STORES, type BootStore, HypervTree, KvmTree, smbiosFiles } from "../../support/boot-stores.js";
import { run } from "../../support/command-line.js";
import { rejects } from "../../support/rejects.js";

const CONFIG = "#cloud-config\nhostname: x\n";

describe("a NoCloud seed", () => {
  let folder: string;
  let seed: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-seed-"));
    seed = join(folder, "seed/nocloud");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const write = async (store: BootStore, options: NoCloudOptions = {}) => {
    await using bus = await openPvbus(store.open);
    return await writeNoCloudSeed(bus, seed, options);
  };
  const files = (): Record<string, string> =>
    Object.fromEntries(
      readdirSync(seed)
        .sort()
        .map((name) => [name, readFileSync(join(seed, name), "utf8")]),
    );

  for (const [type, start] of Object.entries(BOOT_STORES))
    it(`is written from ${type}`, async () => {
      await using store = await start();
      await store.give("user-data", CONFIG);
      await store.give("network-config", "version: 2\n");
      const { outcome, instanceId, files: names } = await write(store);
      expect([outcome, names]).to.deep.equal(["written", ["meta-data", "user-data", "network-config"]]);
      expect(files()).to.deep.equal({
        "meta-data": `instance-id: ${instanceId}\n`,
        "network-config": "version: 2\n",
        "user-data": CONFIG,
      });
      expect(instanceId).to.match(type === "Xen" ? /^9b1deb4d-.{27}-[0-9a-f]{16}$/ : /-[0-9a-f]{16}$/);
    });

  it("has both files that cloud-init must find, private, and an instance id that follows from the data", async () => {
    await using store = new KvmTree({ "opt/org.pvbus/meta-data": "local-hostname: web\n" });
    const first = await write(store);
    expect(files()).to.deep.equal({
      "meta-data": `instance-id: ${first.instanceId}\nlocal-hostname: web\n`,
      "user-data": "",
    });
    expect(statSync(join(seed, "meta-data")).mode & 0o777).to.equal(0o600);
    expect(statSync(seed).mode & 0o777).to.equal(0o700);
    const before = statSync(seed).ino;
    expect(await write(store)).to.deep.include({ outcome: "unchanged", instanceId: first.instanceId });
    expect(statSync(seed).ino).to.equal(before);
    store.add({ "opt/org.pvbus/user-data": CONFIG });
    const second = await write(store);
    expect(second.outcome).to.equal("written");
    expect(second.instanceId).not.to.equal(first.instanceId);
    expect(files()["user-data"]).to.equal(CONFIG);
    expect(readdirSync(join(folder, "seed")).sort()).to.deep.equal([".nocloud.pvbus", "nocloud"]);
  });

  it("keeps the instance id that the host gives", async () => {
    await using store = new KvmTree({}, smbiosFiles("ds=nocloud;i=abc;h=hh"));
    expect(await write(store)).to.deep.include({ outcome: "written", instanceId: "abc" });
    expect(JSON.parse(files()["meta-data"] ?? "")).to.deep.equal({
      "instance-id": "abc",
      "local-hostname": "hh",
    });
  });

  it("of somebody else, or changed by him, stays as it is", async () => {
    await using store = new KvmTree({ "opt/org.pvbus/user-data": CONFIG });
    mkdirSync(seed, { recursive: true });
    writeFileSync(join(seed, "user-data"), "theirs");
    await rejects(write(store), "ERR_CONFLICT");
    expect(files()).to.deep.equal({ "user-data": "theirs" });
    rmSync(seed, { recursive: true });
    await write(store);
    writeFileSync(join(seed, "user-data"), "changed");
    store.add({ "opt/org.pvbus/user-data": "#cloud-config\n" });
    await rejects(write(store), "ERR_CONFLICT");
    expect(files()["user-data"]).to.equal("changed");
    rmSync(seed, { recursive: true });
    symlinkSync(folder, seed);
    await rejects(write(store), "ERR_CONFLICT");
  });

  it("goes over an empty directory, and what a killed writer left does not hinder it", async () => {
    await using store = new KvmTree({ "opt/org.pvbus/user-data": CONFIG });
    mkdirSync(seed, { recursive: true });
    expect((await write(store)).outcome).to.equal("written");
    // Killed behind the marker and before the change: both are ours.
    const marker = join(folder, "seed/.nocloud.pvbus");
    writeFileSync(marker, `${readFileSync(marker, "utf8")}${"0".repeat(64)}\n`);
    writeFileSync(`${marker}.new`, "half");
    mkdirSync(`${marker}-Ab12/old`, { recursive: true });
    store.add({ "opt/org.pvbus/user-data": "#cloud-config\n" });
    expect((await write(store)).outcome).to.equal("written");
    expect(files()["user-data"]).to.equal("#cloud-config\n");
    expect(readdirSync(join(folder, "seed")).sort()).to.deep.equal([".nocloud.pvbus", "nocloud"]);
  });

  it("is never seen in part", async () => {
    let torn = 0;
    let looks = 0;
    let isOver = false;
    const looking = (async () => {
      while (!isOver) {
        await new Promise(setImmediate);
        try {
          const [a, b] = ["meta-data", "user-data"].map((name) => readFileSync(join(seed, name), "utf8"));
          looks++;
          if (a !== b || a?.length !== 4) torn++;
        } catch {
          // The moment in which the old one is gone and the new one is not there yet.
        }
      }
    })();
    for (let at = 0; at < 15; at++) {
      const text = Buffer.from(String(at).padStart(4, "0"));
      await writeSeedDirectory(seed, { "meta-data": text, "user-data": text });
    }
    isOver = true;
    await looking;
    expect(looks).to.be.greaterThan(0);
    expect(torn).to.equal(0);
  });

  it("is not written without data: exit 1, and 0 for who waits", async () => {
    await using store = new KvmTree();
    const args = ["userdata", "nocloud", seed, ...store.args];
    expect(await run(args)).to.deep.include({ code: 1, stdout: "" });
    expect(await run([...args, "--wait"])).to.deep.include({ code: 0, stdout: "" });
    expect(existsSync(seed)).to.equal(false);
    store.add({ "opt/org.pvbus/user-data": CONFIG });
    const { code, stdout } = await run([...args, "--wait", "--json"]);
    expect(code).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.include({ outcome: "written", files: ["meta-data", "user-data"] });
  });

  it("waits for pairs that come one after the other, until the host is silent", async function () {
    this.timeout(30_000);
    await using store = await HypervTree.start();
    const waiting = write(store, { wait: true });
    const pieces = Object.entries({
      "user-data": CONFIG,
      "vendor-data": "v",
      "network-config": "version: 2\n",
    });
    for (const [name, value] of pieces) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await store.give(name, value);
    }
    expect(await waiting).to.deep.include({
      outcome: "written",
      files: ["meta-data", "user-data", "vendor-data", "network-config"],
    });
  });

  it("ends its waiting at the limit where no daemon comes", async () => {
    await using store = await HypervTree.start();
    for (const number of [0, 1, 2, 3, 4]) rmSync(store.tree.path(number));
    expect(await write(store, { wait: true, timeoutMs: 500 })).to.deep.equal({
      outcome: "nothing",
      files: [],
    });
  });
});
