import { expect } from "chai";
import { byMadeName, fileName, isFileName, variableName } from "../../../src/tools/sync/names.js";

const codeOf = (action: () => unknown): unknown => {
  try {
    return action();
  } catch (error) {
    return (error as { code?: string }).code;
  }
};

describe("names of a sync", () => {
  it("are variables in upper case, of A to Z, digits and underscores, without a leading digit", () => {
    for (const [name, variable] of [
      ["role", "ROLE"],
      ["Guest/a.b-c", "GUEST_A_B_C"],
      ["9lives", "_9LIVES"],
      ["a=b\nPATH=/tmp", "A_B_PATH__TMP"],
      ["é", "_"],
      ["ß", "_"],
      ["\u0131", "_"],
      ["😀", "_"],
      ["a b", "A_B"],
      ["_x", "_X"],
    ] as const)
      expect(variableName(name), name).to.equal(variable);
  });

  it("are files of plain bytes, all else as %XX, a leading dot too", () => {
    for (const [name, file] of [
      ["role", "role"],
      ["Guest/a", "Guest%2Fa"],
      [".", "%2E"],
      ["..", "%2E."],
      ["../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"],
      [".hidden", "%2Ehidden"],
      ["a.b", "a.b"],
      ["100%", "100%25"],
      ["%2F", "%252F"],
      ["é", "%C3%A9"],
      ["a\0b", "a%00b"],
      ["a\nb", "a%0Ab"],
      ["a\\b", "a%5Cb"],
      ["a:b", "a%3Ab"],
      ["-rf", "-rf"],
    ] as const) {
      expect(fileName(name), name).to.equal(file);
      expect(isFileName(file), file).to.equal(true);
    }
  });

  it("are refused as files where no file system takes them", () => {
    expect(fileName("n".repeat(255))).to.have.length(255);
    expect(codeOf(() => fileName("n".repeat(256)))).to.equal("ERR_KEY_TOO_LONG");
    expect(codeOf(() => fileName("/".repeat(86)))).to.equal("ERR_KEY_TOO_LONG");
  });

  it("of a list that somebody has written are files of ours alone", () => {
    for (const name of ["", ".", "..", ".x", "a/b", "a\0", "%2f", "%zz", "%", "a b", "n".repeat(256)])
      expect(isFileName(name), name).to.equal(false);
  });

  it("that two keys share are an error, which names both, and so is one of nothing", () => {
    const content = new Map([
      ["a-b", 1],
      ["c", 2],
      ["a.b", 3],
    ]);
    expect(() => byMadeName(content, "the variable", variableName))
      .to.throw(/"a-b" and "a\.b" both become the variable A_B/)
      .with.property("code", "ERR_CONFLICT");
    expect([...byMadeName(content, "the file", fileName).keys()]).to.deep.equal(["a-b", "c", "a.b"]);
    for (const makeName of [variableName, fileName])
      expect(codeOf(() => byMadeName(new Map([["", 1]]), "the file", makeName))).to.equal("ERR_KEY_INVALID");
    const lower = (name: string): string => name.toLowerCase();
    const cases = new Map([
      ["A", 1],
      ["a", 2],
    ]);
    expect(codeOf(() => byMadeName(cases, "the file", fileName, lower))).to.equal("ERR_CONFLICT");
  });
});
