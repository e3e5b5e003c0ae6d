/** VirtualBox's driver as a real character device: our provider and Debian's Ignition on it. */
import { type ChildProcess, fork, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { nodeHost, openPvbus } from "pvbus";
import { VirtualBoxProvider } from "pvbus/providers/virtualbox";
import { describeProviderConformance } from "pvbus/testing";
import type { VirtualBoxOrder, VirtualBoxReport } from "./virtualbox-device.js";

/** Emulated machines take their time. */
const SLOW = { timeoutMs: 120_000 };
const NODE = "/dev/vboxguest";

/** The process that is the driver and the host. */
class Device {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(): Promise<Device> {
    while (existsSync(NODE)) await sleep(20);
    const child = fork(join(import.meta.dirname, "virtualbox-device.js"));
    await once(child, "message");
    while (!existsSync(NODE)) await sleep(20);
    return new Device(child);
  }

  async order(order: VirtualBoxOrder): Promise<VirtualBoxReport> {
    const report = once(this.#child, "message");
    this.#child.send(order);
    return (await report)[0] as VirtualBoxReport;
  }

  /** What is open now. */
  look(): Promise<VirtualBoxReport> {
    return this.order({ do: "get", name: "/" });
  }

  async kill(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

/** A program that watches and waits for more, until it is told to end. */
const WATCHER = `
import { openPvbus } from "pvbus";
const bus = await openPvbus({ interfaces: [{ type: "VirtualBox" }], detect: false, timeoutMs: 120_000 });
const vm = bus.byType("VirtualBox");
const end = new AbortController();
const watched = (async () => {
  for await (const { key, value } of vm.watch("/w/", { signal: end.signal })) console.log(key, value);
})().catch((error) => String(how) === "close" || console.error(error));
let how;
process.stdin.once("data", async (data) => {
  how = data;
  if (String(how) === "exit") process.exit(5);
  process.stdin.destroy();
  if (String(how) === "close") await bus.close();
  else end.abort();
  await watched;
  if (String(how) === "abort") await bus.close();
  process.exitCode = 6;
});
`;

describe("VirtualBox's driver as a character device", () => {
  let device: Device;
  before(async () => {
    device = await Device.start();
  });
  after(() => device.kill());

  it("is one, for root alone", () => {
    const stats = statSync(NODE);
    expect([stats.isCharacterDevice(), (stats.mode & 0o777).toString(8)]).to.deep.equal([true, "600"]);
  });

  describeProviderConformance(
    "VirtualBoxProvider on a character device",
    () => ({
      provider: new VirtualBoxProvider(nodeHost()),
      keys: {
        writable: (label) => `/conformance/${label}`,
        prefix: "/conformance/",
        given: { "/given/role": "grüß€" },
        readOnly: ["/VirtualBox/HostInfo/VBoxVer"],
      },
    }),
    { without: ["binary", "pools", "take", "insert", "hostChanges"], patienceMs: 30_000 },
  );

  it("is found, and its doctor is content", async () => {
    await using bus = await openPvbus(SLOW);
    const vm = bus.byType("VirtualBox");
    expect(vm?.evidence.map(({ detail }) => detail)).to.include(`${NODE} is there`);
    expect(await vm?.read("/VirtualBox/HostInfo/VBoxVer")).to.equal("7.0.20");
    const checks = (await vm?.diagnose()) ?? [];
    expect(checks.filter(({ what, works }) => !works && !what.includes("80ee:cafe"))).to.deep.equal([]);
  });

  for (const [how, code] of [
    ["exit", 5],
    ["abort", 6],
    ["close", 6],
  ] as const)
    it(`lets a process go that waits in it, at ${how}`, async () => {
      const child = spawn(process.execPath, ["--input-type=module", "-e", WATCHER], {
        cwd: "/app",
        stdio: ["pipe", "pipe", "inherit"],
      });
      const ended = once(child, "exit");
      while ((await device.look()).waiting === 0) await sleep(20);
      const told = once(child.stdout, "data");
      await device.order({ do: "set", name: "/w/a", value: how });
      expect(String((await told)[0])).to.equal(`/w/a ${how}\n`);
      while ((await device.look()).waiting === 0) await sleep(5);
      child.stdin.write(how);
      const began = performance.now();
      expect((await ended)[0]).to.equal(code);
      expect(performance.now() - began).to.be.lessThan(5_000);
      while ((await device.look()).openFiles > 0) await sleep(5);
    });

  it("lets a process go though it has forgotten limits and ends", async () => {
    await device.order({ do: "deaf", deaf: true });
    const child = spawn(process.execPath, ["--input-type=module", "-e", WATCHER], {
      cwd: "/app",
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(child, "exit");
    while ((await device.look()).waiting === 0) await sleep(20);
    child.stdin.write("exit");
    expect((await ended)[0]).to.equal(5);
    while ((await device.look()).openFiles > 0) await sleep(5);
    await device.order({ do: "deaf", deaf: false });
  });

  it("serves watches through a restore, and through the death of the host", async () => {
    await using bus = await openPvbus({ ...SLOW, interfaces: [{ type: "VirtualBox" }] });
    const vm = bus.byType("VirtualBox");
    const end = new AbortController();
    const seen = new Map<string, string | undefined>();
    let look = (): void => undefined;
    const sees = (name: string, value: string): Promise<void> =>
      new Promise((resolve) => {
        look = () => {
          if (seen.get(name) === value) resolve();
        };
        look();
      });
    const watched = (async () => {
      for await (const { key, value } of vm?.watch("/k/", { signal: end.signal }) ?? []) {
        seen.set(key, value);
        look();
      }
    })();
    while ((await device.look()).waiting === 0) await sleep(20);
    for (let round = 0; round < 3; round++) {
      await device.order({ do: "set", name: "/k/a", value: `before ${round}` });
      await sees("/k/a", `before ${round}`);
      await device.order({ do: "restore" });
      await device.kill();
      device = await Device.start();
      await device.order({ do: "set", name: "/k/a", value: `after ${round}` });
      await sees("/k/a", `after ${round}`);
    }
    end.abort();
    await watched;
  });

  it("gives Debian's Ignition its configuration, which it removes afterwards", async () => {
    const config = JSON.stringify({
      ignition: { version: "3.3.0" },
      storage: { files: [{ path: "/etc/from-virtualbox", contents: { source: "data:,yes" } }] },
    });
    await device.order({ do: "set", name: "/Ignition/Config", value: config });
    mkdirSync("/run/ignition/root", { recursive: true });
    const stage = ["--stage", "fetch-offline", "--log-to-stdout", "--root", "/run/ignition/root"];
    const files = ["config-cache", "state-file", "neednet"].flatMap((name) => [
      `--${name}`,
      `/run/ignition/${name}`,
    ]);
    const fetched = spawnSync("/usr/bin/ignition", ["--platform", "virtualbox", ...stage, ...files], {
      encoding: "utf8",
    });
    expect(fetched.status, fetched.stdout + fetched.stderr).to.equal(0);
    expect(readFileSync("/run/ignition/config-cache", "utf8")).to.contain("/etc/from-virtualbox");
    symlinkSync("/usr/bin/ignition", "/usr/bin/ignition-rmcfg");
    const removed = spawnSync("/usr/bin/ignition-rmcfg", ["--platform", "virtualbox", "--log-to-stdout"], {
      encoding: "utf8",
    });
    expect(removed.status, removed.stdout + removed.stderr).to.equal(0);
    expect((await device.order({ do: "get", name: "/Ignition/Config" })).value).to.equal(undefined);
  });
});
