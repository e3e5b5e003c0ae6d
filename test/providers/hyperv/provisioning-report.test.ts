import { expect } from "chai";
import fc from "fast-check";
import {
  decodeReport,
  encodeReport,
  MAX_REPORT_BYTES,
} from "../../../providers/hyperv/protocol/provisioning-report.js";

describe("the provisioning report", () => {
  for (const [name, line, fields] of [
    [
      "of cloud-init",
      "result=error|reason=failure to obtain DHCP lease|duration=60.0|'interface=eth|0'|vm_id=x",
      [
        ["result", "error"],
        ["reason", "failure to obtain DHCP lease"],
        ["duration", "60.0"],
        ["interface", "eth|0"],
        ["vm_id", "x"],
      ],
    ],
    [
      "with quotes doubled",
      "'reason=it''s|so'|agent=a",
      [
        ["reason", "it's|so"],
        ["agent", "a"],
      ],
    ],
    [
      "of azure-init",
      'result=success|"reason=a|""b"""|pps_type=None',
      [
        ["result", "success"],
        ["reason", 'a|"b"'],
        ["pps_type", "None"],
      ],
    ],
    ["with an equals sign in a value", "reason=a=b", [["reason", "a=b"]]],
    ["with what has no name", "alone||=x|a=", [["a", ""]]],
    ["cut inside of quotes", "'reason=a|b", [["reason", "a|b"]]],
    ["that is empty", "", []],
  ] as const)
    it(`${name} is read`, () => {
      expect(decodeReport(line)).to.deep.equal(fields);
    });

  it("is read as it was written, whatever stands in it", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "|", "'", '"', "=", "\n", "ä", " ") });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom("a", "b-c", "d"), text), { maxLength: 6 }), (fields) => {
        expect(decodeReport(encodeReport(fields))).to.deep.equal(fields);
      }),
    );
  });

  it("is cut to what a value takes, and never inside a character", () => {
    const line = encodeReport([["reason", "ä".repeat(2000)]]);
    expect(Buffer.byteLength(line)).to.be.within(MAX_REPORT_BYTES - 1, MAX_REPORT_BYTES);
    expect(line).not.to.contain("\ufffd");
  });
});
