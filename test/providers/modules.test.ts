import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Container, ContainerModule, type ContainerModuleLoadOptions } from "inversify";
import { HYPERV_POOLS, hypervManifest, type Pool, type PoolTransport } from "../../providers/hyperv/index.js";
import { KVM_SOURCES, kvmManifest, type Sources } from "../../providers/kvm/index.js";
import { VmxHost, XenStoreSimulator } from "../../providers/testing.js";
import { type RpcTransport, VMWARE_TRANSPORTS, vmwareManifest } from "../../providers/vmware/index.js";
import { XEN_DRIVER, XEN_TRANSPORT, type XenStoreDriver, xenManifest } from "../../providers/xen/index.js";
import { SocketTransport } from "../../providers/xen/transport/socket.js";
import { nodeHost, SILENT } from "../../src/base/host/node-host.js";
import {
  type Bus,
  HOST,
  openPvbus,
  PROVIDER,
  type Provider,
  type ProviderManifest,
  type Token,
} from "../../src/index.js";
import { rejects } from "../support/rejects.js";
import { removeTree } from "../support/trees.js";

const text = (value: Uint8Array): string => Buffer.from(value).toString();

/** Makes a built-in manifest with a part of its provider replaced. */
function withPart<T>(manifest: ProviderManifest, token: Token<T>, part: T): ProviderManifest {
  return {
    ...manifest,
    load: async () => {
      const builtIn = await manifest.load();
      return new ContainerModule(async (options: ContainerModuleLoadOptions) => {
        await builtIn.load(options as never);
        options.rebind(token).toConstantValue(part);
      });
    },
  };
}

/** One pool in memory; a portable key lies in it as any other. */
class MemoryPools implements PoolTransport {
  readonly location = "memory";
  readonly longestKeyBytes = 512;
  readonly separator = "/";
  readonly values = new Map<string, Uint8Array>();
  readonly closed: string[] = [];

  pool(info: Pool["info"]): Pool {
    const { values, closed } = this;
    const found = (prefix: string) =>
      [...values]
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, value]) => [key, { key, value }] as const);
    return {
      info,
      read: async (key) => values.get(key),
      write: async (key, value) => void values.set(key, value),
      insert: async (key, value) => !values.has(key) && values.set(key, value) === values,
      delete: async (key) => values.delete(key),
      async *list(prefix) {
        for (const [, pair] of found(prefix)) yield pair;
      },
      snapshot: async (prefix) => new Map(found(prefix)),
      close: async () => void closed.push(info.name),
    };
  }

  check(): void {
    expect(this.location).to.equal("memory");
  }

  notify(): () => void {
    return () => undefined;
  }
}

describe("a built-in provider with a part replaced", () => {
  let sysroot: string;
  let bus: Bus | undefined;

  beforeEach(() => {
    // An empty machine: what answers in it is the replaced part.
    sysroot = mkdtempSync(join(tmpdir(), "pvbus-modules-"));
  });
  afterEach(async () => {
    await bus?.close();
    bus = undefined;
    removeTree(sysroot);
  });

  async function open(manifest: ProviderManifest): Promise<NonNullable<Bus["primary"]>> {
    bus = await openPvbus({
      detect: false,
      sysroot,
      providers: [manifest],
      interfaces: [{ type: manifest.type }],
    });
    if (bus.primary === undefined) throw new Error("no interface");
    return bus.primary;
  }

  for (const [manifest, key] of [
    [hypervManifest, "Guest/k"],
    [kvmManifest, "k"],
    [vmwareManifest, "guestinfo.k"],
    [xenManifest, "data/k"],
  ] as const)
    it(`has nothing to read here as it comes: ${manifest.type}`, async () => {
      const face = await open(manifest);
      expect(await face.read(key).catch(({ code }: { code: string }) => code)).to.match(/^ERR_|^undefined$/);
    });

  it("reaches XenStore over another transport, and keeps errors and the doctor", async () => {
    await using xen = await XenStoreSimulator.listen({ domain: 7 });
    xen.createDomain(7, { name: "web-01" });
    const asked: unknown[] = [];
    const face = await open(
      withPart(xenManifest, XEN_TRANSPORT, (host, { channel }) => {
        asked.push([host.sysroot, channel]);
        return new SocketTransport(xen.path);
      }),
    );
    await face.write("data/k", "v");
    expect(await face.read("data/k")).to.equal("v");
    expect(asked).to.deep.equal([[sysroot, undefined]]);
    await rejects(face.write("a//b", "v"), "ERR_KEY_INVALID");
    const checks = (await face.diagnose()) ?? [];
    expect(checks.map(({ works }) => works)).to.deep.equal([true, true, true]);
    expect(checks[0]?.why).to.equal(xen.path);
  });

  it("reaches XenStore through another driver", async () => {
    const values = new Map([["domid", "9"]]);
    const driver: XenStoreDriver = {
      platform: "win32",
      check: () => undefined,
      look: async (path) => {
        const value = values.get(path);
        return value === undefined ? undefined : { value: Buffer.from(value), names: [] };
      },
      write: async (path, value) => void values.set(path, text(value)),
      close: async () => void values.clear(),
    };
    const opened: string[] = [];
    const manifest = withPart(xenManifest, XEN_DRIVER, async (platform) => {
      opened.push(platform);
      return driver;
    });
    const container = new Container();
    container.bind(HOST).toConstantValue({ ...nodeHost({ env: {} }), platform: "win32" });
    await container.loadAsync((await manifest.load()) as never);
    const provider = await container.getAsync<Provider>(PROVIDER);
    expect(await provider.diagnose?.({})).to.deep.equal([
      { what: "the XenStore driver answers", works: true, why: "this is domain 9" },
    ]);
    expect(opened).to.deep.equal(["win32"]);
  });

  it("keeps Hyper-V's pools elsewhere, under the same keys and rules", async () => {
    const pools = new MemoryPools();
    const directories: unknown[] = [];
    const manifest = withPart(hypervManifest, HYPERV_POOLS, async (_host, { options }) => {
      directories.push(options?.["directory"]);
      return pools;
    });
    const face = await open(manifest);
    await face.write("Guest/k", "v");
    expect(await face.read("Guest/k")).to.equal("v");
    expect([...pools.values.keys()]).to.deep.equal(["k"]);
    await rejects(face.write("External/k", "v"), "ERR_READ_ONLY");
    await rejects(face.read("Nowhere/k"), "ERR_KEY_INVALID");
    expect(face.capabilities.limits?.maxKeyUnits).to.equal(254);
    await bus?.close();
    expect(pools.closed).to.include("Guest");
    expect(directories).to.deep.equal([undefined]);
  });

  it("refuses wrong settings whatever the part makes of them", async () => {
    const manifest = withPart(hypervManifest, HYPERV_POOLS, async () => new MemoryPools());
    const outcome = openPvbus({
      detect: false,
      sysroot,
      providers: [manifest],
      interfaces: [{ type: "Hyper-V" }],
      providerOptions: { hyperv: { directory: 7 } },
    }).then((opened) => {
      bus = opened;
      return opened.primary?.read("Guest/k");
    });
    expect(await outcome.catch((error: unknown) => error)).to.be.instanceOf(TypeError);
  });

  it("sends VMware's commands over another transport", async () => {
    const host = new VmxHost();
    const sent: string[] = [];
    const first: RpcTransport = {
      name: "fake",
      privileged: true,
      exchange: async (request) => {
        sent.push(text(request));
        return host.answer(request, { privileged: true });
      },
      close: async () => void sent.push("closed"),
    };
    const face = await open(
      withPart(vmwareManifest, VMWARE_TRANSPORTS, async () => ({ first, logger: SILENT })),
    );
    await face.write("guestinfo.k", "v");
    expect(await face.read("guestinfo.k")).to.equal("v");
    expect(text(host.get("guestinfo.k") ?? Buffer.alloc(0))).to.equal("v");
    expect(sent).to.deep.equal(["info-set guestinfo.k v", "info-get guestinfo.k"]);
    await rejects(face.delete("guestinfo.k"), "ERR_NOT_SUPPORTED");
    await bus?.close();
    expect(sent).to.include("closed");
  });

  it("finds KVM's values in another source, and none where there is none", async () => {
    const values = new Map([["opt/org.pvbus/k", Buffer.from("v")]]);
    const sources: Sources = {
      transport: undefined,
      statics: [
        {
          name: "fwcfg",
          read: async (name) => values.get(name),
          async *list(prefix) {
            for (const [name, value] of values) if (name.startsWith(prefix)) yield { name, value };
          },
          nameOf: (key) => `opt/org.pvbus/${key}`,
          keyOf: (name) => name.slice("opt/org.pvbus/".length),
        },
      ],
    };
    const face = await open(withPart(kvmManifest, KVM_SOURCES, () => sources));
    expect(await face.read("k")).to.equal("v");
    expect(face.capabilities).to.include({ read: true, write: false });
    const refused = await rejects(face.write("k", "v"), "ERR_NOT_SUPPORTED");
    expect(refused.message).to.include("no metadata channel");
    await bus?.close();
    const nothing = await open(
      withPart(kvmManifest, KVM_SOURCES, () => ({ transport: undefined, statics: [] })),
    );
    expect(nothing.capabilities).to.include({ read: false, list: false });
    await rejects(nothing.read("k"), "ERR_NOT_SUPPORTED");
    const [channel] = (await nothing.diagnose()) ?? [];
    expect(channel).to.include({ what: "this machine has a metadata channel", works: false });
  });
});
