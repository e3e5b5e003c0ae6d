import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { XenStoreSimulator, type XenStoreSimulatorOptions } from "../../../providers/testing.js";
import { XenProvider, type XenStore } from "../../../providers/xen/index.js";
import { xenManifest } from "../../../providers/xen/manifest.js";
import { locateDaemon } from "../../../providers/xen/transport/locate.js";
import { Call } from "../../../src/base/flow/call.js";
import { type NodeHostOptions, nodeHost } from "../../../src/base/host/node-host.js";
import { HostctlError } from "../../../src/base/hostctl-error.js";
import { openPvbus } from "../../../src/index.js";
import { BARE, run } from "../../support/command-line.js";
import { rejects } from "../../support/rejects.js";

const UUID = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
const SOON = { timeoutMs: 5_000 };

function host(options: NodeHostOptions = {}): ReturnType<typeof nodeHost> {
  return nodeHost({ platform: "linux", env: {}, ...options });
}

interface Setting extends AsyncDisposable {
  readonly xen: XenStoreSimulator;
  readonly store: XenStore;
}

/** A store of a guest on the simulator. */
async function guest(
  options: XenStoreSimulatorOptions = {},
  settings: Readonly<Record<string, unknown>> = {},
): Promise<Setting> {
  const domain = options.domain ?? 7;
  const xen = await XenStoreSimulator.listen({ domain, ...options });
  xen.createDomain(domain, { name: "web-01", uuid: UUID, vmData: { role: "web", "app/tier": "2" } });
  const target = { channel: `unix:${xen.path}`, options: settings };
  const store = (await new XenProvider(host()).open(target, new Call(SOON))) as XenStore;
  return {
    xen,
    store,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await xen.close();
    },
  };
}

async function listed(store: XenStore, prefix = ""): Promise<Record<string, string | undefined>> {
  const found: Record<string, string | undefined> = {};
  for await (const { key, value } of store.list(prefix, new Call(SOON)))
    found[key] = value && Buffer.from(value).toString();
  return found;
}

/** Follows a prefix; `seen` waits for a change. */
async function follow(
  store: XenStore,
  prefix: string,
): Promise<{
  readonly changes: readonly (readonly [string, string | undefined])[];
  readonly seen: (key: string, value: string | undefined) => Promise<void>;
  readonly stop: () => Promise<void>;
}> {
  const abort = new AbortController();
  const changes: [string, string | undefined][] = [];
  let news = (): void => undefined;
  let armed = (): void => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const call = new Call({ signal: abort.signal, timeoutMs: 10_000 });
  const following = (async () => {
    for await (const { key, value } of store.watch(prefix, call, { ready: armed })) {
      changes.push([key, value && Buffer.from(value).toString()]);
      news();
    }
  })();
  await Promise.race([ready, following]);
  return {
    changes,
    seen: async (key, value) => {
      while (!changes.some(([k, v]) => k === key && v === value)) {
        await Promise.race([
          following,
          new Promise<void>((resolve) => {
            news = resolve;
          }),
        ]);
      }
    },
    stop: async () => {
      abort.abort();
      await following;
    },
  };
}

describe("XenStore store", () => {
  it("lists the own directory by relative keys, parents first, unreadable values left out", async () => {
    await using setting = await guest();
    const { store, xen } = setting;
    await store.write("data/a/b", Buffer.from("1"), new Call());
    xen.write("/local/domain/7/data/secret", "x");
    xen.setPermissions("/local/domain/7/data/secret", "n0");
    const all = await listed(store);
    expect(all).to.include({
      name: "web-01",
      domid: "7",
      "data/a": "",
      "data/a/b": "1",
      "vm-data/app/tier": "2",
    });
    expect(all).to.have.property("data/secret", undefined);
    expect(Object.keys(all)).to.deep.equal([...Object.keys(all)].sort(byTree));
    expect(await listed(store, "/local/domain/7/data/a")).to.deep.equal({ "/local/domain/7/data/a/b": "1" });
    expect(await listed(store, "data/a/")).to.deep.equal({ "data/a/b": "1" });
    expect(await listed(store, "data/none")).to.deep.equal({});
    await rejects(listed(store, "/tool"), "ERR_PERMISSION");
  });

  it("lists more nodes than one page, and everything for the controlling domain", async () => {
    await using setting = await guest({ domain: 0 });
    const { store } = setting;
    const keys = Array.from({ length: 100 }, (_, at) => `data/k${at}`);
    for (const key of keys) await store.write(key, Buffer.from(key), new Call());
    expect(Object.keys(await listed(store, "data"))).to.have.members(keys);
    expect(await listed(store, "/")).to.include({ "/local/domain/0/data/k99": "data/k99" });
  });

  it("tells name, UUID, domain and vm-data", async () => {
    await using setting = await guest();
    expect(await setting.store.facts(new Call())).to.deep.equal({
      vmName: "web-01",
      vmId: UUID,
      other: { domid: "7", "vm-data/role": "web", "vm-data/app/tier": "2" },
    });
  });

  it("keeps portable keys in vm-data and data, whatever the namespace's characters", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    expect(store.portable.guestKey("com.example", "build.id")).to.equal("data/com@2eexample/build@2eid");
    xen.write("/local/domain/7/vm-data/com@2eexample/role", "db");
    const channel = `unix:${xen.path}`;
    const bus = await openPvbus({ snapshot: BARE, interfaces: [{ type: "Xen", channel }] });
    try {
      const view = bus.portable("com.example");
      expect(await view.get("role")).to.equal("db");
      await view.publish("build.id", "1.2.3");
      expect(xen.read("/local/domain/7/data/com@2eexample/build@2eid")?.toString()).to.equal("1.2.3");
      await view.publish("long", "0123456789".repeat(1000));
      expect(await view.published("long")).to.have.lengthOf(10_000);
    } finally {
      await bus.close();
    }
  });

  describe("take, erase and insert", () => {
    it("take a node in a transaction, which others see before and after as a whole", async () => {
      await using setting = await guest();
      const { xen, store } = setting;
      xen.write("/local/domain/7/data/secret", "s");
      expect(await store.take("data/secret", new Call())).to.deep.include({ erased: "host" });
      expect(xen.read("/local/domain/7/data/secret")).to.equal(undefined);
      expect(await store.take("data/secret", new Call())).to.equal(undefined);
      expect(await store.erase("data/secret", new Call())).to.equal("host");
    });

    it("empty a node that has others below it, and leave those", async () => {
      await using setting = await guest();
      const { xen, store } = setting;
      xen.write("/local/domain/7/data/a", "value");
      xen.write("/local/domain/7/data/a/b", "below");
      expect(await store.take("data/a", new Call())).to.deep.include({ erased: "overwritten" });
      expect(xen.read("/local/domain/7/data/a")?.toString()).to.equal("");
      expect(xen.read("/local/domain/7/data/a/b")?.toString()).to.equal("below");
    });

    it("fail with ERR_PERMISSION where the host made the node its own, and keep it", async () => {
      await using setting = await guest();
      const { xen, store } = setting;
      xen.setPermissions("/local/domain/7/vm-data/role", "n0", "r7");
      await rejects(store.take("vm-data/role", new Call()), "ERR_PERMISSION");
      await rejects(store.erase("vm-data/role", new Call()), "ERR_PERMISSION");
      expect(xen.read("/local/domain/7/vm-data/role")?.toString()).to.equal("web");
    });

    it("leave a node with another value than the expected one", async () => {
      await using setting = await guest();
      const { xen, store } = setting;
      xen.write("/local/domain/7/data/a", "newer");
      await rejects(store.erase("data/a", new Call(), Buffer.from("older")), "ERR_CONFLICT");
      expect(await store.erase("data/a", new Call(), Buffer.from("newer"))).to.equal("host");
      expect(await store.insert("data/a", Buffer.from("1"), new Call())).to.equal(true);
      expect(await store.insert("data/a", Buffer.from("2"), new Call())).to.equal(false);
      expect(xen.read("/local/domain/7/data/a")?.toString()).to.equal("1");
    });
  });

  it("encodes names when it is told to, and leaves out what no key can name", async () => {
    await using setting = await guest({}, { encodeNames: true });
    const { xen, store } = setting;
    await store.write("data/com.example/a b", Buffer.from("1"), new Call());
    expect(xen.read("/local/domain/7/data/com@2eexample/a@20b")?.toString()).to.equal("1");
    xen.write("/local/domain/7/data/x@y", "somebody else's");
    expect(await listed(store, "data")).to.deep.equal({
      "data/com.example": "",
      "data/com.example/a b": "1",
    });
    expect(store.portable.guestKey("com.example", "n")).to.equal("data/com.example/n");
    expect(await store.delete("data/com.example/a b", new Call())).to.equal(true);
  });

  it("deletes with all below, without a transaction", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    await store.write("data/tree/leaf", Buffer.from("1"), new Call());
    const asked: string[] = [];
    xen.faults.refuse = (request) => {
      asked.push(request);
      return undefined;
    };
    expect(await store.delete("data/tree", new Call())).to.equal(true);
    expect(await store.delete("data/tree", new Call())).to.equal(false);
    expect(asked).to.deep.equal(["READ", "RM", "READ"]);
    expect(await store.read("data/tree/leaf", new Call())).to.equal(undefined);
    await rejects(store.delete("/", new Call()), "ERR_NOT_SUPPORTED");
  });

  it("keeps binary values to the byte", async () => {
    await using setting = await guest();
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
    await setting.store.write("data/bytes", bytes, new Call());
    expect(Buffer.from((await setting.store.read("data/bytes", new Call())) ?? []).equals(bytes)).to.equal(
      true,
    );
  });

  it("sends nothing of a key or value that XenStore cannot hold", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    const asked: string[] = [];
    xen.faults.refuse = (request) => {
      asked.push(request);
      return undefined;
    };
    for (const key of ["data/a.b", "data//a", "data/", "@releaseDomain", "data/ä"])
      await rejects(store.write(key, Buffer.from("1"), new Call()), "ERR_KEY_INVALID");
    await rejects(store.write(`data/${"k".repeat(3000)}`, Buffer.from("1"), new Call()), "ERR_KEY_TOO_LONG");
    await rejects(store.write("data/k", Buffer.alloc(5000), new Call()), "ERR_VALUE_TOO_LONG");
    expect(asked).to.deep.equal([]);
  });
});

describe("XenStore store's watch", () => {
  it("tells each node of a removed tree, and the nodes made on the way to a new one", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    await store.write("data/old/a/b", Buffer.from("1"), new Call());
    const watch = await follow(store, "data");
    xen.remove("/local/domain/7/data/old");
    for (const key of ["data/old", "data/old/a", "data/old/a/b"]) await watch.seen(key, undefined);
    xen.write("/local/domain/7/data/new/x/y", "2");
    await watch.seen("data/new/x/y", "2");
    expect(watch.changes.slice(-3)).to.deep.equal([
      ["data/new", ""],
      ["data/new/x", ""],
      ["data/new/x/y", "2"],
    ]);
    await watch.stop();
  });

  it("follows the own directory by relative keys, and one node alone", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    const home = await follow(store, "");
    const one = await follow(store, "data/one");
    xen.write("/local/domain/7/name", "renamed");
    await home.seen("name", "renamed");
    xen.write("/local/domain/7/data/one", "1");
    await one.seen("data/one", "1");
    xen.write("/local/domain/7/data/other", "2");
    await home.seen("data/other", "2");
    expect(one.changes.every(([key]) => key === "data/one")).to.equal(true);
    await home.stop();
    await one.stop();
  });

  it("tells after a lost connection what changed meanwhile", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    for (const name of ["gone", "kept", "changed"])
      await store.write(`data/${name}`, Buffer.from("old"), new Call());
    const watch = await follow(store, "data");
    xen.disconnect();
    xen.remove("/local/domain/7/data/gone");
    xen.write("/local/domain/7/data/changed", "new");
    xen.write("/local/domain/7/data/fresh/leaf", "1");
    await watch.seen("data/gone", undefined);
    await watch.seen("data/changed", "new");
    await watch.seen("data/fresh/leaf", "1");
    xen.write("/local/domain/7/data/later", "2");
    await watch.seen("data/later", "2");
    expect(watch.changes).to.not.deep.include(["data/kept", undefined]);
    await watch.stop();
  });

  it("tells what a tree became that was removed and made again at once", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    await store.write("data/t/old", Buffer.from("1"), new Call());
    const watch = await follow(store, "data/t");
    xen.remove("/local/domain/7/data/t");
    xen.write("/local/domain/7/data/t", "again");
    await watch.seen("data/t/old", undefined);
    await watch.seen("data/t", "again");
    await watch.stop();
  });

  it("goes on through a daemon that answers slowly and in pieces", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    xen.faults.chunkBytes = 3;
    xen.faults.delayMs = 1;
    const watch = await follow(store, "data");
    await store.write("data/slow", Buffer.from("1"), new Call());
    await watch.seen("data/slow", "1");
    await watch.stop();
  });
});

describe("Xen provider", () => {
  it("finds the daemon where libxenstore does", async () => {
    const sysroot = mkdtempSync(join(tmpdir(), "pvbus-xen-places-"));
    const put = (path: string): void => {
      mkdirSync(join(sysroot, path, ".."), { recursive: true });
      writeFileSync(join(sysroot, path), "");
    };
    try {
      expect(locateDaemon(host({ sysroot }))).to.equal(undefined);
      expect(await xenManifest.locate?.(host({ sysroot }))).to.equal(false);
      put("/proc/xen/xenbus");
      expect(locateDaemon(host({ sysroot }))).to.equal("/proc/xen/xenbus");
      put("/dev/xen/xenbus");
      expect(locateDaemon(host({ sysroot }))).to.equal("/dev/xen/xenbus");
      expect(locateDaemon(host({ sysroot, platform: "freebsd" }))).to.equal(undefined);
      put("/var/run/xenstored/socket");
      mkdirSync(join(sysroot, "out"));
      symlinkSync("/dev/null", join(sysroot, "out/socket"));
      const leading = new XenProvider(host({ sysroot, env: { XENSTORED_PATH: "/out/socket" } }));
      const none = await rejects(leading.open({}, new Call()), "ERR_UNAVAILABLE");
      expect(none.message).to.include(join(sysroot, "out/socket is there"));
      await rejects(leading.open({ channel: "unix:/out/socket" }, new Call()), "ERR_UNAVAILABLE");
      put("/run/xenstored/socket");
      expect(locateDaemon(host({ sysroot }))).to.equal("/run/xenstored/socket");
      put("/other/socket");
      expect(locateDaemon(host({ sysroot, env: { XENSTORED_RUNDIR: "/other" } }))).to.equal("/other/socket");
      expect(locateDaemon(host({ sysroot, env: { XENSTORED_PATH: "/none" } }))).to.equal(undefined);
      expect(await xenManifest.locate?.(host({ sysroot }))).to.equal(true);
    } finally {
      rmSync(sysroot, { recursive: true });
    }
  });

  it("says what is wrong with a way that does not work", async () => {
    const directory = mkdtempSync(join(tmpdir(), "pvbus-xen-ways-"));
    try {
      const provider = new XenProvider(host({ sysroot: directory }));
      const none = await rejects(provider.open({}, new Call()), "ERR_UNAVAILABLE");
      expect(none.message).to.include("xenbus").and.include("modprobe");
      await rejects(provider.open({ channel: "unix:/nobody" }, new Call()), "ERR_UNAVAILABLE");
      await rejects(provider.open({ channel: "vsock:2:1" }, new Call()), "ERR_NOT_SUPPORTED");
      await rejects(provider.open({ channel: "device:/dev/none" }, new Call()), "ERR_UNAVAILABLE");
      for (const platform of ["win32", "openbsd"] as const)
        expect(new XenProvider(host({ platform })).capabilities()).to.include({ read: true, watch: false });
      expect(() => provider.capabilities({ options: { encodenames: true } })).to.throw(
        TypeError,
        "encodeNames",
      );
      expect(() => provider.capabilities({ options: { encodeNames: "yes" } })).to.throw(
        TypeError,
        "true or false",
      );
      const listening = createServer(() => undefined).listen(join(directory, "mute"));
      await once(listening, "listening");
      const store = await provider.open({ channel: "unix:/mute" }, new Call());
      await rejects(store.read("data/k", new Call({ timeoutMs: 10 })), "ERR_TIMEOUT");
      await store.close();
      listening.close();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("diagnoses the way, the daemon and where it may write", async () => {
    await using setting = await guest();
    const { path } = setting.xen;
    const well = await new XenProvider(host({ env: { XENSTORED_PATH: path } })).diagnose({});
    expect(well.map(({ works }) => works)).to.deep.equal([true, true, true]);
    const directory = mkdtempSync(join(tmpdir(), "pvbus-xen-doctor-"));
    const ill = await new XenProvider(host({ sysroot: directory })).diagnose({});
    expect(ill).to.have.lengthOf(1);
    expect(ill[0]).to.have.property("works", false);
    rmSync(directory, { recursive: true });
  });
});

describe("XenStore as OpenBSD's kernel serves it", () => {
  const bytes = (text: string): Buffer => Buffer.from(text);

  async function errnoOf(asked: Promise<unknown>): Promise<string> {
    try {
      await asked;
      return "none";
    } catch (error) {
      if (error instanceof HostctlError) return error.errno;
      throw error;
    }
  }

  it("reads values, and the children of a node without a value", async () => {
    await using setting = await guest();
    const kernel = new XenProvider(host()).hostctlStore(setting.store);
    const call = new Call(SOON);
    expect(Buffer.from(await kernel.read(bytes("name"), 4096, call)).toString()).to.equal("web-01");
    expect(Buffer.from(await kernel.read(bytes("vm-data"), 4096, call)).toString()).to.equal("role\napp");
    expect(await kernel.write(bytes("data/k"), bytes("v"), call)).to.have.lengthOf(0);
    expect(Buffer.from(await kernel.read(bytes("data/k"), 2, call)).toString()).to.equal("v");
    expect(await errnoOf(kernel.read(bytes("data/k"), 1, call))).to.equal("ERANGE");
    expect(await errnoOf(kernel.read(bytes("data/none"), 4096, call))).to.equal("ENOENT");
    expect(await errnoOf(kernel.write(bytes("name"), bytes("v"), call))).to.equal("EACCES");
    expect(await errnoOf(kernel.write(bytes("data/k"), Buffer.alloc(1018, 1), call))).to.equal("EIO");
    await setting.store.write("data/long", Buffer.alloc(1025, 1), call);
    expect(await errnoOf(kernel.read(bytes("data/long"), 4096, call))).to.equal("EMSGSIZE");
    setting.xen.faults.refuse = () => "EQUOTA";
    expect(await errnoOf(kernel.write(bytes("data/k"), bytes("v"), call))).to.equal("EOPNOTSUPP");
  });
});

describe("pvbus on XenStore", () => {
  it("shows a whole round trip on the simulator", async () => {
    const { code, stdout } = await run(["demo", "--type", "xen", "--json"]);
    expect(code).to.equal(0);
    const { steps } = JSON.parse(stdout) as { steps: readonly { actor: string; text: string }[] };
    expect(steps.map(({ text }) => text)).to.include.members([
      'reads vm-data/role: "web"',
      'its watch sees vm-data/role become "db"',
      "sees data/build gone",
    ]);
  });

  it("gets, sets, lists, removes and tells the facts", async () => {
    await using setting = await guest();
    const { xen } = setting;
    const pvbus = (...argv: string[]): ReturnType<typeof run> =>
      run([...argv, "-t", "Xen", "--channel", `unix:${xen.path}`]);
    expect(await pvbus("set", "data/k", "v")).to.include({ code: 0 });
    expect(xen.read("/local/domain/7/data/k")?.toString()).to.equal("v");
    expect(await pvbus("get", "data/k")).to.include({ code: 0, stdout: "v\n" });
    expect((await pvbus("ls", "data")).stdout).to.equal("data/k=v\n");
    expect((await pvbus("rm", "data/k")).code).to.equal(0);
    expect((await pvbus("get", "data/k")).code).to.equal(1);
    expect((await pvbus("info")).stdout)
      .to.include("vmName: web-01")
      .and.include(`vmId: ${UUID}`);
    const refused = await pvbus("set", "name", "x", "--json");
    expect(refused.code).to.equal(1);
    expect(JSON.parse(refused.stderr)).to.have.nested.property("error.code", "ERR_PERMISSION");
    const watching = run(["watch", "data", "--count", "1", "-t", "Xen", "--channel", `unix:${xen.path}`], {
      onMessage: (text) => {
        if (text.startsWith("watching")) xen.write("/local/domain/7/data/w", "1");
      },
    });
    expect((await watching).stdout).to.equal("data/w=1\n");
  });
});

describe("pvbus and permissions", () => {
  it("shows and sets them as xenstore-ls -p and xenstore-chmod do", async () => {
    await using setting = await guest();
    const { xen, store } = setting;
    const pvbus = (...argv: string[]): ReturnType<typeof run> =>
      run([...argv, "-t", "Xen", "--channel", `unix:${xen.path}`]);
    await store.write("data/a", Buffer.from("1"), new Call());
    await store.write("data/a/b", Buffer.from("x\ty"), new Call());
    expect((await pvbus("ls", "-p", "data")).stdout).to.equal("data/a=1\t(n7)\ndata/a/b=x\\ty\t(n7)\n");
    expect(await pvbus("chmod", "data/a", "n7", "r0", "b3")).to.include({ code: 0, stdout: "" });
    expect((await pvbus("ls", "-p", "data")).stdout).to.include("data/a=1\t(n7,r0,b3)\n");
    expect(await pvbus("chmod", "-r", "data/a", "n7,w0")).to.include({ code: 0 });
    expect(JSON.parse((await pvbus("ls", "--permissions", "data", "--json")).stdout)).to.deep.equal([
      { key: "data/a", value: "1", permissions: ["n7", "w0"] },
      { key: "data/a/b", value: "x\ty", permissions: ["n7", "w0"] },
    ]);
    expect(JSON.parse((await pvbus("chmod", "data/a", "r7", "--json")).stdout)).to.deep.equal({
      key: "data/a",
      permissions: ["r7"],
    });
    expect((await pvbus("chmod", "data/none", "n7")).code).to.equal(1);
    expect((await pvbus("chmod", "data/a", "n0")).stderr).to.include("ERR_PERMISSION");
    for (const bad of ["x7", "n", "7", "n70000", "n7,"]) {
      const { code, stderr } = await pvbus("chmod", "data/a", bad);
      expect(code, bad).to.equal(2);
      expect(stderr).to.include("such as r7");
    }
    expect((await pvbus("chmod", "data/a")).code).to.equal(2);
  });

  it("says of a store without permissions that it has none", async () => {
    const directory = mkdtempSync(join(tmpdir(), "pvbus-no-permissions-"));
    try {
      mkdirSync(join(directory, "var/lib/hyperv"), { recursive: true });
      const { code, stderr } = await run(["ls", "-p", "-t", "Hyper-V", "--sysroot", directory]);
      expect(code).to.equal(1);
      expect(stderr).to.include("ERR_NOT_SUPPORTED").and.include("no permissions");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

/** Parents before children, siblings by name. */
function byTree(one: string, other: string): number {
  const [a, b] = [one.split("/"), other.split("/")];
  for (let at = 0; at < Math.min(a.length, b.length); at++)
    if (a[at] !== b[at]) return (a[at] as string) < (b[at] as string) ? -1 : 1;
  return a.length - b.length;
}
