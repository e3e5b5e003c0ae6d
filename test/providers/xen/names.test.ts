import { expect } from "chai";
import fc from "fast-check";
import { decodeName, decodePath, encodeName, encodePath } from "../../../providers/xen/index.js";
import { checkNodePath, checkPath, childPath, isAtOrBelow } from "../../../providers/xen/protocol/keys.js";
import { formatPermission, parsePermission } from "../../../providers/xen/protocol/permissions.js";
import type { PvbusError } from "../../../src/index.js";

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as PvbusError).code;
  }
}

const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 });

describe("encoded XenStore names", () => {
  it("are as documented", () => {
    expect(encodeName("com.example")).to.equal("com@2eexample");
    expect(encodeName("a b/c@d")).to.equal("a@20b@2fc@40d");
    expect(encodeName("Grüße")).to.equal("Gr@c3@bc@c3@9fe");
    expect(encodeName("plain-Name_7")).to.equal("plain-Name_7");
    expect(encodePath("/a.b/c d/e")).to.equal("/a@2eb/c@20d/e");
    expect(encodePath("/")).to.equal("/");
  });

  it("come back as they were, and are names that XenStore takes", () => {
    fc.assert(
      fc.property(text, (name) => {
        const encoded = encodeName(name);
        expect(encoded).to.match(/^[A-Za-z0-9_@-]+$/);
        expect(decodeName(encoded)).to.equal(name);
      }),
    );
  });

  it("are distinct for distinct names", () => {
    fc.assert(
      fc.property(text, text, (one, other) => {
        expect(encodeName(one) === encodeName(other)).to.equal(one === other);
      }),
    );
  });

  it("leave others' names as they are", () => {
    for (const name of ["x@y", "@releaseDomain", "a@2E", "a@61", "a@ff", "a@c3"])
      expect(decodeName(name)).to.equal(name);
    expect(decodePath("/a@2eb/x@y")).to.equal("/a.b/x@y");
  });

  it("refuse what has no encoding", () => {
    expect(codeOf(() => encodeName(""))).to.equal("ERR_KEY_INVALID");
    expect(codeOf(() => encodeName("a\ud800"))).to.equal("ERR_KEY_INVALID");
    expect(codeOf(() => encodePath("a//b"))).to.equal("ERR_KEY_INVALID");
  });
});

describe("XenStore paths", () => {
  it("are checked as the daemons do", () => {
    for (const path of ["/", "a", "/a", "a/b-c_D@9", "@introduceDomain", "/x@y"]) checkPath(path);
    for (const path of ["", "a/", "/a/", "//", "a//b", ".", "a.b", "a b", "a\0b", "ä", "a+b", "a:b"])
      expect(
        codeOf(() => checkPath(path)),
        JSON.stringify(path),
      ).to.equal("ERR_KEY_INVALID");
    expect(codeOf(() => checkNodePath("@releaseDomain"))).to.equal("ERR_KEY_INVALID");
    expect(codeOf(() => checkNodePath("/@releaseDomain"))).to.equal("ERR_KEY_INVALID");
  });

  it("have a longest length, counted behind the domain's directory", () => {
    checkPath("a".repeat(2048));
    expect(codeOf(() => checkPath("a".repeat(2049)))).to.equal("ERR_KEY_TOO_LONG");
    checkPath(`/local/domain/7/${"a".repeat(2047)}`);
    expect(codeOf(() => checkPath(`/local/domain/7/${"a".repeat(2049)}`))).to.equal("ERR_KEY_TOO_LONG");
    checkPath(`/${"a".repeat(3071)}`);
    expect(codeOf(() => checkPath(`/${"a".repeat(3072)}`))).to.equal("ERR_KEY_TOO_LONG");
  });

  it("lie below each other by whole names", () => {
    expect(childPath("/", "a")).to.equal("/a");
    expect(childPath("a", "b")).to.equal("a/b");
    expect(isAtOrBelow("a/b", "a")).to.equal(true);
    expect(isAtOrBelow("ab", "a")).to.equal(false);
    expect(isAtOrBelow("/a", "/")).to.equal(true);
  });
});

describe("XenStore permissions", () => {
  it("are a letter and a domain", () => {
    expect(formatPermission({ domain: 7, access: "both" })).to.equal("b7");
    expect(parsePermission("r32757")).to.deep.equal({ domain: 32757, access: "read" });
    for (const bad of ["", "n", "7", "x7", "n-1", "n 1", "n123456"])
      expect(
        codeOf(() => parsePermission(bad)),
        bad,
      ).to.equal("ERR_PROTOCOL");
    expect(() => formatPermission({ domain: 65536, access: "none" })).to.throw(RangeError);
    expect(() => formatPermission({ domain: 1.5, access: "none" })).to.throw(RangeError);
    expect(() => formatPermission({ domain: 1, access: "all" as "none" })).to.throw(TypeError);
  });
});
