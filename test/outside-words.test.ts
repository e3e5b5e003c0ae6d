import { expect } from "chai";
import { expandIpv6 } from "../providers/hyperv/kvpd/ip-settings.js";
import { completeOptions } from "../providers/kvm/options.js";
import { listedNames, readTable } from "../providers/kvm/protocol/smbios.js";
import { VmwareDataSets } from "../providers/vmware/data-set-store.js";
import { checkVmwareOptions } from "../providers/vmware/options.js";
import { command, decodeReply, refusal } from "../providers/vmware/protocol/rpci.js";
import type { RpciSession } from "../providers/vmware/session.js";
import type { XenStoreClient } from "../providers/xen/client/client.js";
import { homePath } from "../providers/xen/facts.js";
import { checkDomain, parsePermission } from "../providers/xen/protocol/permissions.js";
import { refusalError, XenStoreRefusal } from "../providers/xen/protocol/refusals.js";
import { XS } from "../providers/xen/protocol/wire.js";
import { Call } from "../src/base/flow/call.js";
import { MAX_WORDS_BYTES, peerWords, withoutEndingNuls } from "../src/base/outside-text.js";
import { parseOvfEnvironment } from "../src/base/ovf-environment.js";
import { ownEntry, putEntry } from "../src/base/own.js";
import { fromSystemError } from "../src/base/system-error.js";
import { valueBytes } from "../src/bus/interface/arguments.js";
import { errnoText } from "../src/cli/hostctl/text.js";
import { NO_CAPABILITIES } from "../src/contract/capabilities.js";
import { detectSnapshot } from "../src/detect/detect.js";
import { openPvbus, PvbusError } from "../src/index.js";
import { refusal as kvmRefusal } from "../src/mdata/client/channel.js";
import { finish } from "../src/mdata/steps.js";
import { run } from "./support/command-line.js";
import { rejects } from "./support/rejects.js";

/** Names that every object literal inherits. */
const INHERITED = ["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf"];
/** Far above what these take, far below what the square of a mebibyte would. */
const SOON_MS = 1_500;

function soon<T>(action: () => T): T {
  const start = performance.now();
  const result = action();
  expect(performance.now() - start).to.be.lessThan(SOON_MS);
  return result;
}

describe("words from outside", () => {
  describe("ownEntry and putEntry", () => {
    it("know a table's own names only", () => {
      for (const name of INHERITED)
        expect(ownEntry({ a: 1 } as Record<string, number>, name)).to.equal(undefined);
      expect(ownEntry({ a: 1 }, "a")).to.equal(1);
      expect(ownEntry(undefined, "a")).to.equal(undefined);
      expect(ownEntry(JSON.parse('{"__proto__":7}'), "__proto__")).to.equal(7);
    });

    it("put any name, and change no prototype", () => {
      const record: Record<string, unknown> = {};
      for (const name of INHERITED) putEntry(record, name, { polluted: name });
      expect(Object.keys(record)).to.deep.equal(INHERITED);
      expect(Object.getPrototypeOf(record)).to.equal(Object.prototype);
      expect("polluted" in record).to.equal(false);
      putEntry(record, "__proto__", 1);
      expect(Object.entries({ ...record })[1]).to.deep.equal(["__proto__", 1]);
    });
  });

  describe("peerWords", () => {
    it("gives text without the NULs at its end, 4 KiB at most, soon", () => {
      expect(peerWords(Buffer.from("No value\0found\0\0"))).to.equal("No value\0found");
      for (const hostile of ["\0".repeat(1 << 20), `${"\0".repeat(1 << 20)}x`, "\u20ac".repeat(1 << 20)]) {
        const words = soon(() => peerWords(Buffer.from(hostile)));
        expect(Buffer.byteLength(words)).to.be.at.most(MAX_WORDS_BYTES + 8);
        expect(Buffer.byteLength(soon(() => peerWords(hostile)))).to.be.at.most(MAX_WORDS_BYTES + 8);
      }
      expect(withoutEndingNuls(Buffer.alloc(1 << 20))).to.have.length(0);
    });
  });

  describe("of a VMware host", () => {
    it("are taken soon and shortened, whatever NULs a refusal holds", () => {
      const reply = Buffer.alloc(1 << 20);
      reply.write("0 ");
      reply[reply.length - 1] = 0x78;
      const decoded = soon(() => decodeReply(reply));
      if (decoded.accepted) throw new Error("a refusal was taken for an acceptance");
      expect(decoded.words.length).to.be.at.most(MAX_WORDS_BYTES);
      expect(
        soon(() => decodeReply(Buffer.concat([Buffer.from("0 "), Buffer.alloc(150_000), Buffer.from("!")]))),
      ).to.have.property("accepted", false);
    });

    it("are a refusal of permission where nobody knows them, members of every object included", () => {
      for (const words of INHERITED)
        expect(refusal(command("info-get"), words, "a way").code).to.equal("ERR_PERMISSION");
    });

    it("are an error of ours in DataSets, whatever JSON they are", async () => {
      const answers = [
        '{"toString":1}',
        '{"constructor":{}}',
        "[[]]",
        "true",
        "7",
        '"constructor"',
        '"__proto__"',
      ];
      for (const id of answers) {
        const reply = Buffer.from(`{"result":false,"error-id":${id},"error-message":${id}}`);
        const session = { value: async () => reply } as unknown as RpciSession;
        await rejects(new VmwareDataSets(session).list(new Call()), "ERR_PERMISSION");
      }
      const session = {
        value: async () => Buffer.from('{"result":true,"entries":[{"key":"constructor","value":"v"}]}'),
      } as unknown as RpciSession;
      expect(await new VmwareDataSets(session).get("set", "constructor", new Call())).to.equal("v");
    });
  });

  it("of a XenStore daemon are errors without a meaning, members of every object included", () => {
    for (const name of INHERITED)
      for (const type of [XS.READ, XS.WATCH, XS.CONTROL, XS.TRANSACTION_END, XS.DIRECTORY_PART]) {
        const error = refusalError(type, name, "data/x");
        expect(error).to.have.property("code", "ERR_PROTOCOL");
        expect((error as Error).cause).to.be.instanceOf(XenStoreRefusal);
      }
    for (const text of [...INHERITED, "n", "r65536", "n99999", "n99999999", "\0"])
      expect(() => parsePermission(text))
        .to.throw()
        .with.property("code", "ERR_PROTOCOL");
  });

  it("of a XenStore daemon that give a domain no domain has are no domain", async () => {
    const client = (domid: string, owner: string) =>
      ({
        privileged: false,
        readText: async () => domid,
        permissions: async () => [parsePermission(owner)],
        domainPath: async (domain: number) => {
          checkDomain(domain);
          return `/local/domain/${domain}`;
        },
      }) as unknown as XenStoreClient;
    for (const text of ["65536", "99999", "-1", "1e3", "", "constructor"])
      expect(await homePath(client(text, "n7"), new Call())).to.equal("/local/domain/7");
    expect(await homePath(client("65535", "n7"), new Call())).to.equal("/local/domain/65535");
    await rejects(homePath(client("99999", "n99999"), new Call()), "ERR_PROTOCOL");
  });

  it("in an OVF environment are parsed soon or refused", async () => {
    const nested = Array.from({ length: 12_000 }, (_, at) => `<a xmlns:n${at}="u${at}">`).join("");
    const xml = `<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1">${nested}${"</a>".repeat(12_000)}</Environment>`;
    const start = performance.now();
    await rejects(parseOvfEnvironment(xml), "ERR_CORRUPT");
    expect(performance.now() - start).to.be.lessThan(SOON_MS);
  });

  it("of a metadata host are taken soon", () => {
    const hostile = [
      'Cannot update the "'.repeat(60_000),
      "\0".repeat(1 << 20),
      "ERR_".repeat(1 << 18),
      ...INHERITED,
    ];
    for (const message of hostile) {
      const error = soon(() => kvmRefusal("PUT", message));
      expect(PvbusError.is(error)).to.equal(true);
      expect(error.message.length).to.be.lessThan(500);
    }
    expect(kvmRefusal("PUT", 'Cannot update the "sdc" Namespace.').code).to.equal("ERR_READ_ONLY");
  });

  it("of the operating system are errors of ours, whatever they are called", () => {
    for (const code of INHERITED) {
      const error = Object.assign(new Error("x"), { code, syscall: "open", errno: -99_999 });
      expect(fromSystemError(error, { doing: "cannot open", advice: {}, codes: {} })).to.have.property(
        "code",
        "ERR_UNAVAILABLE",
      );
      expect(errnoText(code)).to.equal(`Unknown error: ${code}`);
    }
  });

  it("in settings name no member of every object", async () => {
    for (const name of INHERITED) {
      const given = JSON.parse(`{"${name}":1}`);
      expect(() => checkVmwareOptions(given)).to.throw(TypeError, `vmware has no option ${name}`);
      expect(() => completeOptions(given)).to.throw(TypeError, `kvm has no option ${name}`);
      for (const type of ["VMware", "KVM", "Xen", "Hyper-V"]) {
        const { code, stderr } = await run(["-t", type, "-o", `${name}=1`, "get", "k"]);
        expect([type, name, code, stderr.includes(`no option ${name}`)]).to.deep.equal([type, name, 2, true]);
      }
    }
  });

  it("in every other argument are refused as any unknown word", async () => {
    for (const name of INHERITED) {
      const lines: [number, ...string[]][] = [
        [2, name],
        [2, `--${name}`],
        [2, "completion", name],
        [2, "kvp", name],
        [2, "host", name],
        [2, "demo", "--type", name],
        [1, "get", "k", "-t", name],
        [1, "get", "k", "-i", name],
        [1, "get", name],
        [2, "get", "k", "--channel", name],
        [1, "get", "k", "-t", "Xen", "--channel", name],
        [1, "get", "k", "-t", "KVM", "--channel", `${name}:x`],
        [1, "get", "guestinfo.k", "-t", "VMware", "--channel", name],
      ];
      for (const [expected, ...argv] of lines) {
        const { code, stderr } = await run([...argv, "--json"]);
        expect(code, argv.join(" ")).to.equal(expected);
        expect(JSON.parse(stderr), argv.join(" ")).to.have.property("error");
        expect(stderr, argv.join(" ")).not.to.match(
          /is not a function|not iterable|of undefined|internal error/,
        );
      }
    }
  });

  it("in a snapshot decide nothing, wherever they stand", async () => {
    for (const name of INHERITED) {
      const text = `{"os":"${name}","arch":"${name}","${name}":{"polluted":1},"cpuid":null,
        "dmi":{"${name}":"x","sys_vendor":"${name}"},"files":{"/proc/1/environ":"container=${name}","${name}":"x"},
        "sysctl":{"kern.vm_guest":"${name}","hw.hv_vendor":"${name}"},"kenv":{"${name}":"x"},
        "acpi":{"fadtHypervisorId":"${name}"},"ioctl":{"${name}":"${name}"},
        "registry":{"${name}":{"${name}":"x"}},"msr":{"${name}":"x"},"smbiosVmBit":null}`;
      const { interfaces, container } = detectSnapshot(JSON.parse(text));
      expect([interfaces, container], name).to.deep.equal([[], name]);
      const bus = await openPvbus({
        snapshot: JSON.parse(text),
        providerOptions: JSON.parse(`{"${name}":{}}`),
      });
      await bus.close();
      expect(({} as Record<string, unknown>)["polluted"]).to.equal(undefined);
    }
  });

  it("in a snapshot of forty thousand device names are decided soon", () => {
    const files = Object.fromEntries(
      Array.from({ length: 40_000 }, (_, at) => [`/sys/bus/acpi/devices/D${at}:00/path`, "x"]),
    );
    const report = soon(() => detectSnapshot({ os: "linux", arch: "x64", files }));
    expect(report.interfaces).to.deep.equal([]);
  });

  it("in an address leave time to others", () => {
    expect(expandIpv6("::ffff:192.0.2.1")).to.equal("0000:0000:0000:0000:0000:ffff:c000:0201");
    expect(expandIpv6("fe80::1")).to.equal("fe80:0000:0000:0000:0000:0000:0000:0001");
    soon(() => {
      try {
        expandIpv6("1".repeat(150_000));
      } catch (error) {
        expect(error).to.be.instanceOf(RangeError);
      }
    });
  });

  it("in a firmware table are no more than firmware has", () => {
    const table = Buffer.concat([Buffer.from([11, 5, 0, 0, 1]), Buffer.alloc(2 << 20, "A\0")]);
    const values = soon(() => finish(readTable(table, true)).values);
    expect(values.size).to.be.within(1, 5_000);
    expect(soon(() => finish(listedNames(values))).length).to.be.at.most(5_000);
  });
});

describe("valueBytes", () => {
  it("refuses what is too long by far before it looks at it", () => {
    const limits = { ...NO_CAPABILITIES, limits: { maxValueBytes: 2_000 } };
    const long = "\u20ac\ud800".repeat(1 << 20);
    for (const value of [long, new Uint8Array(2 << 20)])
      expect(() => valueBytes(value, limits))
        .to.throw()
        .with.property("code", "ERR_VALUE_TOO_LONG");
    for (const value of ["x".repeat((64 << 20) + 1), new Uint8Array((64 << 20) + 1)])
      expect(() => valueBytes(value, { ...NO_CAPABILITIES, binary: true }))
        .to.throw()
        .with.property("code", "ERR_VALUE_TOO_LONG");
    expect(valueBytes("x".repeat(4_000), limits)).to.have.length(4_000);
  });
});
