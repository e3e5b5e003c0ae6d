import { existsSync, readFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { parseSmbios } from "../../../src/base/firmware/smbios.js";
import { pending } from "../../support/pending.js";

/** A structure: type, formatted bytes behind the header, strings. */
function structure(type: number, fields: readonly number[], strings: readonly string[]): Buffer {
  const header = Buffer.from([type, 4 + fields.length, 0, 0, ...fields]);
  const texts = strings.map((text) => `${text}\0`).join("");
  return Buffer.concat([header, Buffer.from(strings.length === 0 ? "\0\0" : `${texts}\0`)]);
}

const BIOS = structure(
  0,
  [1, 2, 0, 0, 3, ...new Array<number>(10).fill(0), 0x10],
  ["SeaBIOS", "1.16", "04/01/2014"],
);
const SYSTEM = structure(
  1,
  [1, 2, 3, 0, ...new Array<number>(17).fill(0), 0, 4],
  ["QEMU", "Standard PC ", "7.2", "fam"],
);
const END = structure(127, [], []);

describe("SMBIOS table", () => {
  it("gives the texts by the names of Linux's files, and the firmware's word on virtual machines", () => {
    const { texts, vmBit } = parseSmbios(Buffer.concat([BIOS, structure(4, [], []), SYSTEM, END]));
    expect(vmBit).to.equal(true);
    expect(Object.fromEntries(texts)).to.deep.equal({
      bios_vendor: "SeaBIOS",
      bios_version: "1.16",
      sys_vendor: "QEMU",
      product_name: "Standard PC",
      product_version: "7.2",
      product_family: "fam",
    });
  });

  it("takes the first structure of a type, and nothing behind the end", () => {
    const other = structure(1, [1], ["Other"]);
    expect(parseSmbios(Buffer.concat([SYSTEM, other, END])).texts.get("sys_vendor")).to.equal("QEMU");
    expect(parseSmbios(Buffer.concat([END, SYSTEM])).texts.size).to.equal(0);
    expect(parseSmbios(other).vmBit).to.equal(undefined);
  });

  it("accepts any bytes, also a genuine table cut anywhere", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => void parseSmbios(bytes)));
    const whole = Buffer.concat([BIOS, SYSTEM, END]);
    for (let length = 0; length <= whole.length; length++) parseSmbios(whole.subarray(0, length));
    expect(parseSmbios(structure(1, [9], ["one"])).texts.size, "a number without its string").to.equal(0);
  });

  it("agrees with the kernel's own reading where this machine has a table", function () {
    const table = "/sys/firmware/dmi/tables/DMI";
    if (!existsSync(table)) {
      return pending(this, "this machine has no SMBIOS table");
    }
    let bytes: Buffer;
    try {
      bytes = readFileSync(table);
    } catch {
      return pending(this, "the table is readable by root only");
    }
    const { texts } = parseSmbios(bytes);
    for (const name of ["sys_vendor", "product_name", "bios_vendor"]) {
      const path = `/sys/class/dmi/id/${name}`;
      if (existsSync(path)) expect(texts.get(name) ?? "").to.equal(readFileSync(path, "utf8").trim());
    }
  });
});
