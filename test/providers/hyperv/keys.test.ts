import { expect } from "chai";
import { parseKey, parsePrefix } from "../../../providers/hyperv/protocol/keys.js";
import { checkPair, FILE_LIMITS, HOST_LIMITS } from "../../../providers/hyperv/protocol/limits.js";
import { PvbusError } from "../../../src/index.js";

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (PvbusError.is(error)) return error.code;
    throw error;
  }
  return "no error";
}

describe("Hyper-V native keys", () => {
  const KEYS: readonly (readonly [string, string, string])[] = [
    ["External/a", "External", "a"],
    ["External/a/b", "External", "a/b"],
    ["external/A", "External", "A"],
    ["EXTERNAL//", "External", "/"],
    ["Guest/Parameters/HostName", "Guest/Parameters", "HostName"],
    ["guest/PARAMETERS/a/b", "Guest/Parameters", "a/b"],
    ["Guest/Parametersx", "Guest", "Parametersx"],
    ["Guest/ParametersX/y", "Guest", "ParametersX/y"],
    ["Guest/ ", "Guest", " "],
    ["Guest/..", "Guest", ".."],
    ["Guest/a\nb", "Guest", "a\nb"],
    ["Auto/OSName", "Auto", "OSName"],
    [`Guest/${"x".repeat(512)}`, "Guest", "x".repeat(512)],
  ];
  for (const [native, pool, key] of KEYS) {
    it(`takes ${JSON.stringify(native.slice(0, 40))} as ${JSON.stringify(key.slice(0, 20))} of pool ${pool}`, () => {
      const parsed = parseKey(native);
      expect([parsed.pool.name, parsed.key]).to.deep.equal([pool, key]);
    });
  }

  for (const native of [
    "HostName",
    "Guest",
    "Guest/",
    "Guest/Parameters",
    "Guest/Parameters/",
    "Pool/x",
    "/x",
    "Guests/x",
    "Guest/\ud800",
    "Guest/a\0b",
  ]) {
    it(`refuses ${JSON.stringify(native)}`, () => {
      expect(codeOf(() => parseKey(native))).to.equal("ERR_KEY_INVALID");
    });
  }

  it("refuses a key beyond the record's field", () => {
    expect(codeOf(() => parseKey(`Guest/${"x".repeat(513)}`))).to.equal("ERR_KEY_TOO_LONG");
    expect(codeOf(() => parseKey(`Guest/${"é".repeat(257)}`))).to.equal("ERR_KEY_TOO_LONG");
  });

  const PREFIXES: readonly (readonly [string, readonly string[], string])[] = [
    ["", ["External", "Guest", "Auto", "Guest/Parameters"], ""],
    ["External", ["External"], ""],
    ["guest/", ["Guest"], ""],
    ["Guest/Par", ["Guest"], "Par"],
    ["Guest/Parameters", ["Guest/Parameters"], ""],
    ["Guest/Parameters/Host", ["Guest/Parameters"], "Host"],
    ["External/com.example/", ["External"], "com.example/"],
  ];
  for (const [prefix, pools, keyPrefix] of PREFIXES) {
    it(`lists ${JSON.stringify(prefix)} as keys ${JSON.stringify(keyPrefix)}… of ${pools.join(", ")}`, () => {
      const parsed = parsePrefix(prefix);
      expect([parsed.pools.map(({ name }) => name), parsed.keyPrefix]).to.deep.equal([pools, keyPrefix]);
    });
  }

  it("refuses a prefix that names no pool, naming the pools", () => {
    expect(() => parsePrefix("Ext")).to.throw(/Guest\/Parameters\//);
  });

  describe("sizes", () => {
    const check = (key: string, value: string | Buffer, limits = HOST_LIMITS): string =>
      codeOf(() => checkPair(key, Buffer.from(value as string), limits));
    const TABLE: readonly (readonly [string, string, string | Buffer, string])[] = [
      ["254 units of key", "k".repeat(254), "", "no error"],
      ["255 units of key", "k".repeat(255), "", "ERR_KEY_TOO_LONG"],
      ["127 emoji are 254 units and 508 bytes", "🙂".repeat(127), "", "no error"],
      ["170 three-byte characters are 510 bytes", "日".repeat(170), "", "no error"],
      ["171 three-byte characters are 513 bytes", "日".repeat(171), "", "ERR_KEY_TOO_LONG"],
      ["1022 units of value", "k", "v".repeat(1022), "no error"],
      ["1023 units of value", "k", "v".repeat(1023), "ERR_VALUE_TOO_LONG"],
      ["511 emoji are 1022 units and 2044 bytes", "k", "🙂".repeat(511), "no error"],
      ["682 three-byte characters are 2046 bytes", "k", "日".repeat(682), "no error"],
      ["683 three-byte characters are 2049 bytes", "k", "日".repeat(683), "ERR_VALUE_TOO_LONG"],
      ["bytes that are not UTF-8", "k", Buffer.from([0xff]), "ERR_VALUE_INVALID"],
      ["a NUL in the value", "k", "a\0b", "ERR_VALUE_INVALID"],
    ];
    for (const [name, key, value, expected] of TABLE) {
      it(`${name}: ${expected}`, () => expect(check(key, value)).to.equal(expected));
    }

    it("allows what the record holds when asked to", () => {
      expect(check("k".repeat(511), "v".repeat(2047), FILE_LIMITS)).to.equal("no error");
      expect(check("k".repeat(512), "", FILE_LIMITS)).to.equal("ERR_KEY_TOO_LONG");
      expect(check("k", "v".repeat(2048), FILE_LIMITS)).to.equal("ERR_VALUE_TOO_LONG");
    });
  });
});
