import { expect } from "chai";
import fc from "fast-check";
import { decodeReadyValue, encodeReadyValue } from "../../src/base/ready-value.js";

const BOOT = "11223344-5566-7788-99aa-bbccddeeff00";
const TIME = "2026-11-28T00:00:00.000Z";

describe("the value of readiness", () => {
  for (const [value, text] of [
    [{ ready: true, time: TIME, boot: BOOT, text: undefined }, `1 ready ${TIME} ${BOOT}`],
    [{ ready: false, time: TIME, boot: BOOT, text: "no disk" }, `1 failed ${TIME} ${BOOT} no disk`],
    [{ ready: true, time: TIME, boot: undefined, text: "ä b" }, `1 ready ${TIME} - ä b`],
  ] as const)
    it(`${text} is read as it was written`, () => {
      expect(encodeReadyValue(value)).to.equal(text);
      expect(decodeReadyValue(text)).to.deep.equal(value);
    });

  it("takes every form of RFC 3339", () => {
    for (const time of ["2026-11-28T00:00:00Z", "2026-11-28T01:00:00.5+01:00"])
      expect(decodeReadyValue(`1 ready ${time} ${BOOT}`)?.time).to.equal(time);
  });

  it("is nothing else", () => {
    for (const text of [
      "",
      "ready",
      `2 ready ${TIME} ${BOOT}`,
      `1 up ${TIME} ${BOOT}`,
      `1 ready now ${BOOT}`,
      `1 ready ${TIME}`,
      `1 ready ${TIME} ${BOOT}\nforged`,
      `1 ready ${TIME} ${BOOT} text\nforged`,
      `1  ready ${TIME} ${BOOT}`,
    ])
      expect(decodeReadyValue(text), text).to.equal(undefined);
  });

  it("keeps any line", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", minLength: 1 }).filter((text) => !/[\n\r\u2028\u2029]/.test(text)),
        fc.boolean(),
        (text, ready) => {
          const value = { ready, time: TIME, boot: BOOT, text };
          expect(decodeReadyValue(encodeReadyValue(value))).to.deep.equal(value);
        },
      ),
    );
  });
});
