import { closeSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { KvmProvider } from "../../../providers/kvm/index.js";
import {
  type ConformanceSubject,
  describeProviderConformance,
  type KvmHostDialect,
  KvmHostSimulator,
} from "../../../providers/testing.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { DeviceStream } from "../../../src/native/posix/device-stream.js";
import { DeviceDuplex, openPty } from "../../support/device-duplex.js";
import { HostFolder } from "../../support/kvm-guest.js";

/** What is written under a plain key is listed as the channel's. */
function listed(key: string): string {
  return /^(meta|fwcfg|smbios)\//.test(key) ? key : `meta/${key}`;
}

/** The provider on a UNIX socket of a simulated host, with a fw_cfg item beside it. */
async function kvmWith(dialect: KvmHostDialect): Promise<ConformanceSubject> {
  const sysroot = mkdtempSync(join(tmpdir(), "pvbus-kvm-"));
  const host = await KvmHostSimulator.listen(join(sysroot, "meta.sock"), { dialect });
  host.set("sdc:hostname", "web-1");
  host.set("given", "from the host");
  for (const [name, text] of Object.entries({ name: "opt/org.pvbus/item\n", size: "5\n", raw: "fixed" })) {
    const path = join(sysroot, "sys/firmware/qemu_fw_cfg/by_key/32", name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  writeFileSync(join(sysroot, "sys/firmware/qemu_fw_cfg/rev"), "3\n");
  const provider = new KvmProvider(nodeHost({ platform: "linux", sysroot }));
  const target = { channel: "unix:/meta.sock", options: { pollMs: 10 } };
  return {
    provider,
    target,
    binary: dialect === "pvbus",
    keys: {
      writable: (label: string) => `meta/${label}`,
      listed,
      prefix: "meta/",
      given: { "meta/given": "from the host", "fwcfg/opt/org.pvbus/item": "fixed" },
      readOnly: ["meta/sdc:hostname", "meta/sdc:absent", "fwcfg/opt/org.pvbus/item", "smbios/system/uuid"],
    },
    host: {
      key: (label) => `meta/from-host-${label}`,
      set: (key, value) => {
        const name = key.slice("meta/".length);
        if (value === undefined) host.delete(name);
        else host.set(name, value);
      },
      prefix: "meta/",
    },
    cleanup: async () => {
      await host.stop();
      rmSync(sysroot, { recursive: true, force: true });
    },
  };
}

/** The provider on our own host side. */
async function kvmWithHost(): Promise<ConformanceSubject> {
  const folder = new HostFolder();
  const namespaces = { readOnly: ["host/"] };
  const limits = { maxConnections: 100, maxValueBytes: 4 * 1024 * 1024, maxTotalBytes: 16 * 1024 * 1024 };
  await folder.serve([{ name: "vm", namespaces, limits }]);
  return {
    provider: new KvmProvider(nodeHost({ platform: "linux", sysroot: folder.path })),
    target: { channel: "unix:/vm.sock" },
    binary: true,
    keys: {
      writable: (label) => `meta/${label}`,
      listed,
      prefix: "meta/",
      readOnly: ["meta/host/name", "meta/sdc:uuid"],
    },
    cleanup: () => folder[Symbol.asyncDispose](),
  };
}

/** The provider on a serial line, which has room for one session at a time. */
async function kvmOnSerialLine(): Promise<ConformanceSubject> {
  const host = new KvmHostSimulator({ maxValueBytes: 4 * 1024 * 1024 });
  const { fd, path, keeper } = openPty();
  host.serve(await DeviceDuplex.over((options) => new DeviceStream(fd, options)));
  return {
    provider: new KvmProvider(nodeHost({ platform: "linux" })),
    target: { channel: `serial:${path}`, options: { idleMs: 0 } },
    exclusive: true,
    binary: true,
    keys: { writable: (label) => `meta/${label}`, listed, prefix: "meta/", readOnly: ["meta/sdc:uuid"] },
    cleanup: () => {
      host.disconnect();
      closeSync(keeper);
    },
  };
}

/** Sizes are the host's to tell, once it is connected. */
const WITHOUT = ["valueLimit", "keyLimit", "take", "insert"] as const;

if (process.platform === "linux")
  describeProviderConformance("KvmProvider on a serial line", kvmOnSerialLine, {
    without: [...WITHOUT, "text", "given", "sessions", "hostChanges"],
  });
describeProviderConformance("KvmProvider with our host side", kvmWithHost, {
  without: [...WITHOUT, "text", "given", "hostChanges"],
});
describeProviderConformance("KvmProvider with a simulated host", () => kvmWith("pvbus"), {
  without: [...WITHOUT, "text"],
});
describeProviderConformance("KvmProvider with a host as SmartOS has it", () => kvmWith("smartos"), {
  without: [...WITHOUT, "binary"],
});
