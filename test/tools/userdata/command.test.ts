import { createHash } from "node:crypto";
import { expect } from "chai";
import { HypervTree, VmwareSocket } from "../../support/boot-stores.js";
import { run } from "../../support/command-line.js";

const CONFIG = "#cloud-config\nhostname: x\n";
const BASE64 = Buffer.from(CONFIG).toString("base64");

describe("pvbus userdata", () => {
  let store: VmwareSocket;
  const userdata = (...args: readonly string[]) => run(["userdata", ...args, ...store.args]);
  before(async () => {
    store = await VmwareSocket.start({
      "guestinfo.userdata": BASE64,
      "guestinfo.userdata.encoding": "base64",
      "guestinfo.vendordata": "---",
      "guestinfo.ignition.config.data": "x",
      "guestinfo.ignition.config.data.encoding": "rot13",
      "guestinfo.org.pvbus.user-data": "portable",
    });
  });
  after(() => store[Symbol.asyncDispose]());

  it("lists a line for each place, faults and what was removed among them", async () => {
    const { code, stdout } = await userdata("list");
    expect(code).to.equal(0);
    const [first, second, third, fourth, ...rest] = stdout.split("\n");
    expect(first).to.equal(
      `user-data\tguestinfo\tpvbus0\tguestinfo.userdata\tbase64, ${CONFIG.length} bytes`,
    );
    expect(second).to.equal("user-data\tportable\tpvbus0\torg.pvbus/user-data\tplain, 8 bytes");
    expect(third).to.match(
      /^vendor-data\tguestinfo\tpvbus0\tguestinfo.vendordata\tnothing: cloud-init has removed it$/,
    );
    expect(fourth).to.match(
      /^ignition\tguestinfo\tpvbus0\tguestinfo.ignition.config.data\tERR_VALUE_INVALID: /,
    );
    expect(rest).to.deep.equal([""]);
  });

  it("lists as JSON which of them counts", async () => {
    const listed = JSON.parse((await userdata("list", "--json")).stdout);
    expect(listed.slice(0, 2)).to.deep.equal([
      {
        kind: "user-data",
        store: "guestinfo",
        interface: "pvbus0",
        key: "guestinfo.userdata",
        encoding: "base64",
        bytes: CONFIG.length,
        sha256: createHash("sha256").update(CONFIG).digest("hex"),
        consumer: "cloud-init",
        used: true,
      },
      {
        kind: "user-data",
        store: "portable",
        interface: "pvbus0",
        key: "org.pvbus/user-data",
        encoding: "plain",
        bytes: 8,
        sha256: createHash("sha256").update("portable").digest("hex"),
        consumer: "pvbus",
        used: false,
      },
    ]);
    expect(listed[2]).to.include({ kind: "vendor-data", absent: "cloud-init has removed it" });
    expect(listed[3].error.code).to.equal("ERR_VALUE_INVALID");
  });

  it("prints the bytes as they are, with --json where they came from", async () => {
    expect(await userdata("get", "user-data")).to.deep.equal({ code: 0, stdout: CONFIG, stderr: "" });
    expect((await userdata("get", "user-data", "--as-is")).stdout).to.equal(BASE64);
    expect((await userdata("get", "user-data", "--from", "PORTABLE")).stdout).to.equal("portable");
    const document = JSON.parse((await userdata("get", "user-data", "--json")).stdout);
    expect(document).to.include({
      store: "guestinfo",
      encoding: "base64",
      bytes: CONFIG.length,
      value: CONFIG,
    });
  });

  it("ends with 1 where there is none, and with 2 for what is no kind", async () => {
    expect(await userdata("get", "vendor-data")).to.deep.equal({
      code: 1,
      stdout: "",
      stderr: "pvbus: the host gives no vendor-data (guestinfo.vendordata: cloud-init has removed it)\n",
    });
    const failed = await userdata("get", "ignition", "--json");
    expect([failed.code, failed.stdout]).to.deep.equal([1, ""]);
    expect(JSON.parse(failed.stderr).error).to.include({
      code: "ERR_VALUE_INVALID",
      key: "guestinfo.ignition.config.data",
      interface: "pvbus0",
    });
    const { code, stderr } = await userdata("get", "userdata");
    expect([code, stderr]).to.deep.equal([
      2,
      "pvbus: userdata get takes a kind: user-data, meta-data, vendor-data, network-config, ignition\n",
    ]);
  });

  it("warns of parts behind a gap and gives what is before it", async () => {
    await using hyperv = await HypervTree.start();
    await hyperv.host.addKvpItems([0, 2].map((at) => ({ name: `ignition.config.${at}`, data: `{${at}}` })));
    const { code, stdout, stderr } = await run(["userdata", "get", "ignition", ...hyperv.args]);
    expect([code, stdout]).to.deep.equal([0, "{0}"]);
    expect(stderr).to.contain("there are parts behind External/ignition.config.0");
  });
});
