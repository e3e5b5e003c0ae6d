import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import {
  openAdministration,
  parseDescription,
  parseEndpoint,
  qemuArguments,
} from "../../../../providers/kvm/host/index.js";
import { smbiosStructures } from "../../../../src/base/firmware/smbios.js";
import { encodeRequest } from "../../../../src/mdata/request.js";
import { HostFolder } from "../../../support/kvm-guest.js";
import { hasQemu, QemuPorts } from "../../../support/qemu.js";

const OEM = 11;
const TABLES = "etc/smbios/smbios-tables";
const isThere = hasQemu();

/** Starts QEMU with our arguments and gives what its devices hold: fw_cfg items, OEM strings. */
async function holds(description: unknown): Promise<{ items: Map<string, Buffer>; strings: Buffer[] }> {
  const args = qemuArguments(parseDescription(description), () => 1);
  await using machine = new QemuPorts(args);
  const items = await machine.items((name) => name.startsWith("opt/") || name === TABLES);
  const table = items.get(TABLES) ?? Buffer.alloc(0);
  const structures = [...smbiosStructures(table)].filter(({ type }) => type === OEM);
  return { items, strings: structures.flatMap(({ strings }) => strings.map((each) => Buffer.from(each))) };
}

/** QEMU itself takes our arguments, and its devices hold the values. */
describe(`arguments for QEMU${isThere ? "" : " [pending: Debian's qemu-system-x86 is not installed]"}`, function () {
  this.timeout(120_000);
  before(function () {
    if (!isThere) this.skip();
  });

  it("bring every value to the guest as it was", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-qemu-"));
    const file = join(folder, "a,b");
    writeFileSync(file, Buffer.from([0, 1, 0xff, 0x0a]));
    const name = "k".repeat(55 - "opt/org.pvbus/".length);
    const texts = {
      comma: "a,b,,c=d",
      lines: "one\ntwo\n",
      umlaut: "grüße",
      quote: "'\" $(x) \\",
      [name]: "long",
    };
    const described = Object.entries(texts).map(([key, text]) => [key, { text, source: "fwcfg" }]);
    const { items, strings } = await holds({
      keys: {
        ...Object.fromEntries(described),
        file: { file },
        "key,with=comma": { text: "x", source: "fwcfg" },
        plain: "a,b=c",
        empty: "",
        blob: { base64: "AAEC/w==" },
        "key,2": " blanks ",
        big: "v".repeat(50_000),
      },
    });
    rmSync(folder, { recursive: true });
    for (const [key, text] of Object.entries(texts))
      expect(items.get(`opt/org.pvbus/${key}`)?.toString(), key).to.equal(text);
    expect(items.get("opt/org.pvbus/file")).to.deep.equal(Buffer.from([0, 1, 0xff, 0x0a]));
    expect(items.get("opt/org.pvbus/key,with=comma")?.toString()).to.equal("x");
    expect(strings.map(String)).to.deep.equal([
      "org.pvbus:plain=a,b=c",
      "org.pvbus:empty=",
      "org.pvbus.binary:blob=AAEC/w==",
      "org.pvbus:key,2= blanks ",
      `org.pvbus:big=${"v".repeat(50_000)}`,
    ]);
  });

  it("make room for more items than QEMU has by itself, and fit beside its own where they need none", async () => {
    for (const count of [15, 16, 60]) {
      const keys = Array.from({ length: count }, (_, i) => [`key-${i}`, { text: `${i}`, source: "fwcfg" }]);
      const { items } = await holds({ keys: Object.fromEntries(keys) });
      expect([...items.keys()].filter((each) => each.startsWith("opt/org.pvbus/"))).to.have.length(count);
    }
  });

  it("give a virtio-serial port that is wired to our host", async () => {
    await using folder = new HostFolder();
    const endpoint = `connect:${join(folder.path, "qemu.sock")}`;
    const host = await folder.serve([{ name: "vm", endpoints: [parseEndpoint(endpoint)] }]);
    const description = parseDescription({ keys: { a: "b" }, channel: { endpoint } });
    await using machine = new QemuPorts(qemuArguments(description, () => 1));
    // QEMU answers as long as it runs, so it took every argument.
    while (host.connections === 0) await machine.items((name) => name === TABLES);
  });

  for (const form of ["connect", "unix"]) {
    it(`give a serial channel on which our host answers (${form}:)`, async () => {
      await using folder = new HostFolder();
      const path = join(folder.path, "qemu,1.sock");
      const channel = { endpoint: `${form}:${path}`, device: "serial", smartos: true };
      const start = (): QemuPorts => new QemuPorts(qemuArguments(parseDescription({ channel }), () => 1));
      // Whoever listens begins; the other one comes again until it is there.
      const early = form === "connect" ? start() : undefined;
      await folder.serve([{ name: "vm", endpoints: [parseEndpoint(channel.endpoint)] }]);
      await using machine = early ?? start();
      await using administration = await openAdministration(folder.state);
      await administration.set("vm", "hostname", Buffer.from("guest1"));
      // Bytes that go out before QEMU has the connection are lost, as on any serial line: clients ask again.
      let granted: string | undefined;
      while (granted === undefined) {
        await machine.send("NEGOTIATE V2\n");
        granted = await machine.line(1_000);
      }
      expect(granted).to.equal("V2_OK");
      while ((await machine.line(1_000)) !== undefined);
      await machine.send("V2 25 1ab652aa 70d3da1f GET aG9zdG5hbWU=\n");
      expect(await machine.line()).to.equal("V2 25 9e1d8d9e 70d3da1f SUCCESS Z3Vlc3Qx");
      await machine.send(encodeRequest("00000001", { command: "WATCH", prefix: "" }).toString());
      expect(await machine.line()).to.match(/ 00000001 SUCCESS T0s=$/);
      await administration.set("vm", "news", Buffer.from("1"));
      expect(await machine.line()).to.match(/ 00000001 EVENT /);
    });
  }
});
