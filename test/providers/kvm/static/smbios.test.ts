import { chmodSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { hasMixedUuids, listedNames, readTable } from "../../../../providers/kvm/protocol/smbios.js";
import { hasSmbios, SmbiosSource } from "../../../../providers/kvm/static/smbios.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import { finish } from "../../../../src/mdata/steps.js";
import { rejects } from "../../../support/rejects.js";
import { addFiles, asNobody, fileTree, removeTree } from "../../../support/trees.js";

/** Table of a QEMU 7.2 q35 guest with type 1, type 3 and two OEM strings, as its Linux showed it. */
const TABLE = Buffer.from(
  `00180000010200e80300080000000000000000040000ffff53656142494f5300312e31362e322d64656269616e2d312e
31362e322d310030342f30312f323031340000011b000101020304443322116655887799aabbccddeeff000605065076
6275735465737400536d61727444432048564d0070632d7133352d372e320064733d6e6f636c6f75643b683d7800534b
55310046414d00000316000301010200030303030200000000000000000051454d550070632d7133352d372e32004153
5345542d5441472d310000042a000401030102b10f0600fdfb8b0703000000d007d0074101ffffffffffff0000000101
010200010043505520300051454d550070632d7133352d372e3200000b05000e026f72672e70766275733a6b6579313d
76616c756531007365636f6e6400001017001001030600000600feff010000000000000000000000112800110010feff
ffffffff8001090001000702000000020000000000000000000000000000000044494d4d20300051454d550000131f00
1300000000ffff0500001001000000000000000000000000000000000000200b00200000000000000000007f04007f00
00`.replaceAll("\n", ""),
  "hex",
);
/** Entry point of such a guest: SMBIOS 2.8, 32-bit form. */
const ENTRY_POINT = Buffer.from("5f534d5fe81f020891000000000000005f444d495f2d1f0280590f000a0028", "hex");

const text = (value: Uint8Array | undefined): string | undefined =>
  value && Buffer.from(value).toString("utf8");

/** An OEM strings structure with a count that says what it likes. */
function oemTable(strings: readonly (string | Uint8Array)[], count = strings.length): Buffer {
  const parts = strings.flatMap((each) => [Buffer.from(each), Buffer.of(0)]);
  return Buffer.concat([
    Buffer.of(11, 5, 0, 14, count & 0xff),
    ...parts,
    Buffer.of(0),
    Buffer.of(127, 4, 0, 127, 0, 0),
  ]);
}

const oem = (strings: readonly (string | Uint8Array)[], count?: number): Map<string, Uint8Array> =>
  smbiosValues(oemTable(strings, count));

const smbiosValues = (table: Uint8Array, isMixed = true): Map<string, Uint8Array> =>
  finish(readTable(table, isMixed)).values;

const nothing = (): undefined => undefined;
const SILENT = { debug: nothing, info: nothing, warn: nothing, error: nothing };

describe("SMBIOS values", () => {
  it("are those of a real guest", () => {
    const values = Object.fromEntries([...smbiosValues(TABLE)].map(([name, value]) => [name, text(value)]));
    expect(values).to.deep.equal({
      "bios/vendor": "SeaBIOS",
      "bios/version": "1.16.2-debian-1.16.2-1",
      "bios/release-date": "04/01/2014",
      "system/manufacturer": "PvbusTest",
      "system/product-name": "SmartDC HVM",
      "system/version": "pc-q35-7.2",
      "system/serial-number": "ds=nocloud;h=x",
      "system/uuid": "11223344-5566-7788-99aa-bbccddeeff00",
      "system/sku-number": "SKU1",
      "system/family": "FAM",
      "chassis/manufacturer": "QEMU",
      "chassis/version": "pc-q35-7.2",
      "chassis/asset-tag": "ASSET-TAG-1",
      "oem/org.pvbus:key1": "value1",
      "oem/1": "org.pvbus:key1=value1",
      "oem/2": "second",
    });
  });

  it("take the UUID as it stands before version 2.6", () => {
    expect(text(smbiosValues(TABLE, false).get("system/uuid"))).to.equal(
      "44332211-6655-8877-99aa-bbccddeeff00",
    );
    expect(hasMixedUuids(ENTRY_POINT)).to.equal(true);
    expect(hasMixedUuids(Buffer.from("5f534d5f001f0205", "hex"))).to.equal(false);
    expect(hasMixedUuids(Buffer.from("5f534d335f00180205", "hex"))).to.equal(false);
    expect(hasMixedUuids(Buffer.from("5f534d335f00180300", "hex"))).to.equal(true);
  });

  it("have all OEM strings whatever the count says: QEMU writes 44 for 300", () => {
    const strings = Array.from({ length: 300 }, (_, at) => `s${at}`);
    for (const count of [300, 0, 1, 255]) {
      const values = oem(strings, count);
      expect(text(values.get("oem/300"))).to.equal("s299");
      expect(values.get("oem/301")).to.equal(undefined);
    }
  });

  it("number the OEM strings of several structures through", () => {
    const values = smbiosValues(Buffer.concat([oemTable(["a", "b"]).subarray(0, -6), oemTable(["c"])]));
    expect(text(values.get("oem/3"))).to.equal("c");
  });

  it("take values out of base64 where they are said to be in it, and leave others as they are", () => {
    const values = oem([
      "app.binary:k=AAH/",
      "app.binary:bad=AA",
      "app:e=",
      "app:x=a=b",
      "app:noequals",
      ":k=v",
    ]);
    expect([...(values.get("oem/app:k") ?? [])]).to.deep.equal([0, 1, 255]);
    expect(text(values.get("oem/app.binary:bad"))).to.equal("AA");
    expect(text(values.get("oem/app:e"))).to.equal("");
    expect(text(values.get("oem/app:x"))).to.equal("a=b");
    expect([...values.keys()].filter((name) => name.includes("noequals") || name === "oem/:k")).to.deep.equal(
      [],
    );
  });

  it("give the first of two strings with one name, and list the second by its number", () => {
    const values = oem(["app:k=first", "app:k=second"]);
    expect(text(values.get("oem/app:k"))).to.equal("first");
    expect(finish(listedNames(values))).to.deep.equal(["oem/app:k", "oem/2"]);
  });

  it("are whole or not there, wherever the table is cut", () => {
    const whole = smbiosValues(TABLE);
    for (let end = 0; end < TABLE.length; end++) {
      for (const [name, value] of smbiosValues(TABLE.subarray(0, end)))
        expect(text(value), `${name} of ${end} bytes`).to.equal(text(whole.get(name)));
    }
    const long = oemTable(["app:a=1", `app:b=${"x".repeat(900)}`]);
    const last = long.indexOf("app:b");
    for (let end = last; end < last + 906; end++)
      expect([...smbiosValues(long.subarray(0, end)).keys()]).to.deep.equal(["oem/app:a", "oem/1"]);
  });

  it("come in small steps, however long one of them is, and with the word that the table is cut", () => {
    const stepsOf = (table: Uint8Array): number => {
      const steps = readTable(table, true);
      let count = 0;
      let next = steps.next();
      for (; next.done !== true; next = steps.next()) count++;
      expect(next.value.isCut).to.equal(false);
      return count;
    };
    expect(stepsOf(oemTable([`a.binary:k=${"QUJD".repeat(1 << 20)}`]))).to.be.at.least(64);
    expect(stepsOf(oemTable(Array.from({ length: 1_000 }, (_, at) => `a:${at}=x`)))).to.be.at.least(1_000);
    expect(finish(readTable(TABLE.subarray(0, 200), true)).isCut).to.equal(true);
  });

  it("survive any table, cut anywhere", () => {
    for (let end = 0; end < TABLE.length; end++) smbiosValues(TABLE.subarray(0, end));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, isMixed) => {
        const values = smbiosValues(Buffer.concat([Buffer.of(11, 5, 0, 0, 3), bytes]), isMixed);
        for (const name of finish(listedNames(values))) expect(values.has(name)).to.equal(true);
      }),
    );
  });
});

describe("SMBIOS", () => {
  let sysroot: string;
  const source = (): SmbiosSource => new SmbiosSource(nodeHost({ sysroot, platform: "linux" }), "org.pvbus");

  beforeEach(() => {
    sysroot = fileTree({
      "sys/firmware/dmi/tables/DMI": TABLE,
      "sys/firmware/dmi/tables/smbios_entry_point": ENTRY_POINT,
      "sys/class/dmi/id/sys_vendor": "PvbusTest\n",
      "sys/class/dmi/id/product_name": "SmartDC HVM\n",
      "sys/class/dmi/id/product_serial": "secret\n",
    });
    chmodSync(sysroot, 0o755);
  });
  afterEach(() => removeTree(sysroot));

  it("is there with a table or with fields alone", () => {
    const host = nodeHost({ sysroot });
    expect(hasSmbios(host)).to.equal(true);
    removeTree(join(sysroot, "sys/firmware"));
    expect(hasSmbios(host)).to.equal(true);
    removeTree(join(sysroot, "sys/class"));
    expect(hasSmbios(host)).to.equal(false);
  });

  it("reads the table", async () => {
    expect(text(await source().read("oem/org.pvbus:key1", new Call()))).to.equal("value1");
    expect(text(await source().read(source().nameOf("key1"), new Call()))).to.equal("value1");
    expect(source().keyOf("oem/org.pvbus:key1")).to.equal("key1");
    expect(source().keyOf("oem/1")).to.equal(undefined);
  });

  it("gives everybody the fields, and says what is root's", async () => {
    const closed = process.geteuid?.() === 0 ? 0o400 : 0;
    chmodSync(join(sysroot, "sys/firmware/dmi/tables/DMI"), closed);
    chmodSync(join(sysroot, "sys/class/dmi/id/product_serial"), closed);
    await asNobody(async () => {
      const one = source();
      expect(text(await one.read("system/product-name", new Call()))).to.equal("SmartDC HVM");
      for (const name of ["oem/1", "oem/org.pvbus:key1", "system/serial-number"])
        await rejects(one.read(name, new Call()), "ERR_PERMISSION");
      expect(await one.read("no/such", new Call())).to.equal(undefined);
      const names: string[] = [];
      for await (const { name } of one.list("", new Call())) names.push(name);
      expect(names).to.deep.equal(["system/manufacturer", "system/product-name"]);
    });
  });

  it("warns once of a table that is cut, and says nothing of a whole one", async () => {
    const warnings: unknown[] = [];
    const logger = { ...SILENT, warn: (...what: unknown[]) => void warnings.push(what) };
    const read = async (): Promise<string | undefined> => {
      const one = new SmbiosSource(nodeHost({ sysroot, platform: "linux", logger }), "org.pvbus");
      await one.read("oem/1", new Call());
      return text(await one.read("oem/2", new Call()));
    };
    expect(await read()).to.equal("second");
    expect(warnings).to.deep.equal([]);
    const bytes = TABLE.indexOf("second") + 3;
    addFiles(sysroot, { "sys/firmware/dmi/tables/DMI": TABLE.subarray(0, bytes) });
    expect(await read()).to.equal(undefined);
    expect(warnings).to.deep.equal([
      ["the SMBIOS table is cut; what stands at its end is left out", { bytes }],
    ]);
  });

  it("refuses a table without end", async () => {
    addFiles(sysroot, { "sys/firmware/dmi/tables/DMI": Buffer.alloc(16 * 1024 * 1024 + 1) });
    await rejects(source().read("oem/1", new Call()), "ERR_CORRUPT");
  });
});
