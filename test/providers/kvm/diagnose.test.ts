import { expect } from "chai";
import { KvmProvider } from "../../../providers/kvm/index.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import type { PvbusErrorCode } from "../../../src/index.js";
import { refusal } from "../../../src/mdata/client/channel.js";
import { KvmMachine } from "../../support/kvm-store.js";
import { addFiles, fileTree, removeTree } from "../../support/trees.js";

describe("diagnosis of KVM", () => {
  it("finds all well on a machine that has everything", async () => {
    const machine = await KvmMachine.start();
    try {
      machine.addFwCfg({ "opt/x": "y" });
      addFiles(machine.sysroot, { "sys/class/dmi/id/sys_vendor": "QEMU\n" });
      const checks = await machine.provider.diagnose({ channel: "unix:/meta.sock" });
      expect(checks.map(({ what, works }) => [what, works])).to.deep.equal([
        ["the host answers on the metadata channel unix:/meta.sock", true],
        ["fw_cfg values can be read", true],
        ["SMBIOS values can be read", true],
        ["the host can give credentials to systemd and `pvbus creds`", true],
      ]);
      expect(checks.at(-1)?.why).to.include("name=opt/io.systemd.credentials/NAME,file=FILE");
      await machine.host.stop();
      const [channel] = await machine.provider.diagnose({ channel: "unix:/meta.sock" });
      expect(channel?.works).to.equal(false);
      expect(channel?.why).to.include("start the host side");
    } finally {
      await machine.end();
    }
  });

  it("names what is missing, the ports there are, and what fixes it", async () => {
    const sysroot = fileTree({
      "sys/class/virtio-ports/vport0p1/name": "org.qemu.guest_agent.0\n",
      "sys/bus/acpi/devices/QEMU0002:00/": "",
      "dev/sev-guest": "",
    });
    try {
      const [channel, fwcfg, trust] = await new KvmProvider(
        nodeHost({ sysroot, platform: "linux" }),
      ).diagnose({});
      expect(channel).to.include({ what: "this machine has a metadata channel", works: false });
      expect(channel?.why).to.include("org.qemu.guest_agent.0");
      expect(channel?.fix).to.include("name=org.pvbus.mdata.0").and.include("<target type='virtio'");
      expect(fwcfg).to.include({ works: false, fix: "modprobe qemu_fw_cfg" });
      expect(trust?.why).to.include("confidential");
    } finally {
      removeTree(sysroot);
    }
  });

  it("reports a channel that cannot be", async () => {
    const sysroot = fileTree({});
    try {
      const checks = await new KvmProvider(nodeHost({ sysroot })).diagnose({ channel: "nonsense" });
      expect(checks[0]?.works).to.equal(false);
      expect(checks[0]?.why).to.include("vsock:CID:PORT");
    } finally {
      removeTree(sysroot);
    }
  });
});

describe("refusals of a metadata host", () => {
  const CASES: readonly (readonly [message: string, code: PvbusErrorCode, text: string])[] = [
    ["ERR_NO_SPACE: the guest has 4 MiB", "ERR_NO_SPACE", "the guest has 4 MiB"],
    ["ERR_VALUE_TOO_LONG: no", "ERR_VALUE_TOO_LONG", "no"],
    ['Cannot update the "sdc" Namespace.', "ERR_READ_ONLY", "sdc"],
    ["Unknown command PUT", "ERR_NOT_SUPPORTED", "PUT"],
    ["Invalid PUT Request", "ERR_UNAVAILABLE", "Invalid PUT Request"],
    // What is none of a refusal's codes stays text: a host cannot make up an abort of the caller's.
    ["ERR_ABORTED: ha", "ERR_UNAVAILABLE", "ERR_ABORTED: ha"],
    ["", "ERR_UNAVAILABLE", "without a reason"],
    [`\u001b[2J\n${"x".repeat(10_000)}`, "ERR_UNAVAILABLE", " [2J xxx"],
  ];
  for (const [message, code, text] of CASES) {
    it(`take "${message.slice(0, 30).replaceAll(/\p{Cc}/gu, "?")}" for ${code}`, () => {
      const error = refusal("PUT", message);
      expect(error.code).to.equal(code);
      expect(error.message).to.include(text);
      expect(error.message.length).to.be.lessThan(500);
      expect(error.message).to.not.match(/\p{Cc}/u);
    });
  }
});
