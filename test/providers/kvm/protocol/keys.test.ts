import { expect } from "chai";
import fc from "fast-check";
import { completeOptions } from "../../../../providers/kvm/options.js";
import { parseKey, parsePrefix, qualifiedKey, SOURCES } from "../../../../providers/kvm/protocol/keys.js";
import { PvbusError } from "../../../../src/index.js";

const code = (key: string): string | undefined => {
  try {
    parseKey(key);
    return undefined;
  } catch (error) {
    return PvbusError.is(error) ? error.code : `${error}`;
  }
};

describe("keys of KVM", () => {
  it("name a source, or none", () => {
    expect(parseKey("meta/a/b")).to.deep.equal({ source: "meta", name: "a/b" });
    expect(parseKey("fwcfg/opt/x")).to.deep.equal({ source: "fwcfg", name: "opt/x" });
    expect(parseKey("smbios/oem/1")).to.deep.equal({ source: "smbios", name: "oem/1" });
    for (const plain of ["a", "meta", "metadata/x", "Meta/x", "/meta/x", "sdc:uuid"])
      expect(parseKey(plain)).to.deep.equal({ source: undefined, name: plain });
  });

  it("are refused without a name, or where the channel would change them", () => {
    for (const key of [
      "meta/",
      "fwcfg/",
      "smbios/",
      "a\nb",
      "meta/a\rb",
      "meta/\u007f",
      " a",
      "a ",
      "meta/ a",
      "meta/a\ufeff",
    ])
      expect(code(key), JSON.stringify(key)).to.equal("ERR_KEY_INVALID");
    expect(code(`meta/${"k".repeat(4097)}`)).to.equal("ERR_KEY_TOO_LONG");
    expect(code(`meta/${"k".repeat(4096)}`)).to.equal(undefined);
    // QEMU's items may have such names.
    expect(code("fwcfg/opt/a ")).to.equal(undefined);
  });

  it("come back from their parts", () => {
    fc.assert(
      fc.property(fc.constantFrom(...SOURCES), fc.stringMatching(/^[a-z/:.]{1,20}$/), (source, name) => {
        expect(parseKey(qualifiedKey(source, name))).to.deep.equal({ source, name });
      }),
    );
  });

  it("have prefixes: a source with or without its slash, part of a name, anything plain", () => {
    expect(parsePrefix("meta")).to.deep.equal(parsePrefix("meta/"));
    expect(parsePrefix("meta/a")).to.deep.equal({ source: "meta", name: "a" });
    expect(parsePrefix("")).to.deep.equal({ source: undefined, name: "" });
    expect(parsePrefix("app/")).to.deep.equal({ source: undefined, name: "app/" });
  });
});

describe("options of KVM", () => {
  it("have defaults", () => {
    expect(completeOptions()).to.include({
      staticNamespace: "org.pvbus",
      portName: "org.pvbus.mdata.0",
      idleMs: 1000,
    });
    expect(completeOptions({ staticNamespace: "com.example", idleMs: undefined, pollMs: 10 })).to.include({
      staticNamespace: "com.example",
      idleMs: 1000,
      pollMs: 10,
    });
  });

  it("refuse the old name of the static sources' namespace, and say the new one", () => {
    expect(() => completeOptions({ namespace: "com.example" })).to.throw(
      TypeError,
      "is called staticNamespace",
    );
    expect(completeOptions({ namespace: undefined })).to.not.have.property("namespace");
  });

  for (const [name, value] of [
    ["nameSpace", "x"],
    ["toString", "x"],
    ["staticNamespace", "a/b"],
    ["staticNamespace", ""],
    ["staticNamespace", "n".repeat(49)],
    ["portName", "../x"],
    ["maxLineBytes", 1],
    ["maxItemBytes", "100"],
    ["connectTimeoutMs", Number.NaN],
    ["pollMs", 0],
    ["idleMs", -1],
  ] as const) {
    it(`refuse ${name} = ${JSON.stringify(value)?.slice(0, 20)}`, () => {
      expect(() => completeOptions({ [name]: value })).to.throw(TypeError, name);
    });
  }
});
