import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect } from "chai";
import {
  cloudHypervisorArguments,
  libvirtParts,
  parseDescription,
  qemuArguments,
} from "../../../../providers/kvm/host/index.js";
import { PvbusError } from "../../../../src/index.js";

const SCHEMA = "/usr/share/libvirt/schemas/domain.rng";
const canValidate = existsSync(SCHEMA) && spawnSync("xmllint", ["--version"]).status === 0;
const FILES: Readonly<Record<string, number>> = { "/small": 10, "/huge": 2 * 1024 * 1024 };

type Make = typeof qemuArguments | typeof libvirtParts;

function make<T extends Make>(how: T, document: unknown): ReturnType<T> {
  return how(parseDescription(document), (path) => FILES[path]) as ReturnType<T>;
}

function codeOf(how: Make, document: unknown): string {
  try {
    make(how, document);
    return "made";
  } catch (error) {
    if (PvbusError.is(error)) return error.code;
    return (error as Error).name;
  }
}

/** A whole domain with our parts in their places. */
function domain(document: unknown): string {
  const parts = make(libvirtParts, document);
  const into = (place: string): string =>
    parts
      .filter((part) => part.into === place)
      .map(({ xml }) => xml)
      .join("\n");
  return `<domain type='kvm'><name>x</name><memory>65536</memory><os><type>hvm</type>${into("os")}</os>
${into("")}<devices>${into("devices")}</devices></domain>`;
}

describe("arguments of machines", () => {
  it("are checked against what each hypervisor takes", () => {
    const long = "k".repeat(42);
    const many = (count: number, source: string): unknown => ({
      keys: Object.fromEntries(Array.from({ length: count }, (_, i) => [`key-${i}`, { text: "x", source }])),
    });
    const fwcfg = (key: string, text: string): unknown => ({ keys: { [key]: { text, source: "fwcfg" } } });
    const rows: [Make, unknown, string][] = [
      [qemuArguments, fwcfg(long.slice(1), "x"), "made"],
      [qemuArguments, fwcfg(long, "x"), "ERR_KEY_TOO_LONG"],
      [qemuArguments, fwcfg("ü".repeat(21), "x"), "ERR_KEY_TOO_LONG"],
      [qemuArguments, fwcfg("a", ""), "ERR_VALUE_INVALID"],
      [qemuArguments, fwcfg("a", "a\0b"), "ERR_VALUE_INVALID"],
      [qemuArguments, fwcfg("a", "x".repeat(131_000)), "made"],
      [qemuArguments, fwcfg("a", "x".repeat(131_072)), "ERR_VALUE_TOO_LONG"],
      [qemuArguments, { keys: { a: { base64: "/w==", source: "fwcfg" } } }, "ERR_VALUE_INVALID"],
      [qemuArguments, { keys: { a: { file: "/huge" } } }, "ERR_VALUE_TOO_LONG"],
      [qemuArguments, { keys: { a: { file: "/none" } } }, "ERR_VALUE_INVALID"],
      [qemuArguments, { keys: { a: { file: "/small", source: "smbios" } } }, "ERR_NOT_SUPPORTED"],
      [qemuArguments, { keys: { "a=b": "x" } }, "ERR_KEY_INVALID"],
      [qemuArguments, { keys: { a: "x".repeat(61_000) } }, "ERR_NO_SPACE"],
      [qemuArguments, { channel: { endpoint: "vsock:/v.sock:52" } }, "ERR_NOT_SUPPORTED"],
      [libvirtParts, many(15, "fwcfg"), "made"],
      [libvirtParts, many(16, "fwcfg"), "ERR_NO_SPACE"],
      [libvirtParts, fwcfg("a", "one\n\ttwo "), "made"],
      [libvirtParts, fwcfg("a", "one\rtwo"), "ERR_VALUE_INVALID"],
      [libvirtParts, fwcfg("a", "one,two"), "ERR_VALUE_INVALID"],
      [libvirtParts, fwcfg("a,b", "one"), "ERR_VALUE_INVALID"],
      [libvirtParts, { channel: { endpoint: "vsock:/v.sock:52" } }, "ERR_NOT_SUPPORTED"],
      [cloudHypervisorArguments, many(255, "smbios"), "made"],
      [cloudHypervisorArguments, many(256, "smbios"), "ERR_NO_SPACE"],
      [cloudHypervisorArguments, fwcfg("a", "x"), "ERR_NOT_SUPPORTED"],
      [cloudHypervisorArguments, { keys: { "a,b": "x" } }, "ERR_KEY_INVALID"],
      [cloudHypervisorArguments, { channel: { endpoint: "unix:/v.sock" } }, "ERR_NOT_SUPPORTED"],
      [cloudHypervisorArguments, { channel: { endpoint: "vsock:/v,1.sock:52" } }, "ERR_VALUE_INVALID"],
    ];
    for (const [how, document, expected] of rows)
      expect(codeOf(how, document), `${how.name} ${JSON.stringify(document).slice(0, 80)}`).to.equal(
        expected,
      );
  });

  it("are refused for descriptions that are none, with the place of the mistake", () => {
    for (const [document, where] of [
      [null, "the description"],
      [{ key: {} }, "no field key"],
      [{ namespace: "a b" }, "namespace"],
      [{ namespace: "org.pvbus.binary" }, "namespace"],
      [{ keys: [] }, "keys"],
      [{ keys: { a: 1 } }, 'keys["a"]'],
      [{ keys: { a: { text: "x", file: "/x" } } }, 'keys["a"]'],
      [{ keys: { a: { base64: "x" } } }, 'keys["a"].base64'],
      [{ keys: { a: { file: "x" } } }, 'keys["a"].file'],
      [{ keys: { " a": "x" } }, 'keys[" a"]'],
      [{ keys: { a: "x" }, source: "dmi" }, "source"],
      [{ channel: {} }, "channel.endpoint"],
      [{ channel: { endpoint: "tcp:1" } }, "no endpoint"],
      [{ channel: { endpoint: "unix:/a", device: "usb" } }, "channel.device"],
      [{ channel: { endpoint: "unix:/a", smartos: true } }, "channel.smartos"],
      [{ channel: { endpoint: "unix:/a", cid: 2 } }, "channel.cid"],
    ] as const)
      expect(() => parseDescription(document), where).to.throw(TypeError, where);
  });

  it("carry for Cloud Hypervisor what its lists cannot as base64, and the guest's vsock", () => {
    const keys = {
      plain: "web-1",
      list: "a,b",
      quote: '"',
      bracket: "[x]",
      blank: "x ",
      bytes: { base64: "AP8=" },
    };
    const made = make(cloudHypervisorArguments, {
      keys,
      channel: { endpoint: "vsock:/run/v.sock:5252", cid: 7 },
    });
    expect(made).to.deep.equal([
      "--platform",
      "oem_strings=[org.pvbus:plain=web-1,org.pvbus.binary:list=YSxi,org.pvbus.binary:quote=Ig==," +
        "org.pvbus.binary:bracket=W3hd,org.pvbus.binary:blank=eCA=,org.pvbus.binary:bytes=AP8=]",
      "--vsock",
      "cid=7,socket=/run/v.sock",
    ]);
  });

  it("are XML for libvirt that keeps every value", () => {
    const keys = { a: "<&'\">", b: "x\ry", c: { text: "]]>", source: "fwcfg" } };
    const text = make(libvirtParts, { keys }).map(({ xml }) => xml);
    expect(text.join("\n")).to.equal(`<smbios mode='sysinfo'/>
<sysinfo type='smbios'>
  <oemStrings>
    <entry>org.pvbus:a=&lt;&amp;&apos;&quot;&gt;</entry>
    <entry>org.pvbus.binary:b=eA15</entry>
  </oemStrings>
</sysinfo>
<sysinfo type='fwcfg'>
  <entry name='opt/org.pvbus/c'>]]&gt;</entry>
</sysinfo>`);
  });

  it(`are valid by libvirt's own schema${canValidate ? "" : " [pending: libvirt0 and libxml2-utils are not installed]"}`, function () {
    if (!canValidate) this.skip();
    const keys = { a: "<&'\">", file: { file: "/small" }, c: { text: "x", source: "fwcfg" } };
    for (const channel of [
      undefined,
      { endpoint: "connect:/run/x.sock" },
      { endpoint: "unix:/run/x'<&.sock" },
      { endpoint: "connect:/run/x.sock", device: "serial", smartos: true },
      { endpoint: "unix:/run/x.sock", device: "serial" },
    ]) {
      const { status, stderr } = spawnSync("xmllint", ["--noout", "--relaxng", SCHEMA, "-"], {
        input: domain({ keys, channel }),
        encoding: "utf8",
      });
      expect(status, stderr).to.equal(0);
    }
  });
});
