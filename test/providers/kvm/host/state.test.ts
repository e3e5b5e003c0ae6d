import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { expect } from "chai";
import { GuestState } from "../../../../providers/kvm/host/guest-state.js";
import { KeyTable } from "../../../../providers/kvm/host/key-table.js";
import { DEFAULT_LIMITS } from "../../../../providers/kvm/host/limits.js";
import {
  encodeRecord,
  HEADER_BYTES,
  LOG_HEADER,
  type LogRecord,
  MAX_REVISION,
} from "../../../../providers/kvm/host/log-codec.js";
import { random } from "../../../support/campaign.js";
import { keysOf } from "../../../support/kvm-guest.js";
import { rejects } from "../../../support/rejects.js";

describe("GuestState", () => {
  let folder: string;
  let path: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-state-"));
    path = join(folder, "log");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Returns the log the bytes that a host left which was killed: no note says where it ended. */
  function leave(bytes: Buffer): void {
    writeFileSync(path, bytes);
    rmSync(`${path}.end`, { force: true });
  }

  /** Returns the names of damaged logs that were kept. */
  const kept = (): string[] =>
    readdirSync(folder).filter((name) => name.startsWith("log.damaged-") && !name.endsWith(".end"));

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
        expect(keysOf(state)).to.deep.equal(["a", "b"]);
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
      leave(whole.subarray(0, length));
      expect(
        await visit((state) => expect(state.damage).to.equal(undefined)),
        `${length} bytes`,
      ).to.deep.equal(length === whole.length ? after : before);
      // What was cut is gone for good: later writes do not bring it back.
      expect(await visit((state) => state.put("c", Buffer.from("3")))).to.include({ a: "1", c: "3" });
    }
  });

  it("cuts off what a kill or a power cut leaves of a write, and keeps nothing of it", async () => {
    const held = await visit((state) => state.put("a", Buffer.from("1")));
    const good = readFileSync(path);
    await visit((state) => state.put("b", Buffer.alloc(4000, 0x62)));
    const next = readFileSync(path).subarray(good.length);
    const unwritten = Buffer.from(next);
    unwritten.fill(0, 1024 - good.length, 2048 - good.length);
    for (const rest of [Buffer.alloc(5000), next.subarray(0, 5), next.subarray(0, 3000), unwritten]) {
      leave(Buffer.concat([good, rest]));
      await visit((state) => {
        expect(state.damage).to.equal(undefined);
        expect(state.unfinishedBytes).to.equal(rest.length);
        expect(keysOf(state)).to.deep.equal(Object.keys(held));
      });
      expect(readFileSync(path)).to.deep.equal(good);
    }
    expect(kept()).to.deep.equal([]);
  });

  it("keeps a damaged log as it was found, serves all of it that can be read and goes on in a new one", async () => {
    for (let i = 0; i < 5; i++) await visit((state) => state.put(`key-${i}`, Buffer.from("value")));
    const good = readFileSync(path);
    const record = (good.length - HEADER_BYTES) / 5;
    const spoilt = (at: number): Buffer => {
      const bad = Buffer.from(good);
      bad.writeUInt8(bad.readUInt8(at) ^ 1, at);
      return bad;
    };
    const rows: [string, Buffer, number[], object[]][] = [
      [
        "the second",
        spoilt(HEADER_BYTES + 2 * record - 1),
        [0, 2, 3, 4],
        [{ offset: HEADER_BYTES + record, bytes: record, revisions: { first: 2, last: 2 } }],
      ],
      [
        "the last",
        spoilt(good.length - 1),
        [0, 1, 2, 3],
        [{ offset: HEADER_BYTES + 4 * record, bytes: record, revisions: { first: 5, last: 5 } }],
      ],
      [
        "cut between two",
        good.subarray(0, HEADER_BYTES + 3 * record),
        [0, 1, 2],
        [{ offset: HEADER_BYTES + 3 * record, bytes: 2 * record, revisions: { first: 4, last: 5 } }],
      ],
    ];
    const names = new Set<string>();
    for (const [name, bad, left, lost] of rows) {
      await visit((state) => state.put("other", Buffer.from("1")));
      writeFileSync(path, bad);
      const end = LOG_HEADER.encode({ mark: good.subarray(12, 20), revision: 5, length: good.length });
      end.write("pvbusend");
      end.writeUInt32LE(crc32(end.subarray(0, 36)), 36);
      writeFileSync(`${path}.end`, end);
      let damage: GuestState["damage"];
      const held = await visit(async (state) => {
        damage = state.damage;
        await state.put("more", Buffer.from("1"));
        expect(state.revision, name).to.equal(6);
      });
      expect(Object.keys(held), name).to.deep.equal([...left.map((i) => `key-${i}`), "more"]);
      expect(damage?.lost, name).to.deep.equal(lost);
      const copy = join(folder, damage?.kept ?? "");
      expect(readFileSync(copy), name).to.deep.equal(bad);
      expect(statSync(copy).mode & 0o777).to.equal(0o600);
      names.add(copy);
      expect(await visit((state) => expect(state.damage).to.equal(undefined)), name).to.deep.equal(held);
    }
    expect(kept().length).to.equal(names.size).and.to.equal(rows.length);
  });

  it("keeps what follows a log that is no write's beginning", async () => {
    const held = await visit((state) => state.put("a", Buffer.from("1")));
    const good = readFileSync(path);
    for (const rubbish of [Buffer.alloc(31, 0xff), good.subarray(13, 30)]) {
      leave(Buffer.concat([good, rubbish]));
      await visit((state) => {
        expect(state.damage?.lost).to.deep.equal([
          { offset: good.length, bytes: rubbish.length, revisions: undefined },
        ]);
        expect(keysOf(state)).to.deep.equal(Object.keys(held));
      });
    }
  });

  it("refuses a file that does not begin as a log, and leaves it as it is", async () => {
    await visit((state) => state.put("a", Buffer.from("1")));
    const good = readFileSync(path);
    const bad = Array.from({ length: HEADER_BYTES }, (_, at) => {
      const bytes = Buffer.from(good);
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      return bytes;
    });
    for (const bytes of [...bad, Buffer.alloc(0), good.subarray(0, HEADER_BYTES - 1)]) {
      leave(bytes);
      const error = await rejects(GuestState.open(path, DEFAULT_LIMITS), "ERR_CORRUPT");
      expect(error.message).to.include(path);
      expect(readFileSync(path)).to.deep.equal(bytes);
    }
  });

  it("serves what is left of a rewritten file that lacks any of what was rewritten", async () => {
    await visit(async (state) => {
      for (let i = 0; i < 400; i++) await state.put("same", Buffer.alloc(1024, i));
      for (let i = 0; i < 20; i++) await state.put(`key-${i}`, Buffer.from("value"));
      for (let i = 0; i < 100; i++) await state.put("same", Buffer.alloc(1024, i));
    });
    const good = readFileSync(path);
    const made = Number(good.readBigUInt64LE(28));
    expect(made, "the file was rewritten").to.be.greaterThan(HEADER_BYTES);
    const revision = Number(good.readBigUInt64LE(20));
    for (const length of [HEADER_BYTES, made - 1]) {
      leave(good.subarray(0, length));
      await visit((state) => {
        expect(state.damage?.lost.map(({ bytes }) => bytes > 0)).to.deep.equal([true]);
        expect(state.revision).to.be.greaterThan(revision);
      });
    }
    expect(kept().length).to.equal(2);
    leave(good.subarray(0, made));
    await visit((state) => expect(keysOf(state)).to.include("same"));
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
    expect(keysOf(state)).to.deep.equal(["b"]);
    // Two bytes are used.
    const more = (maxTotalBytes: number) => state.put("e", Buffer.from("x"), { ...limits, maxTotalBytes });
    await rejects(more(3), "ERR_NO_SPACE");
    await more(4);
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

  /** Makes a log whose checksums are all right, whatever it says. */
  function forge(revision: number | bigint, records: readonly Partial<LogRecord>[], rewritten = 0): void {
    const mark = Buffer.from("01234567");
    const parts = records.map((record) =>
      encodeRecord(mark, {
        batch: 2,
        revision: 1,
        operation: "put",
        key: "k",
        value: Buffer.of(1),
        ...record,
      }),
    );
    const length = parts.slice(0, rewritten).reduce((sum, part) => sum + part.length, HEADER_BYTES);
    leave(Buffer.concat([LOG_HEADER.encode({ mark, revision: Number(revision), length }), ...parts]));
  }

  it("refuses a log whose checksums are right and whose numbers are not, and leaves it as it is", async () => {
    const forgeries: Record<string, () => void> = {
      "a revision of 2^48": () => forge(2 ** 48, []),
      "a revision of 2^53": () => forge(2 ** 53, []),
      "a revision of 2^63": () => forge(2n ** 63n, []),
      "a length of 2^60": () => forge(0, [], 0),
      "a revision that goes back": () => forge(0, [{ revision: 5 }, { revision: 4, batch: 3 }]),
      "a revision twice": () => forge(0, [{ revision: 5 }, { revision: 5 }]),
      "revision 0": () => forge(0, [{ revision: 0 }]),
      "a batch that is left out": () => forge(0, [{ revision: 1 }, { revision: 2, batch: 4 }]),
      "a batch that goes back": () => forge(0, [{ batch: 2 }, { revision: 2, batch: 1 }]),
      "the last batch": () => forge(0, [{ batch: MAX_REVISION }]),
      "a change of the rewriting behind it": () => forge(0, [{ batch: 1 }]),
      "a rewritten change above the header's": () => forge(4, [{ batch: 1, revision: 5 }], 1),
      "a rewritten change of another write": () => forge(4, [{ batch: 2, revision: 3 }], 1),
      "no key": () => forge(0, [{ key: "" }]),
    };
    for (const [name, make] of Object.entries(forgeries)) {
      make();
      if (name === "a length of 2^60") {
        const bytes = readFileSync(path);
        bytes.writeBigUInt64LE(2n ** 60n, 28);
        bytes.writeUInt32LE(crc32(bytes.subarray(0, 36)), 36);
        writeFileSync(path, bytes);
      }
      const before = readFileSync(path);
      const opening = GuestState.open(path, DEFAULT_LIMITS).then((state) => state.close());
      const error = await rejects(opening, "ERR_CORRUPT").catch((other) => {
        throw new Error(`${name}: ${(other as Error).message}`);
      });
      expect(error.message, name).to.include(path);
      expect(readFileSync(path), name).to.deep.equal(before);
    }
  });

  it("takes the numbers that it writes, and refuses a change when there is none left for it", async () => {
    forge(9, [{ batch: 1, revision: 9 }, { batch: 1, revision: 3, key: "j" }, { revision: 10 }], 2);
    await visit((state) => expect(state.revision).to.equal(10));
    forge(MAX_REVISION - 1, []);
    await visit(async (state) => {
      await state.put("last", Buffer.from("1"));
      await rejects(state.put("one more", Buffer.from("2")), "ERR_NO_SPACE");
      await rejects(state.delete("last"), "ERR_NO_SPACE");
    });
    expect(await visit()).to.deep.equal({ last: "1" });
  });

  it("goes on with its revisions when it ended right behind a rewriting, whatever the order of its keys", async () => {
    await visit(async (state) => {
      for (const key of ["a", "b"]) await state.put(key, Buffer.from("1"));
      for (let i = 0; i < 200; i++) await state.put("a", Buffer.alloc(1024, i));
    });
    const good = readFileSync(path);
    const [revision, length] = [good.readBigUInt64LE(20), good.readBigUInt64LE(28)].map(Number);
    expect(revision, "the file was rewritten").to.be.greaterThan(2);
    leave(good.subarray(0, length));
    await visit(async (state) => {
      expect(state.revision).to.equal(revision);
      await state.put("c", Buffer.from("1"));
      expect(state.revision).to.equal(Number(revision) + 1);
    });
  });

  it("keeps no more in memory than a value's bytes, whatever buffer it came in", async () => {
    await visit(async (state) => {
      const pool = Buffer.allocUnsafe(5);
      expect(pool.buffer.byteLength, "Node's pool").to.be.greaterThan(1000);
      await state.put("a", pool.fill("x"));
      await state.put("b", Buffer.alloc(8192, "y").subarray(100, 120));
      for (const key of ["a", "b"]) {
        const held = state.get(key);
        expect(held?.buffer.byteLength, key).to.equal(held?.byteLength);
      }
    });
    expect(await visit()).to.deep.equal({ a: "xxxxx", b: "y".repeat(20) });
  });

  it("keeps any key in order: those of Object's prototype, thousands, in any succession", async () => {
    const names = ["__proto__", "constructor", "hasOwnProperty", "toString", "valueOf"];
    expect(
      Object.entries(
        await visit(async (state) => {
          for (const name of names) expect(state.get(name)).to.equal(undefined);
          for (const name of names) await state.put(name, Buffer.from(name));
        }),
      ),
    ).to.deep.equal([...names].sort().map((name) => [name, name]));
    const chance = random();
    const table = new KeyTable<number>();
    const plain = new Map<string, number>();
    for (let i = 0; i < 5_000; i++) {
      const key = `${chance.below(900)}`;
      if (chance.below(3) === 0) {
        table.delete(key);
        plain.delete(key);
      } else {
        table.set(key, i);
        plain.set(key, i);
      }
      expect(table.get(key)).to.equal(plain.get(key));
    }
    expect(table.size).to.equal(plain.size);
    const all = table.portions().flat();
    expect(all.map(({ key }) => key)).to.deep.equal([...plain.keys()].sort());
    expect(all.every(({ key, value }) => plain.get(key) === value)).to.equal(true);
  });
});
