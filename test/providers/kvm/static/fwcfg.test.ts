import { chmodSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { FwCfgSource, hasFwCfg } from "../../../../providers/kvm/static/fwcfg.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import { rejects } from "../../../support/rejects.js";
import { addFiles, asNobody, fileTree, removeTree } from "../../../support/trees.js";

const ROOT = "sys/firmware/qemu_fw_cfg";
const OPTIONS = { namespace: "org.pvbus", maxBytes: 1024 * 1024 };

/** The files of one item as Linux' driver shows them. */
function item(
  selector: number,
  name: string,
  raw: string | Uint8Array,
  size?: string,
): Record<string, string | Uint8Array> {
  const directory = `${ROOT}/by_key/${selector}`;
  return {
    [`${directory}/name`]: `${name}\n`,
    [`${directory}/size`]: `${size ?? Buffer.byteLength(raw)}\n`,
    [`${directory}/key`]: `${selector}\n`,
    [`${directory}/raw`]: raw,
  };
}

describe("fw_cfg", () => {
  let sysroot: string;
  const messages: string[] = [];
  const logger = { debug: note, info: note, warn: note, error: note };
  function note(message: string): void {
    messages.push(message);
  }
  const source = (options = OPTIONS): FwCfgSource =>
    new FwCfgSource(nodeHost({ sysroot, logger, platform: "linux" }), options);
  const text = async (name: string, of = source()): Promise<string | undefined> => {
    const value = await of.read(name, new Call());
    return value && Buffer.from(value).toString("latin1");
  };
  const listed = async (prefix = "", of = source()): Promise<[string, string | undefined][]> => {
    const all: [string, string | undefined][] = [];
    for await (const { name, value } of of.list(prefix, new Call()))
      all.push([name, value && Buffer.from(value).toString("latin1")]);
    return all;
  };

  beforeEach(() => {
    messages.length = 0;
    sysroot = fileTree({ [`${ROOT}/rev`]: "3\n", ...item(32, "etc/e820", "firmware") });
  });
  afterEach(() => removeTree(sysroot));

  it("is there when the driver serves a device, not when it is only loaded", () => {
    const host = nodeHost({ sysroot });
    expect(hasFwCfg(host)).to.equal(true);
    removeTree(join(sysroot, ROOT, "rev"));
    expect(hasFwCfg(host)).to.equal(false);
  });

  it("gives the exact bytes, those that are no text too", async () => {
    addFiles(sysroot, item(40, "opt/org.pvbus/bin", Buffer.from([0, 255, 10, 0])));
    expect(await text("opt/org.pvbus/bin")).to.equal("\0\xff\n\0");
    expect(await text("opt/org.pvbus/absent")).to.equal(undefined);
  });

  it("finds what the tree by name cannot show: names below names, empty parts, blanks", async () => {
    const names = ["opt/c", "opt/c/d", "opt//dbl", "opt/trail/", "opt/a b"];
    for (const [at, name] of names.entries()) addFiles(sysroot, item(40 + at, name, name));
    for (const name of names) expect(await text(name)).to.equal(name);
    expect((await listed("opt/")).map(([name]) => name)).to.deep.equal(names);
  });

  it("lists by selector, users' items with their values and the firmware's by name", async () => {
    addFiles(sysroot, {
      ...item(100, "opt/b", "2"),
      ...item(99, "opt/a", "1"),
      ...item(101, "opt/big", "x".repeat(16_385)),
    });
    expect(await listed()).to.deep.equal([
      ["etc/e820", undefined],
      ["opt/a", "1"],
      ["opt/b", "2"],
      ["opt/big", undefined],
    ]);
    expect(await text("etc/e820")).to.equal("firmware");
  });

  it("reads an item once, and hands out copies", async () => {
    addFiles(sysroot, item(40, "opt/x", "value"));
    const one = source();
    const first = await one.read("opt/x", new Call());
    first?.fill(0);
    removeTree(join(sysroot, ROOT, "by_key"));
    expect(await text("opt/x", one)).to.equal("value");
  });

  it("refuses an item over the limit by its size, before a byte of it is read", async () => {
    addFiles(sysroot, item(40, "opt/huge", "short", "2000000000"));
    const error = await rejects(source().read("opt/huge", new Call()), "ERR_VALUE_TOO_LONG");
    expect(error.message).to.include("2000000000").and.include("maxItemBytes");
  });

  it("warns of items that take long", async () => {
    addFiles(sysroot, item(40, "opt/large", "x".repeat(70_000)));
    expect((await text("opt/large"))?.length).to.equal(70_000);
    expect(messages.join()).to.include("large fw_cfg item");
  });

  for (const [what, size] of [
    ["ends before its size", "10"],
    ["has a size that is none", "many"],
    ["has a negative size", "-1"],
    ["has no size", ""],
  ] as const) {
    it(`says that an item is damaged when it ${what}`, async () => {
      addFiles(sysroot, item(40, "opt/x", "value", size));
      await rejects(source().read("opt/x", new Call()), "ERR_CORRUPT");
    });
  }

  it("reads no more than the size", async () => {
    addFiles(sysroot, item(40, "opt/x", "value and more", "5"));
    expect(await text("opt/x")).to.equal("value");
  });

  it("lists names without root's rights, and says who may read values", async () => {
    addFiles(sysroot, {
      ...item(40, "opt/org.pvbus/a", "1"),
      ...item(41, "opt/b", "2"),
      [`${ROOT}/by_name/opt/org.pvbus/`]: "",
    });
    for (const [selector, name] of [
      [40, "opt/org.pvbus/a"],
      [41, "opt/b"],
    ] as const)
      symlinkSync(join("/", ROOT, "by_key", `${selector}`), join(sysroot, ROOT, "by_name", name));
    for (const selector of [32, 40, 41])
      for (const file of ["name", "size", "key", "raw"])
        chmodSync(join(sysroot, ROOT, "by_key", `${selector}`, file), process.geteuid?.() === 0 ? 0o400 : 0);
    chmodSync(sysroot, 0o755);
    await asNobody(async () => {
      expect(await listed()).to.deep.equal([
        ["opt/b", undefined],
        ["opt/org.pvbus/a", undefined],
      ]);
      const error = await rejects(source().read("opt/b", new Call()), "ERR_PERMISSION");
      expect(error.message).to.include("run as root");
      expect(await text("opt/absent")).to.equal(undefined);
    });
  });

  it("follows links of a captured tree to where they lead inside it, never out of it", async () => {
    const outside = fileTree({ secret: "outside" });
    try {
      addFiles(sysroot, { [`${ROOT}/by_key/40/name`]: "opt/x\n", [`${ROOT}/by_key/40/size`]: "6\n" });
      symlinkSync(join(outside, "secret"), join(sysroot, ROOT, "by_key/40/raw"));
      await rejects(source().read("opt/x", new Call()), "ERR_CORRUPT");
      addFiles(sysroot, { [join(outside, "secret")]: "inside" });
      expect(await text("opt/x")).to.equal("inside");
    } finally {
      removeTree(outside);
    }
  });

  it("knows plain keys by the namespace", () => {
    expect(source().nameOf("a/b")).to.equal("opt/org.pvbus/a/b");
    expect(source().keyOf("opt/org.pvbus/a/b")).to.equal("a/b");
    expect(source().keyOf("opt/org.pvbus/")).to.equal(undefined);
    expect(source().keyOf("opt/org.pvbusa")).to.equal(undefined);
  });
});
