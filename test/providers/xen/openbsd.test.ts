import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { describeProviderConformance, XenStoreSimulator } from "../../../providers/testing.js";
import { XenDriverStore } from "../../../providers/xen/driver-store.js";
import { keySyntax } from "../../../providers/xen/protocol/keys.js";
import { OpenbsdDevice } from "../../../providers/xen/transport/openbsd-device.js";
import { Call } from "../../../src/base/flow/call.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { HostctlError } from "../../../src/base/hostctl-error.js";
import type { PvbusNodes } from "../../../src/native/bsd/pvbus-device.js";
import { openPvbusDevice } from "../../../src/native/bsd/pvbus-device.js";
import { type SimulatedDriver, simulatedPvbusKernel } from "../../support/pvbus-kernel.js";
import { rejects } from "../../support/rejects.js";

const HOME = "/local/domain/7";
const PAYLOAD = 1024;

/** OpenBSD's xen(4) on a simulated daemon (sys/dev/pv/xenstore.c, xs_kvop). */
class Xen4 implements SimulatedDriver {
  readonly type = "Xen";
  readonly xen: XenStoreSimulator;

  constructor(xen: XenStoreSimulator) {
    this.xen = xen;
  }

  read(key: string, room: number): Buffer {
    const path = this.#path(key);
    const value = this.xen.read(path);
    if (value === undefined) throw new HostctlError("ENOENT");
    if (value.length > PAYLOAD) throw new HostctlError("EMSGSIZE");
    const found = value.length > 0 ? value : Buffer.from((this.xen.children(path) ?? []).join("\n"));
    if (found.length >= room) throw new HostctlError("ERANGE");
    return found;
  }

  write(key: string, value: Buffer): Buffer {
    if (key.length + 1 + value.length > PAYLOAD) throw new HostctlError("EIO");
    if (!key.startsWith("data/")) throw new HostctlError("EACCES");
    this.xen.write(this.#path(key), value);
    return Buffer.alloc(0);
  }

  #path(key: string): string {
    if (key.length + 1 > PAYLOAD) throw new HostctlError("EIO");
    return key.startsWith("/") ? key : `${HOME}/${key}`;
  }
}

const isLinux = process.platform === "linux";
const linuxOnly = isLinux ? describe : describe.skip;

/** A store whose kernel is simulated, with other devices in front of the right one. */
async function onKernel(): Promise<{
  readonly xen: XenStoreSimulator;
  readonly store: () => XenDriverStore;
  readonly end: () => Promise<void>;
}> {
  const xen = await XenStoreSimulator.listen();
  xen.createDomain(7, { name: "puffy", uuid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d" });
  const directory = mkdtempSync(join(tmpdir(), "pvbus-openbsd-"));
  const device = join(directory, "pvbus1");
  writeFileSync(device, "");
  const nodes: PvbusNodes = {
    paths: () => [join(directory, "pvbus0"), device],
    open: (path, options) =>
      openPvbusDevice(path, { ...options, ioctl: simulatedPvbusKernel(new Xen4(xen)) }),
  };
  return {
    xen,
    store: () => new XenDriverStore(new OpenbsdDevice(nodes), { syntax: keySyntax(false), logger: SILENT }),
    end: async () => {
      await xen.close();
      rmSync(directory, { recursive: true });
    },
  };
}

linuxOnly(`XenStore through OpenBSD's kernel${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let setting: Awaited<ReturnType<typeof onKernel>>;
  let store: XenDriverStore;

  beforeEach(async () => {
    setting = await onKernel();
    store = setting.store();
  });
  afterEach(async () => {
    await store.close();
    await setting.end();
  });

  it("tells values from listings", async () => {
    const { xen } = setting;
    xen.write(`${HOME}/data/tree/a`, "1");
    xen.write(`${HOME}/data/tree/b/c`, "2");
    xen.write(`${HOME}/data/lines`, "tree\nnames");
    xen.write(`${HOME}/data/full`, "value");
    xen.write(`${HOME}/data/full/child`, "3");
    const read = async (key: string): Promise<string | undefined> => {
      const value = await store.read(key, new Call());
      return value && Buffer.from(value).toString();
    };
    expect(await read("data/tree")).to.equal("");
    expect(await read("data/lines")).to.equal("tree\nnames");
    expect(await read("data/full")).to.equal("value");
    expect(await read("data/none")).to.equal(undefined);
    const listed: Record<string, string> = {};
    for await (const { key, value } of store.list("data", new Call()))
      listed[key] = Buffer.from(value ?? []).toString();
    expect(listed).to.deep.equal({
      "data/full": "value",
      "data/lines": "tree\nnames",
      "data/tree": "",
      "data/tree/a": "1",
      "data/tree/b": "",
      "data/tree/b/c": "2",
    });
  });

  it("tells the facts and lists the own directory by relative keys", async () => {
    expect(await store.facts(new Call())).to.deep.equal({
      vmName: "puffy",
      vmId: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
      other: { domid: "7" },
    });
    const keys: string[] = [];
    for await (const { key } of store.list("", new Call())) keys.push(key);
    expect(keys).to.include.members(["name", "data", "vm"]);
  });

  it("refuses what the kernel cannot pass on, before it is asked", async () => {
    const call = new Call();
    await store.write("data/k", Buffer.alloc(1024 - 7, "x"), call);
    await rejects(store.write("data/k", Buffer.alloc(1024 - 6, "x"), call), "ERR_VALUE_TOO_LONG");
    await rejects(store.write(`data/${"k".repeat(1020)}`, Buffer.from("v"), call), "ERR_KEY_TOO_LONG");
    await rejects(store.write("name", Buffer.from("v"), call), "ERR_PERMISSION");
    setting.xen.write(`${HOME}/data/long`, "x".repeat(1025));
    await rejects(store.read("data/long", call), "ERR_VALUE_TOO_LONG");
  });

  describeProviderConformance(
    "XenStore on a simulated kernel",
    async () => {
      const { store: open, end } = await onKernel();
      return {
        open: async () => open(),
        keys: {
          writable: (label) => `data/${label}`,
          prefix: "data/",
          uncounted: "data/",
          given: { name: "puffy" },
        },
        cleanup: end,
      };
    },
    {
      without: [
        "delete",
        "take",
        "insert",
        "watch",
        "hostChanges",
        "binary",
        "valueLimit",
        "keyLimit",
        "pools",
        "provider",
        "readOnly",
      ],
    },
  );
});
