import { expect } from "chai";
import { describeProviderConformance, XenStoreSimulator } from "../../../providers/testing.js";
import { XenDriverStore } from "../../../providers/xen/driver-store.js";
import { XenProvider } from "../../../providers/xen/index.js";
import { keySyntax } from "../../../providers/xen/protocol/keys.js";
import { XENIFACE, XenifaceDriver } from "../../../providers/xen/transport/xeniface.js";
import { Call } from "../../../src/base/flow/call.js";
import { nodeHost, SILENT } from "../../../src/base/host/node-host.js";
import type { WindowsDevice } from "../../../src/native/windows/device.js";
import { pending } from "../../support/pending.js";
import { rejects } from "../../support/rejects.js";
import { Wine } from "../../support/wine.js";

const HOME = "/local/domain/7";

function refuse(code: string): never {
  throw Object.assign(new Error(code), { code, errno: -1, syscall: "NtDeviceIoControlFile" });
}

/** Windows' driver on a simulated daemon (xcp-ng/win-xeniface src/xeniface/ioctl_store.c). */
class Xeniface implements WindowsDevice {
  readonly xen: XenStoreSimulator;
  closed = false;

  constructor(xen: XenStoreSimulator) {
    this.xen = xen;
  }

  async control(code: number, input: Uint8Array, room: number): Promise<Buffer> {
    if (this.closed) refuse("EBADF");
    const bytes = Buffer.from(input);
    const [given = "", value = ""] = bytes.toString("latin1").split("\0");
    if (!/^[\x20-\x7e]+$/.test(given) || !/^[\x20-\x7e]*$/.test(value)) refuse("EINVAL");
    const path = given.startsWith("/") ? given : `${HOME}/${given}`;
    const mine = path.startsWith(`${HOME}/data/`);
    if (code === XENIFACE.WRITE || code === XENIFACE.REMOVE) {
      if (room !== 0) refuse("EINVAL");
      if (!mine) refuse("EACCES");
      if (code === XENIFACE.REMOVE) this.xen.remove(path);
      else if (bytes.subarray(-2).equals(Buffer.alloc(2))) this.xen.write(path, value);
      else refuse("EINVAL");
      return Buffer.alloc(0);
    }
    const found = this.xen.read(path) ?? refuse("ENOENT");
    const names = (this.xen.children(path) ?? []).map((name) => `${name}\0`).join("");
    const answer =
      code === XENIFACE.READ ? Buffer.concat([found, Buffer.alloc(1)]) : Buffer.from(`${names}\0`);
    return answer.length > room ? refuse("EINVAL") : answer;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

async function onDriver(): Promise<{
  readonly xen: XenStoreSimulator;
  readonly store: () => XenDriverStore;
}> {
  const xen = await XenStoreSimulator.listen();
  xen.createDomain(7, { name: "winnie" });
  const store = (): XenDriverStore =>
    new XenDriverStore(new XenifaceDriver(new Xeniface(xen)), { syntax: keySyntax(false), logger: SILENT });
  return { xen, store };
}

describe("XenStore through Windows' XENIFACE driver", () => {
  it("takes printable values only, and reads others up to their NUL", async () => {
    const { xen, store: open } = await onDriver();
    const store = open();
    const call = new Call();
    await rejects(store.write("data/k", Buffer.from("Grüße"), call), "ERR_VALUE_INVALID");
    await rejects(store.write("data/k", Buffer.from("a\nb"), call), "ERR_VALUE_INVALID");
    await rejects(store.write("data/k", Buffer.alloc(4090, "x"), call), "ERR_VALUE_TOO_LONG");
    await rejects(store.write("name", Buffer.from("x"), call), "ERR_PERMISSION");
    expect(xen.read(`${HOME}/data/k`)).to.equal(undefined);
    await store.write("data/k", Buffer.alloc(4088, "x"), call);
    expect((await store.read("data/k", call))?.length).to.equal(4088);
    xen.write(`${HOME}/data/nul`, "ab\0cd");
    expect(Buffer.from((await store.read("data/nul", call)) ?? []).toString()).to.equal("ab");
    const kernel = new XenProvider(nodeHost()).hostctlStore(store);
    const read = async (key: string): Promise<string> =>
      Buffer.from(await kernel.read(Buffer.from(key), 4096, call)).toString();
    expect(await read("name")).to.equal("winnie");
    expect(await read("data")).to.equal("k\nnul");
    await kernel.write(Buffer.from("data/k"), Buffer.from("by hostctl"), call);
    expect(await read("data/k")).to.equal("by hostctl");
    await rejects(store.delete?.("/", call) ?? Promise.resolve(), "ERR_NOT_SUPPORTED");
    await store.close();
    await xen.close();
  });

  describeProviderConformance(
    "XenDriverStore on a simulated XENIFACE driver",
    async () => {
      const { xen, store } = await onDriver();
      return {
        open: async () => store(),
        keys: {
          writable: (label) => `data/${label}`,
          prefix: "data/",
          uncounted: "data/",
          given: { name: "winnie" },
        },
        cleanup: () => xen.close(),
      };
    },
    {
      without: [
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

describe("a driver's device of Windows, in wine", () => {
  it("is found by its interface, asked and closed", async function () {
    const why = Wine.whyNot();
    if (why !== undefined) return pending(this, why);
    this.timeout(300_000);
    await using wine = await Wine.start();
    const { output } = await wine.node("dist/test/windows/devices.js");
    const seen = JSON.parse(output.trim().split("\n").at(-1) ?? "") as Record<string, unknown>;
    expect(seen["opening"]).to.match(/^no XENIFACE device is here/);
    // Not every wine has an input device.
    if (seen["hid"] !== true) return;
    expect(seen["control"]).to.equal("EIO: NtDeviceIoControlFile (0xc00000bb)");
    expect(seen["closed"]).to.match(/^EBADF/);
  });
});
