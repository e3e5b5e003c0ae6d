import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import {
  HypervHostSimulator,
  KvmHostSimulator,
  MemoryProvider,
  VmxHost,
} from "../../../providers/testing.js";
import { takeAction } from "../../../src/cli/commands/take-action.js";
import { createContext } from "../../../src/cli/io/context.js";
import { type Bus, openPvbus, pvbusError } from "../../../src/index.js";
import { deliverOnce } from "../../../src/tools/index.js";
import { bash, type Run, run as runHere } from "../../support/command-line.js";
import { codeOf, memoryInterface } from "../../support/memory-interface.js";
import { PoolTree } from "../../support/pools.js";
import { SimulatedVmx } from "../../support/vmware.js";

const NS = "com.example.agent";
const lines = ({ stdout }: Run): unknown[] =>
  stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));

describe("deliverOnce", () => {
  it("delivers, then erases; what fails behind the delivery is part of the answer", async () => {
    const provider = new MemoryProvider();
    const failing = await memoryInterface(provider, () => ({
      delete: () => Promise.reject(pvbusError("ERR_DISCONNECTED", "gone")),
    }));
    await failing.write("guest/token", "secret");
    const delivered: string[] = [];
    const deliver = async (value: Uint8Array): Promise<void> =>
      void delivered.push(Buffer.from(value).toString());
    const found = await deliverOnce(failing, "guest/token", deliver);
    expect([delivered, found?.erased]).to.deep.equal([["secret"], "no"]);
    expect(found?.failure).to.have.property("code", "ERR_DISCONNECTED");
    const working = await memoryInterface(provider);
    expect(await deliverOnce(working, "guest/token", deliver)).to.deep.equal({
      value: new Uint8Array(Buffer.from("secret")),
      erased: "host",
    });
    expect(await deliverOnce(working, "guest/token", deliver)).to.equal(undefined);
    expect(delivered).to.deep.equal(["secret", "secret"]);
  });

  it("erases nothing when it could not be delivered", async () => {
    const target = await memoryInterface();
    await target.write("guest/token", "secret");
    const refuse = (): Promise<void> => Promise.reject(pvbusError("ERR_NO_SPACE", "full"));
    expect(await codeOf(deliverOnce(target, "guest/token", refuse))).to.equal("ERR_NO_SPACE");
    expect(await target.read("guest/token")).to.equal("secret");
  });
});

describe("pvbus take", () => {
  describe("on Hyper-V", () => {
    let tree: PoolTree;
    beforeEach(async () => {
      tree = new PoolTree();
      const host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
      await host.addKvpItems([{ name: `${NS}/token`, data: "secret" }]);
    });
    afterEach(() => tree[Symbol.asyncDispose]());
    const run = (...argv: readonly string[]) =>
      runHere(argv, { env: { PVBUS_SYSROOT: tree.sysroot }, open: (options) => openPvbus(options) });

    it("prints what the host keeps, and says that it is still there", async () => {
      const key = `External/${NS}/token`;
      expect(await run("take", key)).to.deep.equal({
        code: 0,
        stdout: "secret\n",
        stderr: `pvbus: the value of ${key} was read, and it cannot be erased from here\n`,
      });
      const asJson = await run("take", key, "--json");
      expect(lines(asJson)).to.deep.equal([
        { key, value: "secret" },
        { key, erased: "no" },
      ]);
      expect([asJson.code, asJson.stderr]).to.deep.equal([0, ""]);
      expect(lines(await run("take", "-n", NS, "token", "--json", "--erase", "first"))).to.deep.equal([
        { key: "token", value: "secret" },
        { key: "token", erased: "no" },
      ]);
    });

    it("prints nothing of it with --require-erase", async () => {
      for (const argv of [[`External/${NS}/token`], ["-n", NS, "token"], ["-n", NS, "token", "--json"]]) {
        const { code, stdout, stderr } = await run("take", "--require-erase", ...argv);
        expect([code, stdout]).to.deep.equal([1, ""]);
        expect(stderr).to.contain("ERR_READ_ONLY");
      }
      expect((await run("get", `External/${NS}/token`)).stdout).to.equal("secret\n");
    });

    it("erases what the guest has written, in either order", async () => {
      for (const more of [[], ["--erase", "after"], ["--erase=first"], ["--require-erase"]]) {
        await run("set", "Guest/token", "own");
        const { code, stdout, stderr } = await run("take", "Guest/token", ...more);
        expect([code, stdout, stderr], more.join()).to.deep.equal([0, "own\n", ""]);
        const again = await run("take", "Guest/token", ...more);
        expect([again.code, again.stdout, again.stderr]).to.deep.equal([
          1,
          "",
          "pvbus: no such key: Guest/token\n",
        ]);
      }
    });

    it("prints nothing and exits with 1 when the key is missing, and 2 for another order", async () => {
      const missing = await run("take", "-n", NS, "none", "--json");
      expect([missing.code, missing.stdout]).to.deep.equal([1, ""]);
      const wrong = await run("take", "x", "--erase", "never");
      expect([wrong.code, wrong.stderr]).to.deep.equal([
        2,
        "pvbus: --erase takes after or first, not 'never'\n",
      ]);
    });

    it("leaves the value where nobody takes what it prints, or the disk is full", async () => {
      await run("set", "Guest/token", "own");
      const env = { PVBUS_SYSROOT: tree.sysroot };
      // A pipe whose reader has gone: opened by both ends, then left by the one.
      const { code } = bash(
        'd=$(mktemp -d); mkfifo "$d/f"; exec 3<>"$d/f" 4>"$d/f" 3<&-; rm -r "$d"; "$node" "$pvbus" take Guest/token >&4',
        env,
      );
      expect(code).to.equal(0);
      expect((await run("get", "Guest/token")).stdout).to.equal("own\n");
      const full = bash('"$node" "$pvbus" take Guest/token >/dev/full', env);
      expect([full.code, full.stderr]).to.match(/^1,.*ENOSPC/);
      expect((await run("get", "Guest/token")).stdout).to.equal("own\n");
    });

    it("writes to a file as it is", async () => {
      const folder = mkdtempSync(join(tmpdir(), "pvbus-take-"));
      await run("set", "Guest/token", "two\nlines");
      bash(`"$node" "$pvbus" take Guest/token >${folder}/file`, { PVBUS_SYSROOT: tree.sysroot });
      expect(readFileSync(join(folder, "file"), "utf8")).to.equal("two\nlines\n");
      rmSync(folder, { recursive: true });
    });
  });

  it("overwrites on VMware, where the host keeps the key", async () => {
    const vmx = new VmxHost();
    vmx.set(`guestinfo.${NS}.token`, "secret");
    await using machine = await SimulatedVmx.start(vmx);
    const take = await runHere([
      ...["take", "-n", NS, "token", "--json", "--require-erase"],
      ...["-t", "VMware", "--channel", machine.channel],
    ]);
    expect(lines(take)).to.deep.equal([
      { key: "token", value: "secret" },
      { key: "token", erased: "overwritten" },
    ]);
    expect(Buffer.from(vmx.get(`guestinfo.${NS}.token`) ?? "").toString()).not.to.contain("secret");
  });

  it("deletes on KVM's channel, at the host", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-take-"));
    const host = new KvmHostSimulator();
    await host.listen(join(folder, "meta"));
    try {
      host.set("token", "secret");
      const { stdout } = await runHere([
        ...["take", "meta/token", "--json"],
        ...["-t", "KVM", "--channel", `unix:${join(folder, "meta")}`],
      ]);
      expect(lines({ stdout, stderr: "", code: 0 })).to.deep.equal([
        { key: "meta/token", value: "secret" },
        { key: "meta/token", erased: "host" },
      ]);
    } finally {
      await host.stop();
      rmSync(folder, { recursive: true });
    }
  });

  it("has the value written and flushed before it is erased", async () => {
    const steps: string[] = [];
    const provider = new MemoryProvider(undefined, { given: {} });
    const target = await memoryInterface(provider, (store) => ({
      delete: async (key, call) => {
        steps.push("erased");
        return (await store.delete?.(key, call)) === true;
      },
    }));
    await target.write("guest/token", "secret");
    const bus = { interfaces: [target], primary: target, close: async () => undefined } as unknown as Bus;
    const nowhere = { write: () => true };
    const outside = {
      stdout: { write: (data: unknown) => steps.push(`wrote ${data}`), flush: () => steps.push("flushed") },
      stderr: nowhere,
      env: {},
      readInput: async () => new Uint8Array(),
      open: async () => bus,
    };
    const words = { commands: [], manifests: [], providers: [] };
    const context = createContext(outside, { json: true }, words, new AbortController().signal);
    expect(await takeAction(context, ["guest/token"], {}, [])).to.equal(0);
    expect(steps).to.deep.equal([
      'wrote {"key":"guest/token","value":"secret"}\n',
      "flushed",
      "erased",
      'wrote {"key":"guest/token","erased":"host"}\n',
    ]);
  });

  it("gives binary values in base64 as JSON, as they are elsewhere, and says why erasing has failed", async () => {
    class Failing extends MemoryProvider {
      override async open(...given: Parameters<MemoryProvider["open"]>): ReturnType<MemoryProvider["open"]> {
        const store = await super.open(...given);
        await store.write("guest/token", Buffer.from([0, 255]), given[1]);
        store.erase = () => Promise.reject(pvbusError("ERR_DISCONNECTED", "the host has gone"));
        return store;
      }
    }
    const failed = await runHere(["take", "guest/token", "-t", "memory", "--json"], { provider: Failing });
    expect(lines(failed)).to.deep.equal([
      { key: "guest/token", valueBase64: "AP8=" },
      { key: "guest/token", erased: "no" },
    ]);
    expect([failed.code, JSON.parse(failed.stderr).error.code]).to.deep.equal([1, "ERR_DISCONNECTED"]);
  });
});
