import { expect } from "chai";
import { MemoryProvider, memoryManifest } from "../../../providers/testing.js";
import { type OpenOptions, openPvbus, pvbusError } from "../../../src/index.js";
import { BARE, type Run, run, type Surroundings } from "../../support/command-line.js";

const NS = "com.example.agent";
const LONG = "0123456789".repeat(500);

describe("pvbus with portable names", () => {
  let provider: MemoryProvider;
  const pvbus = (argv: readonly string[], more: Surroundings = {}): Promise<Run> =>
    run(argv, {
      open: (options: OpenOptions) =>
        openPvbus({
          snapshot: BARE,
          ...options,
          interfaces: options.interfaces ?? [{ type: "memory" }],
          providers: [memoryManifest(provider)],
        }),
      ...more,
    });
  const done = { code: 0, stdout: "", stderr: "" };

  beforeEach(() => {
    provider = new MemoryProvider(undefined, {
      given: { [`host/${NS}/config`]: "from the host", "host/other": "x" },
    });
  });

  it("gets what the host gave, sets and removes what the guest publishes", async () => {
    expect(await pvbus(["get", "-n", NS, "config"])).to.deep.equal({ ...done, stdout: "from the host\n" });
    expect(await pvbus(["set", "-n", NS, "status", "ready"])).to.deep.equal(done);
    expect(await pvbus(["get", "-n", NS, "status"])).to.include({ code: 1, stdout: "" });
    expect(await pvbus(["get", "--namespace", NS, "--published", "status"])).to.include({
      stdout: "ready\n",
    });
    expect(JSON.parse((await pvbus(["set", "-n", NS, "status", "up", "--json"])).stdout)).to.deep.equal({
      key: "status",
      written: true,
    });
    expect(
      JSON.parse((await pvbus(["get", "-n", NS, "--published", "status", "--json"])).stdout),
    ).to.deep.equal({
      key: "status",
      value: "up",
    });
    expect(JSON.parse((await pvbus(["rm", "-n", NS, "status", "--json"])).stdout)).to.deep.equal({
      key: "status",
      deleted: true,
    });
    expect(await pvbus(["rm", "-n", NS, "status"])).to.deep.equal({
      code: 1,
      stdout: "",
      stderr: "pvbus: no such key: status\n",
    });
  });

  it("takes long values from standard input, and refuses what is no text", async () => {
    const readInput = async (): Promise<Uint8Array> => Buffer.from(LONG);
    expect(await pvbus(["set", "-n", NS, "report", "-"], { readInput })).to.deep.equal(done);
    expect((await pvbus(["get", "-n", NS, "--published", "report"])).stdout).to.equal(`${LONG}\n`);
    const binary = async (): Promise<Uint8Array> => Buffer.from([0xff]);
    const refused = await pvbus(["set", "-n", NS, "report", "-"], { readInput: binary });
    expect(refused.code).to.equal(1);
    expect(refused.stderr).to.include("ERR_VALUE_INVALID");
    expect((await pvbus(["get", "-n", NS, "--published", "report"])).stdout).to.equal(`${LONG}\n`);
  });

  it("lists both directions, with who has put each there", async () => {
    await pvbus(["set", "-n", NS, "status", "ready"]);
    await pvbus(["set", "-n", NS, "long", LONG]);
    expect((await pvbus(["ls", "-n", NS])).stdout).to.equal(
      `config=from the host\t(host)\nstatus=ready\t(guest)\nlong=${LONG}\t(guest)\n`,
    );
    expect((await pvbus(["ls", "-n", NS, "st"])).stdout).to.equal("status=ready\t(guest)\n");
    expect(JSON.parse((await pvbus(["ls", "-n", NS, "--json"])).stdout)).to.deep.equal([
      { key: "config", value: "from the host", direction: "host" },
      { key: "status", value: "ready", direction: "guest" },
      { key: "long", value: LONG, direction: "guest" },
    ]);
    expect(JSON.parse((await pvbus(["ls", "-n", "com.nobody", "--json"])).stdout)).to.deep.equal([]);
  });

  it("watches what the host gives, of all names or of one", async () => {
    const give = (text: string): void => {
      if (!text.startsWith("watching")) return;
      provider.give("host/elsewhere", "x");
      provider.give(`host/${NS}/other`, "other");
      provider.give(`host/${NS}/config`, undefined);
    };
    expect(await pvbus(["watch", "-n", NS, "--count", "2"], { onMessage: give })).to.deep.equal({
      code: 0,
      stdout: "other=other\n-config\n",
      stderr: "watching everything\n",
    });
    provider.give(`host/${NS}/config`, "again");
    expect(await pvbus(["watch", "-n", NS, "config", "--count", "1"], { onMessage: give })).to.deep.equal({
      code: 0,
      stdout: "-config\n",
      stderr: "watching config\n",
    });
  });

  it("refuses what is no name or namespace, and what does not go together", async () => {
    for (const argv of [
      ["get", "-n", "a/b", "x"],
      ["get", "-n", NS, "a__b"],
      ["set", "-n", NS, "", "v"],
      ["rm", "-n", NS, "a b"],
      ["watch", "-n", NS, "a/b"],
    ]) {
      const { code, stderr } = await pvbus(argv);
      expect([code, /\[ERR_KEY_INVALID\]/.test(stderr)], argv.join(" ")).to.deep.equal([1, true]);
    }
    for (const argv of [
      ["get", "--published", "x"],
      ["get", "-n", NS, "--published", "--wait", "x"],
      ["ls", "-n", NS, "-p"],
      ["get", "-n", NS],
    ])
      expect((await pvbus(argv)).code, argv.join(" ")).to.equal(2);
  });

  it("says where there is no interface", async () => {
    const open = (options: OpenOptions) => openPvbus({ snapshot: BARE, ...options });
    expect((await run(["get", "-n", NS, "x"], { open })).stderr).to.include("[ERR_NO_INTERFACE]");
  });

  it("refuses to wait, to watch and to tell facts in a confidential machine unless the host is trusted", async () => {
    const open = async (options: OpenOptions) => {
      const bus = await openPvbus({
        snapshot: BARE,
        ...options,
        interfaces: [{ type: "memory" }],
        providers: [memoryManifest(provider)],
      });
      expect(options.detect, "detection was asked for").to.equal(true);
      return Object.assign(bus, { detection: { ...bus.detection, confidential: "sev-snp" } });
    };
    for (const argv of [
      ["get", "--wait", "-n", NS, "config"],
      ["get", "--wait", "host/other"],
      ["watch", "--timeout", "0.05", "-n", NS],
      ["watch", "--timeout", "0.05"],
      ["info"],
    ]) {
      const refused = await pvbus(["-t", "memory", ...argv], { open });
      expect([refused.code, refused.stdout], argv.join(" ")).to.deep.equal([1, ""]);
      expect(refused.stderr).to.include("[ERR_PERMISSION]").and.include("--trust-host");
      expect(await pvbus(["-t", "memory", ...argv, "--trust-host"], { open })).to.include({ code: 0 });
    }
  });

  describe("get --wait", () => {
    it("prints a value that is there, and one that comes", async () => {
      expect(await pvbus(["get", "--wait", "-n", NS, "config"])).to.deep.equal({
        ...done,
        stdout: "from the host\n",
      });
      expect(await pvbus(["get", "--wait", "host/other"])).to.deep.equal({ ...done, stdout: "x\n" });
      for (const argv of [["-n", NS, "late"], ["host/late"]]) {
        const waiting = pvbus(["get", "--wait", "--json", ...argv]);
        setImmediate(() => {
          provider.give(`host/${NS}/late`, LONG);
          provider.give("host/late", LONG);
        });
        expect(JSON.parse((await waiting).stdout)).to.deep.equal({ key: argv.at(-1), value: LONG });
      }
    });

    it("ends at --timeout with exit 1 and ERR_TIMEOUT", async () => {
      const { code, stdout, stderr } = await pvbus(["get", "--wait", "--timeout", "0.05", "-n", NS, "never"]);
      expect([code, stdout]).to.deep.equal([1, ""]);
      expect(stderr).to.include("[ERR_TIMEOUT]");
    });

    it("waits for an interface and says once what it waits for; a bad key ends it at once", async () => {
      let opened = 0;
      const open = async (options: OpenOptions) => {
        opened++;
        if (opened === 1) throw pvbusError("ERR_UNAVAILABLE", "no module yet");
        if (opened === 2) return openPvbus({ snapshot: BARE, ...options });
        return openPvbus({
          snapshot: BARE,
          ...options,
          interfaces: [{ type: "memory" }],
          providers: [memoryManifest(provider)],
        });
      };
      const { code, stdout, stderr } = await pvbus(["get", "--wait", "-n", NS, "config"], { open });
      expect([code, stdout, opened]).to.deep.equal([0, "from the host\n", 3]);
      expect(stderr.split("\n").filter((line) => line.startsWith("pvbus: waiting: "))).to.have.length(2);
      expect((await pvbus(["get", "--wait", "-n", NS, "a/b"])).stderr).to.include("[ERR_KEY_INVALID]");
      expect((await pvbus(["get", "--wait", "nowhere/k"])).stderr).to.include("[ERR_KEY_INVALID]");
    }).timeout(10_000);
  });
});
