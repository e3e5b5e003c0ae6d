import { expect } from "chai";
import { environmentText } from "../../../src/tools/sync/environment-text.js";
import { shellReads, systemdReads, thisSystemdReads } from "../../support/environment-file.js";
import { pending } from "../../support/pending.js";

const textOf = (values: Readonly<Record<string, string | Uint8Array>>): string =>
  environmentText(
    new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value as string)])),
  );

const codeOf = (values: Readonly<Record<string, string | Uint8Array>>): unknown => {
  try {
    return textOf(values);
  } catch (error) {
    return (error as { code?: string }).code;
  }
};

/** Values that some reader could take for more than a value. */
const VALUES: Readonly<Record<string, string>> = {
  EMPTY: "",
  PLAIN: "a-b_c.d/e:f@g%h+i,j",
  BLANKS: "  two  words ",
  TAB: "a\tb",
  QUOTES: `'single' "double" \`back\``,
  DOLLAR: "$HOME $" + "{HOME} $(id) \\$x",
  BACKSLASHES: '\\ \\\\ \\n \\" end\\',
  LINES: 'one\nEVIL=1\n\n export EVIL=2\n"EVIL=3\n',
  RETURNS: "a\rEVIL=1\r\nEVIL=2\r",
  SEPARATORS: "a\u2028EVIL=1\u2029EVIL=2\u0085EVIL=3\vEVIL=4\fEVIL=5\u001cEVIL=6",
  HASH: "# no comment",
  SEMICOLON: "; no comment",
  EQUALS: "a=b",
  TILDE: "~root",
  GLOB: "* ? [a]",
  BANG: "!!",
  ESCAPE: "\u001b[31mred\u007f",
  WIDE: "größer 漢字 😀 \ufeff",
  JSON: '{"a":[1,"b"],"c":"\\u0000"}',
};

describe("a file of variables", () => {
  it("has plain values as they are, sorted lines, and quotes around all else", () => {
    expect(textOf({ role: "web", "a-b": "x y", empty: "", n: "1" })).to.equal(
      'A_B="x y"\nEMPTY=\nN=1\nROLE=web\n',
    );
    expect(textOf({ v: 'a"b\\c`d$e' })).to.equal('V="a\\"b\\\\c\\`d\\$e"\n');
    expect(textOf({})).to.equal("");
  });

  it("is read by systemd's rules as it was written", () => {
    expect(Object.fromEntries(systemdReads(textOf(VALUES)))).to.deep.equal(VALUES);
  });

  it("is read by a shell as it was written", () => {
    expect(Object.fromEntries(shellReads(textOf(VALUES), Object.keys(VALUES)))).to.deep.equal(VALUES);
  });

  it("is read by this machine's systemd as it was written", function () {
    const values = Object.fromEntries(
      Object.entries(VALUES).filter(([, value]) => value !== "" && !value.includes("$")),
    );
    const found = thisSystemdReads(textOf(values), Object.keys(values));
    if (found === undefined) return pending(this, "systemd's environment generator; apt-get install systemd");
    expect(Object.fromEntries(found)).to.deep.equal(values);
    expect(Object.keys(values).length).to.be.greaterThan(15);
    // Why a noncharacter is refused.
    expect(() => thisSystemdReads("A=\ufffe\n", ["A"])).to.throw("invalid UTF-8 value");
  });

  it("shows no line that begins as a variable which is none, to no reader of lines", () => {
    for (const line of textOf(VALUES).split(/[\p{Cc}\u2028\u2029]/u))
      expect(line).not.to.match(/^\s*(?:export\s+)?"?EVIL=/);
  });

  it("holds neither NUL, nor broken UTF-8, nor what systemd refuses a whole file for", () => {
    for (const bad of [Buffer.from("a\0b"), Buffer.from([0xff]), "\ufffe", "\ufdd0", "\u{1ffff}"])
      expect(codeOf({ good: "1", bad }), JSON.stringify(bad)).to.equal("ERR_VALUE_INVALID");
    expect(codeOf({ "a.b": "1", "a-b": "2" })).to.equal("ERR_CONFLICT");
  });
});
