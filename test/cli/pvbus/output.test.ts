import { expect } from "chai";
import { entryJson } from "../../../src/cli/io/keys.js";
import { heading, jsonText, onTerminal, visible, visibleKey } from "../../../src/cli/io/output.js";

const HOSTILE = "\x1b[2J \x9b31m \x07 \u202e \u2028 \x7f \u{e0041}";
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not come through
const DANGEROUS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028\u{e0041}]/u;

describe("output of the command line", () => {
  describe("visible", () => {
    it("leaves nothing that drives a terminal or ends a line", () => {
      expect(visible(`${HOSTILE}\n\r\t`)).not.to.match(/[\n\r\t]/);
      expect(visible(HOSTILE)).not.to.match(DANGEROUS);
    });

    it("gives different text for different input", () => {
      expect(visible("\n")).not.to.equal(visible("\\n"));
      expect(visible("\x1b")).not.to.equal(visible("\\u{1b}"));
    });

    it("leaves printable text of any script as it is", () => {
      expect(visible("Grüße 値 🙂 a=b")).to.equal("Grüße 値 🙂 a=b");
    });
  });

  it("visibleKey escapes the = that would end the key", () => {
    expect(visibleKey("External/a=b")).to.equal("External/a\\u{3d}b");
  });

  describe("onTerminal", () => {
    it("keeps line ends, tabs and backslashes of a value", () => {
      expect(onTerminal("C:\\temp\n\tx")).to.equal("C:\\temp\n\tx");
    });

    it("escapes whatever else drives a terminal", () => {
      expect(onTerminal(HOSTILE)).not.to.match(DANGEROUS);
      expect(onTerminal("a\rb")).to.equal("a\\rb");
    });
  });

  describe("jsonText", () => {
    it("is the same value and drives no terminal", () => {
      const value = { key: HOSTILE, list: [1, null, "🙂"] };
      expect(JSON.parse(jsonText(value))).to.deep.equal(value);
      expect(jsonText(value)).not.to.match(DANGEROUS);
    });

    it("is one line unless an indent is asked for", () => {
      expect(jsonText({ a: "x\ny" })).to.equal('{"a":"x\\ny"}');
    });
  });

  describe("entryJson", () => {
    it("has base64 where the bytes are no text, null where there is no value", () => {
      expect(entryJson({ key: "k", value: "\ufffd", bytes: Uint8Array.of(0xff) })).to.deep.equal({
        key: "k",
        valueBase64: "/w==",
      });
      expect(entryJson({ key: "k", value: undefined })).to.deep.equal({ key: "k", value: null });
      expect(entryJson({ key: "k", value: "" })).to.deep.equal({ key: "k", value: "" });
    });
  });

  it("heading paints on a terminal only, and not where NO_COLOR is set", () => {
    const terminal = { isTTY: true, write: () => undefined };
    expect(heading(terminal, {})("x")).to.equal("\x1b[1mx\x1b[0m");
    expect(heading(terminal, { NO_COLOR: "" })("x")).to.equal("\x1b[1mx\x1b[0m");
    expect(heading(terminal, { NO_COLOR: "1" })("x")).to.equal("x");
    expect(heading({ write: () => undefined }, {})("x")).to.equal("x");
  });
});
