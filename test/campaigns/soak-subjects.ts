import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HypervProvider } from "../../providers/hyperv/index.js";
import { KvmProvider } from "../../providers/kvm/index.js";
import { MemoryProvider, VmxHost, XenStoreSimulator } from "../../providers/testing.js";
import { VmwareProvider } from "../../providers/vmware/index.js";
import { XenProvider } from "../../providers/xen/index.js";
import { Call } from "../../src/base/flow/call.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import type { PvInterface } from "../../src/bus/interface/interface.js";
import { PortableView } from "../../src/bus/portable/view.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { openPvbus } from "../../src/index.js";
import { sessionOf } from "../../src/testing/conformance/session.js";
import { HostFolder } from "../support/kvm-guest.js";
import { RunningDaemon } from "../support/kvp-daemon.js";
import { backdoorStore, SimulatedVmx } from "../support/vmware.js";

/** One long-lived object under many operations. */
export interface Soaked {
  /** One operation each; each is done as often as the others. */
  readonly verbs: Readonly<Record<string, (round: number) => Promise<unknown>>>;
  /** Forgets what simulators note of what they are asked, for tests to look at. */
  readonly tidy?: (() => void) | undefined;
  /** Returns all back; then no descriptor may be left. */
  readonly close: () => Promise<void>;
}

/** Records that are there from the start: what a listing keeps alive shows sooner. */
const RECORDS = 50;
const VALUE = "v".repeat(200);

/** The verbs of an interface, with one signal for all calls. */
function verbsOf(face: PvInterface, front: string, prefix: string): Soaked["verbs"] {
  const { signal } = new AbortController();
  const key = (round: number): string => `${front}${round % RECORDS}`;
  const { capabilities } = face;
  return {
    read: (round) => face.read(key(round), { signal }),
    "read of nothing": (round) => face.read(`${front}none${round % RECORDS}`, { signal }),
    write: (round) => face.write(key(round), `${round}${VALUE}`, { signal }),
    refusal: (round) =>
      face.write(`${front}${"k".repeat(5000)}${round}`, "v", { signal }).catch(() => undefined),
    abort: (round) => face.read(key(round), { signal: AbortSignal.abort() }).catch(() => undefined),
    ...(capabilities.list
      ? {
          list: async () => {
            let count = 0;
            for await (const _ of face.list(prefix, { signal })) count++;
            return count;
          },
          "listing that ends early": async () => {
            for await (const _ of face.list(prefix, { signal })) break;
          },
        }
      : {}),
    ...(capabilities.delete
      ? {
          "insert and delete": async (round) => {
            await face.write(`${front}new${round % 7}`, VALUE, { signal });
            await face.delete(`${front}new${round % 7}`, { signal });
          },
        }
      : {}),
  };
}

async function fill(face: PvInterface, front: string): Promise<void> {
  for (let at = 0; at < RECORDS; at++) await face.write(`${front}${at}`, VALUE);
}

async function faceOf(provider: Provider, target: StoreTarget = {}): Promise<PvInterface> {
  return sessionOf(await provider.open(target, new Call()), provider).face;
}

/** Pool files in a folder of their own. */
function poolTree(): string {
  const sysroot = mkdtempSync(join(tmpdir(), "pvbus-soak-"));
  mkdirSync(join(sysroot, "var/lib/hyperv"), { recursive: true });
  for (const number of [0, 1, 2, 3, 4])
    writeFileSync(join(sysroot, `var/lib/hyperv/.kvp_pool_${number}`), "");
  return sysroot;
}

/** Counts changes until it is ended. */
async function following(face: PvInterface, prefix: string): Promise<{ end: () => Promise<void> }> {
  const abort = new AbortController();
  let armed = (): void => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const follow = async (): Promise<void> => {
    for await (const _ of face.watch(prefix, { signal: abort.signal, ready: armed }));
  };
  const done = follow();
  await Promise.race([ready, done]);
  return {
    end: async () => {
      abort.abort();
      await done;
    },
  };
}

async function storeOf(
  face: PvInterface,
  front: string,
  prefix: string,
  end: () => Promise<void> | void,
  tidy?: () => void,
): Promise<Soaked> {
  await fill(face, front);
  const close = async (): Promise<void> => {
    await face.close();
    await end();
  };
  return { verbs: verbsOf(face, front, prefix), close, tidy };
}

/** The verbs of a store, and watches of it: one that stays and others that come and go. */
async function watchedStore(
  soaked: Soaked,
  face: PvInterface,
  front: string,
  prefix: string,
): Promise<Soaked> {
  const staying = await following(face, prefix);
  return {
    ...soaked,
    verbs: {
      "change that is watched": (round) => face.write(`${front}${round % RECORDS}`, `${round}`),
      "watch that comes and goes": async () => (await following(face, `${front}1`)).end(),
    },
    close: async () => {
      await staying.end();
      await soaked.close();
    },
  };
}

const hyperv = async (): Promise<{ soaked: Soaked; face: PvInterface }> => {
  const sysroot = poolTree();
  const face = await faceOf(new HypervProvider(nodeHost({ platform: "linux", sysroot })));
  const soaked = await storeOf(face, "Guest/k", "Guest/", () => rmSync(sysroot, { recursive: true }));
  return { soaked, face };
};

const xen = async (): Promise<{ soaked: Soaked; face: PvInterface }> => {
  const simulator = await XenStoreSimulator.listen({ domain: 7 });
  simulator.createDomain(7, { name: "web-01" });
  const provider = new XenProvider(nodeHost({ platform: "linux" }));
  const face = await faceOf(provider, { channel: `unix:${simulator.path}` });
  const soaked = await storeOf(face, "data/k", "data/", () => simulator.close());
  const { client } = await face.store<
    ProviderStore & { client: import("../../providers/xen/index.js").XenStoreClient }
  >();
  const transaction = (round: number): Promise<void> =>
    client.transaction(async (tx) => {
      await tx.write("data/k1", String(round));
    });
  return { soaked: { ...soaked, verbs: { ...soaked.verbs, transaction } }, face };
};

const kvm = async (): Promise<{ soaked: Soaked; face: PvInterface }> => {
  const folder = new HostFolder();
  await folder.serve(["vm"]);
  const provider = new KvmProvider(nodeHost({ platform: "linux", sysroot: folder.path }));
  const face = await faceOf(provider, { channel: "unix:/vm.sock" });
  const end = (): Promise<void> => folder[Symbol.asyncDispose]();
  const soaked = await storeOf(face, "meta/k", "meta/", end, () => void folder.events.splice(0));
  return { soaked, face };
};

/** What is soaked, by name. */
export const SUBJECTS: Readonly<Record<string, () => Promise<Soaked>>> = {
  "memory store": async () =>
    storeOf(await faceOf(new MemoryProvider()), "guest/k", "guest/", () => undefined),
  "Hyper-V store": async () => (await hyperv()).soaked,
  "Hyper-V watch": async () => {
    const { soaked, face } = await hyperv();
    return watchedStore(soaked, face, "Guest/k", "Guest/");
  },
  "KVP daemon": async () => {
    const sysroot = poolTree();
    const daemon = await RunningDaemon.start(sysroot);
    for (let at = 0; at < RECORDS; at++) await daemon.set(0, `k${at}`, VALUE);
    return {
      verbs: {
        set: (round) => daemon.set(0, `k${round % RECORDS}`, `${round}${VALUE}`),
        enumerate: (round) =>
          daemon.driver.request({ operation: "enumerate", pool: 0, index: round % (RECORDS + 1) }),
        "set and delete": async (round) => {
          await daemon.set(1, `new${round % 7}`, VALUE);
          await daemon.delete(1, `new${round % 7}`);
        },
        "delete of nothing": () => daemon.delete(0, "none"),
      },
      tidy: () => void daemon.lines.splice(0),
      close: async () => {
        await daemon.stop();
        rmSync(sysroot, { recursive: true });
      },
    };
  },
  bus: async () => {
    const sysroot = poolTree();
    const open = async (): Promise<void> => {
      const bus = await openPvbus({ sysroot, interfaces: [{ type: "Hyper-V" }] });
      await bus.byType("Hyper-V")?.read("Guest/none");
      await bus.close();
    };
    return {
      verbs: { "open, read and close": open },
      close: async () => rmSync(sysroot, { recursive: true }),
    };
  },
  "portable view": async () => {
    const face = await faceOf(new MemoryProvider());
    const view = new PortableView(face, "org.example.soak");
    return {
      verbs: {
        publish: (round) => view.publish("value", VALUE.repeat(1 + (round % 20))),
        published: () => view.published("value"),
        "publish and unpublish": async () => {
          await view.publish("other", VALUE);
          await view.unpublish("other");
        },
      },
      close: () => face.close(),
    };
  },
  "XenStore client": async () => (await xen()).soaked,
  "XenStore watch": async () => {
    const { soaked, face } = await xen();
    return watchedStore(soaked, face, "data/k", "data/");
  },
  "KVM channel and host": async () => (await kvm()).soaked,
  "KVM watch": async () => {
    const { soaked, face } = await kvm();
    return watchedStore(soaked, face, "meta/k", "meta/");
  },
  "VMware session": async () => {
    const vmx = await SimulatedVmx.start(new VmxHost());
    const face = await faceOf(new VmwareProvider(nodeHost()), { channel: vmx.channel });
    const end = (): Promise<void> => vmx[Symbol.asyncDispose]();
    return storeOf(face, "guestinfo.k", "guestinfo.", end, () => void vmx.host.commands.splice(0));
  },
  "VMware DataSet": async () => {
    const vmx = await SimulatedVmx.start(new VmxHost());
    vmx.host.createDataSet("soak");
    const target = { channel: vmx.channel, options: { dataset: "soak" } };
    const face = await faceOf(new VmwareProvider(nodeHost()), target);
    const end = (): Promise<void> => vmx[Symbol.asyncDispose]();
    return storeOf(face, "k", "", end, () => void vmx.host.commands.splice(0));
  },
  "VMware backdoor": async () => {
    const host = new VmxHost();
    const { machine, store } = backdoorStore(host);
    const tidy = (): void => {
      host.commands.splice(0);
      machine.traps.splice(0);
    };
    return storeOf(sessionOf(store).face, "guestinfo.k", "guestinfo.", () => undefined, tidy);
  },
};
