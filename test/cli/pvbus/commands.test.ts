import { expect } from "chai";
import { MemoryProvider, type MemorySettings } from "../../../providers/testing.js";
import type { Host, ProviderStore, StoreTarget } from "../../../src/index.js";
import { type Call, openPvbus, pvbusError } from "../../../src/index.js";
import { BARE, run, type Surroundings } from "../../support/command-line.js";

const GIVEN = { "host/name": "vm-1", "host/a=b": "c" };

/** A memory provider class with pairs of its host, its stores changed as the test says. */
function memory(
  settings: MemorySettings = { given: GIVEN },
  change: (store: ProviderStore) => Partial<ProviderStore> = () => ({}),
) {
  return class extends MemoryProvider {
    constructor(host?: Host) {
      super(host, settings);
    }
    override async open(target: StoreTarget, call: Call) {
      const store = await super.open(target, call);
      return Object.assign(store, change(store));
    }
  };
}

/** Runs a command on a memory store. */
const onMemory = (argv: readonly string[], more: Surroundings = {}) =>
  run(["-t", "memory", ...argv], { provider: memory(), ...more });

describe("pvbus commands on an injected bus", () => {
  describe("get", () => {
    it("escapes control characters on a terminal only", async () => {
      const provider = memory({ given: { "host/x": "a\x1b[2Jb\tc\\d\ne" } });
      const plain = await onMemory(["get", "host/x"], { provider });
      expect(plain.stdout).to.equal("a\x1b[2Jb\tc\\d\ne\n");
      const shown = await onMemory(["get", "host/x"], { provider, tty: true });
      expect(shown.stdout).to.equal("a\\u{1b}[2Jb\tc\\d\ne\n");
    });

    it("tells a missing key on standard error alone, as an object with --json", async () => {
      expect(await onMemory(["get", "host/nope"])).to.deep.equal({
        code: 1,
        stdout: "",
        stderr: "pvbus: no such key: host/nope\n",
      });
      const { code, stdout, stderr } = await onMemory(["get", "host/nope", "--json"]);
      expect([code, stdout]).to.deep.equal([1, ""]);
      expect(JSON.parse(stderr)).to.deep.equal({
        error: { code: null, message: "no such key", interface: "pvbus0", key: "host/nope" },
      });
    });
  });

  describe("set and rm", () => {
    it("print nothing, with --json what was done", async () => {
      expect(await onMemory(["set", "guest/k", "v"])).to.deep.equal({ code: 0, stdout: "", stderr: "" });
      const { stdout } = await onMemory(["set", "guest/k", "v", "--json"]);
      expect(JSON.parse(stdout)).to.deep.equal({ key: "guest/k", written: true });
    });

    it("take bytes from standard input as they are", async () => {
      const seen: Uint8Array[] = [];
      const provider = memory({}, () => ({
        write: async (_key, value) => void seen.push(value),
      }));
      await onMemory(["set", "guest/k", "-"], { provider, readInput: async () => Buffer.from("a\r\nb\n") });
      expect(Buffer.concat(seen).toString()).to.equal("a\r\nb\n");
    });

    it("do not wait for standard input when there is no interface", async () => {
      const readInput = () => Promise.reject(new Error("standard input was read"));
      const { code, stderr } = await run(["set", "k", "-"], { readInput });
      expect(code).to.equal(1);
      expect(stderr).to.match(/pvbus detect.*ERR_NO_INTERFACE/);
    });

    it("say that a missing key cannot be removed", async () => {
      expect(await onMemory(["rm", "guest/nope"])).to.deep.equal({
        code: 1,
        stdout: "",
        stderr: "pvbus: no such key: guest/nope\n",
      });
    });
  });

  describe("ls", () => {
    it("shows where a key with = ends", async () => {
      expect((await onMemory(["ls", "host/a=b"])).stdout).to.equal("host/a\\u{3d}b=c\n");
    });

    it("shows names alone where the store lists names only", async () => {
      const provider = memory({}, () => ({
        list: async function* () {
          yield { key: "host/dir", value: undefined };
        },
      }));
      expect((await onMemory(["ls"], { provider })).stdout).to.equal("host/dir\n");
      const { stdout } = await onMemory(["ls", "--json"], { provider });
      expect(JSON.parse(stdout)).to.deep.equal([{ key: "host/dir", value: null }]);
    });

    it("closes the array when the listing fails; the exit code and the error say that it is not whole", async () => {
      const provider = memory({}, () => ({
        list: async function* () {
          yield { key: "host/one", value: Buffer.from("1") };
          throw pvbusError("ERR_CORRUPT", "the rest is no store");
        },
      }));
      const { code, stdout, stderr } = await onMemory(["ls", "--json"], { provider });
      expect(code).to.equal(1);
      expect(JSON.parse(stdout)).to.deep.equal([{ key: "host/one", value: "1" }]);
      expect(JSON.parse(stderr).error).to.include({ code: "ERR_CORRUPT", interface: "pvbus0" });
    });
  });

  describe("watch", () => {
    const changes = memory({}, () => ({
      watch: async function* (_prefix, _call, { ready }) {
        ready();
        yield { key: "host/k", value: Buffer.from("1\n2") };
        yield { key: "-host/k", value: Buffer.from("x") };
        yield { key: "host/k=1", value: undefined };
      },
    }));

    it("prints one line a change that cannot be taken for another", async () => {
      expect(await onMemory(["watch"], { provider: changes })).to.deep.equal({
        code: 0,
        stdout: "host/k=1\\n2\n\\u{2d}host/k=x\n-host/k\\u{3d}1\n",
        stderr: "watching everything on pvbus0\n",
      });
    });

    it("prints one object a line with --json, and says as JSON that it is armed", async () => {
      const { stdout, stderr } = await onMemory(["watch", "host", "--json"], { provider: changes });
      const lines = stdout.trimEnd().split("\n");
      expect(lines.map((line) => JSON.parse(line).value)).to.deep.equal(["1\n2", "x", null]);
      expect(JSON.parse(stderr)).to.deep.equal({ watching: "host", interface: "pvbus0" });
    });

    it("ends with exit 0 when it is interrupted", async () => {
      const user = new AbortController();
      const { code, stdout } = await onMemory(["watch"], {
        signal: user.signal,
        onMessage: () => user.abort(),
      });
      expect([code, stdout]).to.deep.equal([0, ""]);
    });
  });

  it("info keeps its own rows whatever the host calls its facts", async () => {
    const provider = memory({}, () => ({
      facts: async () => ({ vmName: "web-01", other: { vmName: "forged", "x\ny": "z" } }),
    }));
    const { stdout } = await onMemory(["info"], { provider });
    expect(stdout).to.equal("interface: pvbus0 (Memory)\nvmName: web-01\nvmName: forged\nx\\ny: z\n");
  });

  it("detect escapes what a recorded machine says", async () => {
    const detection = {
      ...(await openPvbus({ snapshot: BARE })).detection,
      virtual: true,
      container: "a\nb",
      unreadable: [{ source: "dmi", detail: "c\x1b[2J\nforged" } as const],
    };
    const open = async () => Object.assign(await openPvbus({ snapshot: BARE }), { detection });
    const { stdout } = await run(["detect"], { open });
    expect(stdout.split("\n")).to.have.length(3);
    expect(stdout).to.include("a\\nb").and.to.include("\\u{1b}[2J\\nforged").and.not.to.include("\x1b");
  });

  it("doctor refuses an interface that is not there", async () => {
    const { code, stdout, stderr } = await onMemory(["doctor", "-i", "pvbus99"]);
    expect([code, stdout]).to.deep.equal([1, ""]);
    expect(stderr).to.match(/no interface pvbus99.*ERR_NO_INTERFACE/);
  });

  it("demo tells its steps as JSON", async () => {
    const { code, stdout, stderr } = await run(["demo", "--json"]);
    expect([code, stderr]).to.deep.equal([0, ""]);
    const { detection, steps } = JSON.parse(stdout);
    expect(detection).to.include.keys("virtual", "interfaces");
    expect(steps).to.deep.include({ actor: "guest", text: 'its watch sees External/role become "db"' });
  });

  it("an error of a store is told with its code, interface and key", async () => {
    const { code, stderr } = await onMemory(["set", "host/name", "x", "--json"]);
    expect(code).to.equal(1);
    expect(stderr.match(/\n/g)).to.have.length(1);
    const { error } = JSON.parse(stderr);
    expect(error).to.include({ code: "ERR_READ_ONLY", interface: "pvbus0", key: "host/name" });
  });

  it("an error that nobody foresaw is not hidden", async () => {
    const bug = new Error("bug");
    const open = () => Promise.reject(bug);
    expect(await run(["ls"], { open }).catch((error) => error)).to.equal(bug);
  });

  it("a message of the log stays one line whatever its fields hold", async () => {
    const open: Surroundings["open"] = async (options) => {
      options.logger?.warn("a\nb", { error: new Error("why"), big: 1n, text: "\x9b" });
      return openPvbus(options);
    };
    const { stderr } = await run(["detect", "-v"], { open });
    expect(stderr).to.equal('pvbus: warning: a\\nb {"error":"why","big":"1","text":"\\u009b"}\n');
  });
});
