import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { GuestState } from "../../../../providers/kvm/host/guest-state.js";
import { DEFAULT_LIMITS } from "../../../../providers/kvm/host/limits.js";
import { HEADER_BYTES } from "../../../../providers/kvm/host/log-codec.js";
import { rejects } from "../../../support/rejects.js";

describe("GuestState", () => {
  let folder: string;
  let path: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-state-"));
    path = join(folder, "log");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Opens the state, lets work be done and gives what it holds then. */
  async function visit(
    work: (state: GuestState) => unknown = () => undefined,
  ): Promise<Record<string, string>> {
    const state = await GuestState.open(path, DEFAULT_LIMITS);
    try {
      await work(state);
      return Object.fromEntries(
        Array.from(state.entries(), ({ key, value }) => [key, Buffer.from(value).toString("utf8")]),
      );
    } finally {
      await state.close();
    }
  }

  it("holds after reopening what it held, in order, with growing revisions", async () => {
    let revision = 0;
    await visit(async (state) => {
      await state.put("b", Buffer.from("1"));
      await state.put("a", Buffer.alloc(0));
      await state.put("b", Buffer.from("2"));
      await state.put("gone", Buffer.from("x"));
      expect(await state.delete("gone")).to.equal(true);
      expect(await state.delete("gone")).to.equal(false);
      revision = state.revision;
    });
    expect(revision).to.equal(5);
    expect(
      await visit((state) => {
        expect(state.revision).to.equal(revision);
        expect(state.keys()).to.deep.equal(["a", "b"]);
      }),
    ).to.deep.equal({ a: "", b: "2" });
  });

  it("shows a change when it is on the disk, not before", async () => {
    await visit(async (state) => {
      const seen: (string | undefined)[] = [];
      state.listen(({ key }) => seen.push(key));
      const put = state.put("a", Buffer.from("1"));
      expect(state.get("a")).to.equal(undefined);
      await put;
      expect(state.get("a")).to.deep.equal(Buffer.from("1"));
      expect(seen).to.deep.equal(["a"]);
    });
  });

  it("is what it was before or after a write, wherever that write was cut", async () => {
    const before = await visit(async (state) => {
      await state.put("a", Buffer.from("1"));
      await state.put("b", Buffer.from("old"));
    });
    const start = readFileSync(path);
    const after = await visit((state) => state.put("b", Buffer.from("the new value")));
    const whole = readFileSync(path);
    expect(whole.length).to.be.greaterThan(start.length);
    for (let length = start.length; length <= whole.length; length++) {
      writeFileSync(path, whole.subarray(0, length));
      expect(await visit(), `${length} bytes`).to.deep.equal(length === whole.length ? after : before);
      // What was cut is gone for good: later writes do not bring it back.
      expect(await visit((state) => state.put("c", Buffer.from("3")))).to.include({ a: "1", c: "3" });
    }
  });

  it("takes any rubbish behind the last write for one that never ended", async () => {
    const held = await visit((state) => state.put("a", Buffer.from("1")));
    const good = readFileSync(path);
    for (const rubbish of [Buffer.alloc(5000), Buffer.alloc(31, 0xff), good.subarray(12, 30)]) {
      writeFileSync(path, Buffer.concat([good, rubbish]));
      expect(await visit()).to.deep.equal(held);
      expect(readFileSync(path)).to.deep.equal(good);
    }
  });

  it("refuses a file that was damaged where it had been whole, and leaves it as it is", async () => {
    for (let i = 0; i < 5; i++) await visit((state) => state.put(`key-${i}`, Buffer.from("value")));
    const good = readFileSync(path);
    const firstRecord = 40;
    for (const at of [0, 9, 20, HEADER_BYTES + 3, HEADER_BYTES + firstRecord]) {
      const bad = Buffer.from(good);
      bad.writeUInt8(bad.readUInt8(at) ^ 1, at);
      writeFileSync(path, bad);
      const error = await rejects(GuestState.open(path, DEFAULT_LIMITS), "ERR_CORRUPT");
      expect(error.message).to.include(path);
      expect(readFileSync(path)).to.deep.equal(bad);
    }
  });

  it("refuses a rewritten file that lacks any of what was rewritten", async () => {
    await visit(async (state) => {
      for (let i = 0; i < 400; i++) await state.put("same", Buffer.alloc(1024, i));
      for (let i = 0; i < 20; i++) await state.put(`key-${i}`, Buffer.from("value"));
      for (let i = 0; i < 100; i++) await state.put("same", Buffer.alloc(1024, i));
    });
    const good = readFileSync(path);
    const made = Number(good.readBigUInt64LE(28));
    expect(made, "the file was rewritten").to.be.greaterThan(HEADER_BYTES);
    for (const length of [HEADER_BYTES, made - 1]) {
      writeFileSync(path, good);
      truncateSync(path, length);
      await rejects(GuestState.open(path, DEFAULT_LIMITS), "ERR_CORRUPT");
    }
    writeFileSync(path, good.subarray(0, made));
    await visit((state) => expect(state.keys()).to.include("same"));
  });

  it("keeps its file near the size of what is alive", async () => {
    const value = Buffer.alloc(10_000, 1);
    await visit(async (state) => {
      for (let i = 0; i < 500; i++) await state.put(`key-${i % 3}`, value);
    });
    expect(readFileSync(path).length).to.be.lessThan(200_000);
    expect(Object.keys(await visit())).to.deep.equal(["key-0", "key-1", "key-2"]);
  });

  it("counts what waits together against the quota, and deletes against what waits", async () => {
    const limits = { ...DEFAULT_LIMITS, maxKeys: 2 };
    const state = await GuestState.open(path, limits);
    const put = (key: string): Promise<string> =>
      state.put(key, Buffer.from("x")).then(
        () => "kept",
        (error) => error.code,
      );
    expect(await Promise.all(["a", "b", "c"].map(put))).to.deep.equal(["kept", "kept", "ERR_NO_SPACE"]);
    const outcomes = [state.delete("a"), put("c"), state.delete("c"), state.delete("c")];
    expect(await Promise.all<unknown>(outcomes)).to.deep.equal([true, "kept", true, false]);
    expect(state.keys()).to.deep.equal(["b"]);
    expect(state.usage).to.deep.equal({ keys: 1, bytes: 2 });
    await state.close();
    await rejects(state.put("d", Buffer.from("x")), "ERR_DISCONNECTED");
  });

  it("clears away what a run left that ended while it rewrote the file", async () => {
    await visit((state) => state.put("a", Buffer.from("1")));
    writeFileSync(`${path}.new`, "half a file");
    expect(
      await visit(async (state) => {
        for (let i = 0; i < 100; i++) await state.put("b", Buffer.alloc(2_000, 0x61));
      }),
    ).to.include({ a: "1" });
    appendFileSync(path, "x");
    expect(await visit()).to.include({ a: "1" });
  });
});
