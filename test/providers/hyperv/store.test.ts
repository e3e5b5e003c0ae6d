import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { HypervProvider, type HypervStore } from "../../../providers/hyperv/index.js";
import { encodeRecord, RECORD_SIZE } from "../../../providers/hyperv/protocol/record.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, openPvbus } from "../../../src/index.js";
import { collect, fixture, PoolTree, pairsOf } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";

const isRoot = process.geteuid?.() === 0;
const pair = (key: string, value: string): Buffer =>
  encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });

/** Waits until a file just written counts as settled, so that it is read without a lock. */
async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 80));
}

describe("HypervStore", () => {
  let tree: PoolTree;
  beforeEach(() => {
    tree = new PoolTree();
  });
  afterEach(() => tree[Symbol.asyncDispose]());

  describe("reading", () => {
    it("gives the pairs of the genuine pools by their proper pool names", async () => {
      tree.put(0, fixture("pool0_basic.bin"));
      tree.put(3, fixture("pool3_parameters.bin"));
      const hv = await tree.open();
      expect(await hv.read("External/alpha")).to.equal("one");
      expect(await hv.read("external/com.example.agent/config")).to.equal('{"role":"web","replicas":3}');
      expect(await hv.read("Guest/Parameters/VirtualMachineName")).to.equal("web-01");
      expect(await hv.read("External/Alpha")).to.equal(undefined);
      expect(await collect(hv.list("External"))).to.deep.equal([
        { key: "External/alpha", value: "one" },
        { key: "External/beta", value: "two" },
        { key: "External/com.example.agent/config", value: '{"role":"web","replicas":3}' },
      ]);
      expect((await collect(hv.list("Guest/Parameters/"))).length).to.equal(12);
      expect((await hv.facts()).vmName).to.equal("web-01");
    });

    it("takes the last of duplicates, as the host does, and lists each key once", async () => {
      tree.put(1, fixture("pool1_duplicates_before.bin"));
      const hv = await tree.open();
      expect(await hv.read("Guest/dup")).to.equal("2");
      expect(await collect(hv.list("Guest/"))).to.deep.equal([
        { key: "Guest/other", value: "o" },
        { key: "Guest/dup", value: "2" },
      ]);
    });

    it("passes over empty keys and torn tails", async () => {
      tree.put(0, fixture("pool0_empty_key.bin"));
      tree.put(1, fixture("pool1_torn_before.bin"));
      const hv = await tree.open();
      expect(await collect(hv.list("External"))).to.deep.equal([{ key: "External/after", value: "x" }]);
      expect(await collect(hv.list("Guest"))).to.deep.equal([{ key: "Guest/a", value: "1" }]);
    });

    it("keeps raw bytes that are not UTF-8 and reads keys back as it lists them", async () => {
      const record = pair("k", "v");
      record[1] = 0xff;
      record[513] = 0xfe;
      tree.put(0, record);
      const hv = await tree.open();
      const [entry] = await collect(hv.list("External"));
      expect(entry?.key).to.equal("External/k\ufffd");
      expect(entry?.value).to.equal("v\ufffd");
      expect([...(entry?.bytes ?? [])]).to.deep.equal([0x76, 0xfe]);
      expect([...((await hv.readBytes("External/k\ufffd")) ?? [])]).to.deep.equal([0x76, 0xfe]);
    });

    it("sees a change made within the same tick of the clock", async () => {
      const hv = await tree.open();
      for (let i = 0; i < 50; i++) {
        tree.put(0, pair("k", String(i)));
        expect(await hv.read("External/k")).to.equal(String(i));
      }
    });

    it("follows a pool file that another one replaced", async () => {
      tree.put(0, pair("k", "old"));
      const hv = await tree.open();
      expect(await hv.read("External/k")).to.equal("old");
      writeFileSync(join(tree.directory, "new"), pair("k", "new"));
      renameSync(join(tree.directory, "new"), tree.path(0));
      expect(await hv.read("External/k")).to.equal("new");
    });

    it("pages through a listing without losing what stays, while the pool changes", async () => {
      const count = 1000;
      tree.put(1, Buffer.concat(Array.from({ length: count }, (_, i) => pair(`k${i}`, `v${i}`))));
      await settle();
      const reader = await tree.open();
      const writer = await tree.open();
      const seen: string[] = [];
      for await (const { key } of reader.list("Guest")) {
        seen.push(key);
        if (seen.length === 150) {
          await writer.delete("Guest/k3");
          await writer.delete("Guest/k500");
          await writer.write("Guest/new", "n");
        }
      }
      expect(new Set(seen).size).to.equal(seen.length);
      const stays = Array.from({ length: count }, (_, i) => `Guest/k${i}`).filter(
        (key) => key !== "Guest/k3" && key !== "Guest/k500",
      );
      expect(stays.filter((key) => !seen.includes(key))).to.deep.equal([]);
      expect(seen).to.include("Guest/new");
    });

    it("lists every pool that exists for the empty prefix", async () => {
      tree.put(0, pair("e", "1"));
      tree.put(1, pair("g", "2"));
      tree.put(3, pair("p", "3"));
      rmSync(tree.path(2));
      const hv = await tree.open();
      expect((await collect(hv.list())).map(({ key }) => key)).to.deep.equal([
        "External/e",
        "Guest/g",
        "Guest/Parameters/p",
      ]);
    });
  });

  describe("writing", () => {
    it("writes a record of the very layout of the vendor's daemon", async () => {
      const hv = await tree.open();
      await hv.write("Guest/alpha", "one");
      expect(tree.get(1).equals(fixture("pool0_basic.bin").subarray(0, RECORD_SIZE))).to.equal(true);
    });

    it("updates in place, keeps order, zero-fills the record and touches no other byte", async () => {
      const before = fixture("pool0_stale_after_modify.bin");
      tree.put(1, before);
      const hv = await tree.open();
      await hv.write("Guest/secret_key_name", "yy");
      const after = tree.get(1);
      expect(after.subarray(0, RECORD_SIZE).equals(before.subarray(0, RECORD_SIZE))).to.equal(true);
      expect(after.subarray(RECORD_SIZE).equals(pair("secret_key_name", "yy"))).to.equal(true);
    });

    it("keeps the file's inode and mode", async () => {
      chmodSync(tree.path(1), 0o600);
      const before = statSync(tree.path(1));
      const hv = await tree.open();
      await hv.write("Guest/a", "1");
      await hv.delete("Guest/a");
      const after = statSync(tree.path(1));
      expect([after.ino, after.mode]).to.deep.equal([before.ino, before.mode]);
    });

    it("updates one and removes the other duplicates", async () => {
      tree.put(1, fixture("pool1_duplicates_before.bin"));
      const hv = await tree.open();
      await hv.write("Guest/dup", "new");
      expect(pairsOf(tree.get(1))).to.deep.equal([
        ["other", "o"],
        ["dup", "new"],
      ]);
    });

    it("deletes every duplicate and tells whether there was any", async () => {
      tree.put(1, fixture("pool1_duplicates_before.bin"));
      const hv = await tree.open();
      expect(await hv.delete("Guest/dup")).to.equal(true);
      expect(await hv.delete("Guest/dup")).to.equal(false);
      expect(pairsOf(tree.get(1))).to.deep.equal([["other", "o"]]);
    });

    it("cuts a torn tail before it appends", async () => {
      tree.put(1, fixture("pool1_torn_before.bin"));
      const hv = await tree.open();
      await hv.write("Guest/n", "n");
      expect(tree.get(1).equals(Buffer.concat([pair("a", "1"), pair("n", "n")]))).to.equal(true);
    });

    it("uses the slot that a killed writer left unfinished at the end", async () => {
      tree.put(1, Buffer.concat([pair("a", "1"), Buffer.alloc(512), pair("x", "unfinished").subarray(512)]));
      const hv = await tree.open();
      await hv.write("Guest/b", "2");
      expect(tree.get(1).equals(Buffer.concat([pair("a", "1"), pair("b", "2")]))).to.equal(true);
    });

    it("agrees with a map after any sequence of operations, on several sessions", async () => {
      const key = fc.constantFrom(
        "a",
        "b",
        "c/d",
        "é",
        "日本",
        "x y",
        "..",
        "__proto__",
        "constructor",
        "a\nb",
      );
      const value = fc.oneof(
        fc.string({ maxLength: 40, unit: "binary" }).map((s) => s.replaceAll("\0", "0")),
        fc.constantFrom("", "v".repeat(1022), "日".repeat(600)),
      );
      const operation = fc.oneof(
        fc.record({ verb: fc.constant("write" as const), key, value, session: fc.nat(1) }),
        fc.record({ verb: fc.constant("delete" as const), key, session: fc.nat(1) }),
        fc.record({ verb: fc.constant("read" as const), key, session: fc.nat(1) }),
        fc.record({ verb: fc.constant("list" as const), session: fc.nat(1) }),
      );
      const sessions = [await tree.open(), await tree.open()] as const;
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 25 }), async (operations) => {
          tree.put(1, Buffer.alloc(0));
          const model = new Map<string, string>();
          for (const op of operations) {
            const hv = sessions[op.session] ?? sessions[0];
            if (op.verb === "write") {
              await hv.write(`Guest/${op.key}`, op.value);
              model.set(op.key, op.value);
            } else if (op.verb === "delete") {
              expect(await hv.delete(`Guest/${op.key}`)).to.equal(model.delete(op.key));
            } else if (op.verb === "read") {
              expect(await hv.read(`Guest/${op.key}`)).to.equal(model.get(op.key));
            } else {
              const listed = (await collect(hv.list("Guest"))).map(({ key: k, value: v }) => [k, v]);
              expect(listed).to.deep.equal([...model].map(([k, v]) => [`Guest/${k}`, v]));
            }
          }
          expect(pairsOf(tree.get(1))).to.deep.equal([...model]);
        }),
        { numRuns: 60 },
      );
    });

    it("finds an own change at once through its index, in a pool of thousands", async () => {
      tree.put(1, Buffer.concat(Array.from({ length: 3000 }, (_, i) => pair(`k${i}`, `v${i}`))));
      const hv = await tree.open();
      for (const i of [0, 1500, 2999]) {
        await hv.write(`Guest/k${i}`, "changed");
        expect(await hv.read(`Guest/k${i}`)).to.equal("changed");
        await hv.write(`Guest/new${i}`, "added");
        expect(await hv.read(`Guest/new${i}`)).to.equal("added");
        await hv.delete(`Guest/k${i + 1}`);
        expect(await hv.read(`Guest/k${i + 1}`)).to.equal(undefined);
      }
      expect((await collect(hv.list("Guest"))).length).to.equal(3001);
    });
  });

  describe("options", () => {
    it("scrub zeroes old tails and changes no record", async () => {
      tree.put(0, fixture("pool0_real_vm_centos.bin"));
      tree.put(1, fixture("pool0_stale_after_shift.bin"));
      const hv = await tree.open();
      const store = await hv.store<HypervStore>();
      await store.scrub(undefined, new Call());
      expect(tree.get(0).equals(pair("Hostname", "centos-vm"))).to.equal(true);
      expect(tree.get(1).equals(Buffer.concat([pair("z", "1"), pair("k3", "v3")]))).to.equal(true);
    });

    it("scrubTails does so with the first write", async () => {
      tree.put(1, fixture("pool0_stale_after_modify.bin"));
      const hv = await tree.open({ scrubTails: true });
      await hv.write("Guest/n", "n");
      expect(tree.get(1).includes("cret-password")).to.equal(false);
      expect(pairsOf(tree.get(1)).length).to.equal(3);
    });

    it("privatePools takes the files from group and others", async () => {
      const hv = await tree.open({ privatePools: true });
      await hv.write("Guest/n", "n");
      await collect(hv.list("External"));
      expect(statSync(tree.path(1)).mode & 0o777).to.equal(0o600);
      expect(statSync(tree.path(0)).mode & 0o777).to.equal(0o600);
    });

    it("createPools makes a missing pool, private where asked", async () => {
      rmSync(tree.path(1));
      const hv = await tree.open({ createPools: true, privatePools: true });
      await hv.write("Guest/n", "n");
      expect(statSync(tree.path(1)).mode & 0o777).to.equal(0o600);
      expect(await hv.read("Guest/n")).to.equal("n");
    });

    it("durable writes reach the disk and read back", async () => {
      const hv = await tree.open({ durable: true });
      await hv.write("Guest/n", "n");
      expect(await hv.read("Guest/n")).to.equal("n");
    });

    it("wideLimits accepts what the record holds; writablePools opens the host's pools", async () => {
      const hv = await tree.open({ wideLimits: true, writablePools: ["external"] });
      await hv.write(`External/${"K".repeat(511)}`, "V".repeat(2047));
      await hv.write("External/short", "");
      expect(tree.get(0).equals(fixture("pool0_maxlen_and_empty_value.bin"))).to.equal(true);
      expect(hv.capabilities.pools?.["External"]?.write).to.equal(true);
    });

    it("writablePools lets the guest's copy be erased, which the host sends again", async () => {
      tree.put(0, fixture("pool0_basic.bin"));
      const own = await (await tree.open({ writablePools: ["external"] })).store<HypervStore>();
      expect(await own.erase("External/alpha", new Call())).to.equal("local");
      expect(await own.read("External/alpha", new Call())).to.equal(undefined);
      const usual = await (await tree.open()).store<HypervStore>();
      expect(await usual.erase("External/beta", new Call())).to.equal("no");
      expect(Buffer.from((await usual.read("External/beta", new Call())) ?? []).toString()).to.equal("two");
      await rejects((await tree.open()).take("External/beta", { requireErase: true }), "ERR_READ_ONLY");
      // The host would keep it: then the guest keeps its copy too.
      const writable = await tree.open({ writablePools: ["external"] });
      await rejects(writable.take("External/beta", { requireErase: true }), "ERR_READ_ONLY");
      expect(await writable.read("External/beta")).to.equal("two");
    });

    it("are refused when misspelt or of a wrong type", async () => {
      for (const options of [
        { private: true },
        { durable: "yes" },
        { directory: "" },
        { writablePools: "Guest" },
      ]) {
        let error: unknown;
        await tree.open(options as never).catch((e: unknown) => (error = e));
        expect(error, JSON.stringify(options)).to.be.instanceOf(TypeError);
      }
    });
  });

  describe("bad input", () => {
    it("refuses writes to pools of the host and the daemon", async () => {
      tree.put(0, fixture("pool0_basic.bin"));
      const hv = await tree.open();
      for (const pool of ["External", "Auto", "Guest/Parameters"]) {
        const error = await rejects(hv.write(`${pool}/alpha`, "x"), "ERR_READ_ONLY");
        expect([error.interface, error.key]).to.deep.equal(["pvbus0", `${pool}/alpha`]);
        await rejects(hv.delete(`${pool}/alpha`), "ERR_READ_ONLY");
      }
      expect(tree.get(0).equals(fixture("pool0_basic.bin"))).to.equal(true);
    });

    it("refuses keys and values that a record cannot hold, before anything is touched", async () => {
      tree.put(1, pair("k", "v"));
      const hv = await tree.open();
      const untouched = statSync(tree.path(1), { bigint: true }).ctimeNs;
      await rejects(hv.write("", "x"), "ERR_KEY_INVALID");
      await rejects(hv.write("Guest/", "x"), "ERR_KEY_INVALID");
      await rejects(hv.write("Guest/a\0b", "x"), "ERR_KEY_INVALID");
      await rejects(hv.write("Guest/\udc00", "x"), "ERR_KEY_INVALID");
      await rejects(hv.write("Gast/k", "x"), "ERR_KEY_INVALID");
      await rejects(hv.write(`Guest/${"k".repeat(255)}`, "x"), "ERR_KEY_TOO_LONG");
      await rejects(hv.write("Guest/k", "v".repeat(1023)), "ERR_VALUE_TOO_LONG");
      await rejects(hv.write("Guest/k", "a\0b"), "ERR_VALUE_INVALID");
      await rejects(hv.write("Guest/k", "\ud800"), "ERR_VALUE_INVALID");
      await rejects(hv.write("Guest/k", Uint8Array.of(0xff)), "ERR_VALUE_INVALID");
      await rejects(collect(hv.list("Gast")), "ERR_KEY_INVALID");
      expect(statSync(tree.path(1), { bigint: true }).ctimeNs).to.equal(untouched);
      expect(tree.get(1).equals(pair("k", "v"))).to.equal(true);
    });

    it("says that a missing pool waits for the daemon", async () => {
      rmSync(tree.path(1));
      const hv = await tree.open();
      for (const failure of [
        hv.read("Guest/k"),
        hv.write("Guest/k", "v"),
        hv.delete("Guest/k"),
        collect(hv.list("Guest")),
      ]) {
        const error = await rejects(failure, "ERR_UNAVAILABLE");
        expect(error.message).to.match(/daemon/);
      }
      rmSync(tree.directory, { recursive: true });
      await rejects((await tree.open()).read("Guest/k"), "ERR_UNAVAILABLE");
    });

    it("refuses a symbolic link, wherever it points", async () => {
      writeFileSync(join(tree.sysroot, "secret"), pair("k", "secret"));
      rmSync(tree.path(1));
      symlinkSync(join(tree.sysroot, "secret"), tree.path(1));
      const hv = await tree.open();
      expect((await rejects(hv.read("Guest/k"), "ERR_PERMISSION")).message).to.match(/symbolic link/);
      await rejects(hv.write("Guest/k", "v"), "ERR_PERMISSION");
      await rejects(collect(hv.list("Guest")), "ERR_PERMISSION");
    });

    it("takes a pool directory that is a link as chroot does: nothing outside of the sysroot is there", async () => {
      const other = new PoolTree();
      other.put(0, pair("k", "outside"));
      rmSync(tree.directory, { recursive: true });
      symlinkSync(other.directory, tree.directory);
      const hv = await tree.open();
      await rejects(hv.read("External/k"), "ERR_UNAVAILABLE");
      await other[Symbol.asyncDispose]();
    });

    it("refuses a second name of the file for writing", async () => {
      tree.put(1, pair("k", "v"));
      linkSync(tree.path(1), join(tree.sysroot, "second"));
      const hv = await tree.open();
      expect(await hv.read("Guest/k")).to.equal("v");
      expect((await rejects(hv.write("Guest/k", "w"), "ERR_PERMISSION")).message).to.match(/hard link/);
    });

    for (const [name, place] of [
      ["a directory", (path: string) => mkdirSync(path)],
      ["a FIFO", (path: string) => execFileSync("mkfifo", [path])],
    ] as const) {
      it(`says of ${name} in a pool's place that it is no pool, without hanging`, async () => {
        rmSync(tree.path(1));
        place(tree.path(1));
        const hv = await tree.open();
        await rejects(hv.read("Guest/k"), "ERR_CORRUPT");
        await rejects(hv.write("Guest/k", "v"), "ERR_CORRUPT");
        await rejects(collect(hv.list("Guest")), "ERR_CORRUPT");
      });
    }

    it(`refuses a file of a foreign owner${isRoot ? "" : " [pending: changing owners needs root]"}`, async function () {
      if (!isRoot) return this.skip();
      tree.put(1, pair("k", "v"));
      chownSync(tree.path(1), 65534, 65534);
      const hv = await tree.open();
      expect((await rejects(hv.read("Guest/k"), "ERR_PERMISSION")).message).to.match(/65534/);
      await rejects(hv.write("Guest/k", "w"), "ERR_PERMISSION");
      expect(tree.get(1).equals(pair("k", "v"))).to.equal(true);
    });

    it("says of a channel that pools take none", async () => {
      const bus = await openPvbus({
        sysroot: tree.sysroot,
        interfaces: [{ type: "hyperv", channel: "unix:/x" }],
      });
      await rejects(bus.primary?.read("Guest/k") as Promise<unknown>, "ERR_NOT_SUPPORTED");
      await bus.close();
    });

    it("counts as closed as soon as the interface is, which need not wait for it", async () => {
      tree.put(1, pair("k", "v"));
      const closing = new AbortController();
      const host = nodeHost({ sysroot: tree.sysroot });
      const store = await new HypervProvider(host).open({}, new Call(), closing.signal);
      const ended = collect(store.watch("Guest", new Call(), { ready: () => closing.abort() }));
      await rejects(ended, "ERR_DISCONNECTED");
      await rejects((async () => store.read("Guest/k", new Call()))(), "ERR_DISCONNECTED");
      await store.close();
    });

    it("ends every verb after closing, and closes twice", async () => {
      const hv = await tree.open();
      const store = await hv.store<HypervStore>();
      await hv.close();
      await hv.close();
      await rejects(hv.read("Guest/k"), "ERR_DISCONNECTED");
      await rejects(hv.write("Guest/k", "v"), "ERR_DISCONNECTED");
      await rejects(collect(hv.list("Guest")), "ERR_DISCONNECTED");
      await rejects(collect(store.list("Guest", new Call())), "ERR_DISCONNECTED");
    });
  });

  describe("hostile pools", () => {
    it("survive any bytes: reads never crash, and a write keeps what was readable", async () => {
      const hv = await tree.open();
      await fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ maxLength: 4 * RECORD_SIZE }),
          fc.boolean(),
          async (bytes, dense) => {
            tree.put(1, dense ? bytes.map((byte) => byte || 0xff) : bytes);
            const before = await collect(hv.list("Guest"));
            for (const { key } of before) expect(await hv.read(key)).to.be.a("string");
            await hv.write("Guest/probe", "p");
            const after = new Map((await collect(hv.list("Guest"))).map(({ key, value }) => [key, value]));
            for (const { key, value } of before)
              if (key !== "Guest/probe") expect(after.get(key)).to.equal(value);
            expect(after.get("Guest/probe")).to.equal("p");
          },
        ),
        { numRuns: 100 },
      );
    });

    it("survive truncation at every offset", async () => {
      const hv = await tree.open();
      const whole = fixture("pool0_utf8.bin");
      for (let length = 0; length <= whole.length; length += 97) {
        tree.put(1, whole.subarray(0, length));
        expect((await collect(hv.list("Guest"))).length).to.equal(Math.floor(length / RECORD_SIZE));
      }
    });

    it("of 0xFF throughout list as one key without an end", async () => {
      tree.put(1, Buffer.alloc(3 * RECORD_SIZE, 0xff));
      const hv = await tree.open();
      const entries = await collect(hv.list("Guest"));
      expect(entries.length).to.equal(1);
      expect(entries[0]?.bytes?.length).to.equal(2048);
    });

    it("of absurd size are refused by their size alone", async () => {
      execFileSync("truncate", ["-s", "4T", tree.path(1)]);
      const hv = await tree.open();
      await rejects(hv.read("Guest/k"), "ERR_CORRUPT");
      await rejects(hv.write("Guest/k", "v"), "ERR_CORRUPT");
      await rejects(collect(hv.list("Guest")), "ERR_CORRUPT");
    });

    it("that grow without end while they are read end by the deadline, not in a hang", async () => {
      appendFileSync(tree.path(1), pair("k", "v"));
      await settle();
      const hv = await tree.open();
      const timer = setInterval(() => appendFileSync(tree.path(1), pair("x", "y")), 1);
      try {
        expect(await hv.read("Guest/k", { timeoutMs: 2000 })).to.equal("v");
      } finally {
        clearInterval(timer);
      }
    });
  });
});
