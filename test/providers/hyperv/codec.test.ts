import { expect } from "chai";
import fc from "fast-check";
import {
  decodeRecord,
  encodeField,
  encodeRecord,
  RECORD_SIZE,
  scrubRecord,
} from "../../../providers/hyperv/protocol/record.js";
import { fixture, pairsOf } from "../../support/pools.js";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

/** Vectors of the reference, section 16: name, record bytes as [hex of the key field, hex of the value field], strings. */
const VECTORS = [
  { name: "alpha=one", key: "616c706861", value: "6f6e65", decoded: ["alpha", "one"] },
  {
    name: "a genuine record after its value became shorter",
    key: "7365637265745f6b65795f6e616d65",
    value: "78006372 65742d70 61737377 6f72642d 30313233 34353637 3839".replaceAll(" ", ""),
    decoded: ["secret_key_name", "x"],
  },
  {
    name: "a genuine record in the place of a deleted one",
    key: "7a006372 65745f6b 65795f6e 616d65".replaceAll(" ", ""),
    value: "31006372 65742d".replaceAll(" ", ""),
    decoded: ["z", "1"],
  },
  {
    name: "the longest key and value",
    key: "4b".repeat(511),
    value: "56".repeat(2047),
    decoded: ["K".repeat(511), "V".repeat(2047)],
  },
  {
    name: "UTF-8",
    key: "6e61c3af7665",
    value: "4772c3bcc39f652061757320 4bc3b66c6e".replaceAll(" ", ""),
    decoded: ["naïve", "Grüße aus Köln"],
  },
  {
    name: "fields without any NUL",
    key: "6b".repeat(512),
    value: "76".repeat(2048),
    decoded: ["k".repeat(512), "v".repeat(2048)],
  },
  { name: "tails that are not UTF-8", key: "6100fffe", value: "6200c3", decoded: ["a", "b"] },
] as const;

/** What test/fixtures/hyperv/README.md says of each genuine file, every slot in file order. */
const POOLS: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  "pool0_basic.bin": [
    ["alpha", "one"],
    ["beta", "two"],
    ["com.example.agent/config", '{"role":"web","replicas":3}'],
  ],
  "pool0_stale_after_modify.bin": [
    ["beta", "hello"],
    ["secret_key_name", "x"],
  ],
  "pool0_stale_after_delete_and_add.bin": [
    ["beta", "hello"],
    ["z", "1"],
  ],
  "pool0_stale_after_shift.bin": [
    ["z", "1"],
    ["k3", "v3"],
  ],
  "pool0_maxlen_and_empty_value.bin": [
    ["K".repeat(511), "V".repeat(2047)],
    ["short", ""],
  ],
  "pool0_utf8.bin": [
    ["naïve", "Grüße aus Köln"],
    ["日本語キー", "値"],
    ["emoji", "🙂🚀"],
    ["truncated-by-kernel", "日".repeat(682)],
  ],
  "pool0_empty_key.bin": [
    ["", "value of the empty key"],
    ["after", "x"],
  ],
  "pool1_duplicates_before.bin": [
    ["dup", "1"],
    ["other", "o"],
    ["dup", "2"],
  ],
  "pool1_torn_before.bin": [["a", "1"]],
  "pool1_torn_after_daemon_set.bin": [
    ["a", "1"],
    ["n", "n"],
  ],
  "pool0_torn_by_enospc.bin": [
    ["k000", "v0"],
    ["k001", "v1"],
    ["k002", "v2"],
  ],
  "pool0_real_vm_centos.bin": [["Hostname", "centos-vm"]],
  "pool0_real_vm_fedora.bin": [["Hostname", "fedora-vm"]],
};

describe("Hyper-V record codec", () => {
  for (const { name, key, value, decoded } of VECTORS) {
    it(`decodes ${name}`, () => {
      const record = Buffer.alloc(RECORD_SIZE);
      record.write(key, 0, "hex");
      record.write(value, 512, "hex");
      const got = decodeRecord(record);
      expect([text(got.key), text(got.value)]).to.deep.equal(decoded);
    });
  }

  for (const [name, pairs] of Object.entries(POOLS)) {
    it(`decodes the genuine ${name}`, () => {
      expect(pairsOf(fixture(name))).to.deep.equal(pairs);
    });
  }

  it("encodes alpha=one to the very bytes of the vendor's daemon", () => {
    const record = encodeRecord({ key: Buffer.from("alpha"), value: Buffer.from("one") });
    expect(record.equals(fixture("pool0_basic.bin").subarray(0, RECORD_SIZE))).to.equal(true);
  });

  it("gives back every string that fits", () => {
    const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> =>
      fc.uint8Array({ maxLength }).map((array) => array.map((byte) => byte || 1));
    fc.assert(
      fc.property(bytes(511), bytes(2047), (key, value) => {
        const got = decodeRecord(encodeRecord({ key, value }));
        expect(Buffer.compare(got.key, key) || Buffer.compare(got.value, value)).to.equal(0);
      }),
    );
  });

  it("decodes any 2560 bytes, and scrubbing never changes what they say", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: RECORD_SIZE, maxLength: RECORD_SIZE }), (bytes) => {
        const record = Buffer.from(bytes);
        const before = {
          key: Buffer.from(decodeRecord(record).key),
          value: Buffer.from(decodeRecord(record).value),
        };
        scrubRecord(record);
        expect(decodeRecord(record)).to.deep.equal(before);
        expect(scrubRecord(record)).to.equal(false);
      }),
    );
  });

  it("leaves nothing behind a NUL after scrubbing a genuine record", () => {
    const record = Buffer.from(fixture("pool0_stale_after_modify.bin").subarray(RECORD_SIZE));
    expect(record.includes("cret-password")).to.equal(true);
    expect(scrubRecord(record)).to.equal(true);
    expect(
      record.equals(encodeRecord({ key: Buffer.from("secret_key_name"), value: Buffer.from("x") })),
    ).to.equal(true);
  });

  it("refuses what does not fit a field with its NUL, and a NUL inside", () => {
    expect(() => encodeField(Buffer.alloc(512, 1), 512)).to.throw(RangeError);
    expect(() => encodeField(Buffer.alloc(2048, 1), 2048)).to.throw(RangeError);
    expect(() => encodeField(Buffer.from("a\0b"), 512)).to.throw(RangeError);
    expect(() => decodeRecord(Buffer.alloc(RECORD_SIZE - 1))).to.throw(RangeError);
    expect(() => decodeRecord(Buffer.alloc(RECORD_SIZE), 1)).to.throw(RangeError);
  });
});
