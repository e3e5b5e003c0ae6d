import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { expect } from "chai";
import { HypervProvider } from "../../providers/hyperv/index.js";
import { describeProviderConformance } from "../../providers/testing.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { Call, openPvbus, type PvInterface } from "../../src/index.js";
import { openRegistryKey, type RegistryKey } from "../../src/native/windows/registry.js";
import { collect, ROOT } from "../support/pools.js";
import { rejects } from "../support/rejects.js";

/*
 * Runs on Windows, or in wine as registry.test.ts has it done. Needs an administrator and leaves the pools empty.
 */

const PLACE = "SOFTWARE\\Microsoft\\Virtual Machine";
const REG_SZ = 1;
const utf16 = (text: string): Buffer => Buffer.from(text, "utf16le");

const keyOf = (pool: string, create = true): RegistryKey =>
  openRegistryKey(`${PLACE}\\${pool}`, { writable: true, create });

const change = (pool: string, action: (key: RegistryKey) => void): void => {
  const key = keyOf(pool);
  try {
    action(key);
  } finally {
    key.close();
  }
};

const clear = (): void => {
  for (const pool of ["External", "Guest", "Auto", "Guest\\Parameters"]) {
    change(pool, (key) => {
      for (const { name } of key.values()) key.delete(name);
    });
  }
};

before(clear);
after(clear);

describeProviderConformance(
  "Hyper-V in the registry",
  () => {
    change("External", (key) => key.set("given", REG_SZ, utf16("by the host\0")));
    return {
      provider: new HypervProvider(nodeHost()),
      keys: {
        writable: (label: string) => `Guest/${label}`,
        prefix: "Guest/",
        uncounted: "Guest/",
        given: { "External/given": "by the host" },
        readOnly: ["External/given", "Auto/absent", "Guest/Parameters/absent"],
      },
    };
  },
  { without: ["binary", "take", "hostChanges"] },
);

describe("Hyper-V's pools in the registry", () => {
  let hv: PvInterface;
  let close: () => Promise<void>;
  beforeEach(async () => {
    clear();
    const bus = await openPvbus({ interfaces: [{ type: "Hyper-V" }] });
    hv = bus.primary as PvInterface;
    close = () => bus.close();
  });
  afterEach(() => close());

  it("reads text with and without its NUL, up to the first, and numbers", async () => {
    change("External", (key) => {
      key.set("whole", REG_SZ, utf16("grüße 🚀\0"));
      key.set("bare", REG_SZ, utf16("bare"));
      key.set("two", REG_SZ, utf16("first\0second\0"));
      key.set("odd", REG_SZ, Buffer.concat([utf16("odd"), Buffer.from([0x41])]));
      key.set("empty", REG_SZ, Buffer.alloc(0));
      key.set("expand", 2, utf16("%PATH%\0"));
      key.set("dword", 4, Buffer.from([0xff, 0xff, 0xff, 0xff]));
      key.set("qword", 11, Buffer.from("ffffffffffffffff", "hex"));
    });
    expect(
      Object.fromEntries((await collect(hv.list("External/"))).map(({ key, value }) => [key, value])),
    ).to.deep.equal({
      "External/whole": "grüße 🚀",
      "External/bare": "bare",
      "External/two": "first",
      "External/odd": "odd",
      "External/empty": "",
      "External/expand": "%PATH%",
      "External/dword": "4294967295",
      "External/qword": "18446744073709551615",
    });
    for (const [key, value] of [
      ["whole", "grüße 🚀"],
      ["qword", "18446744073709551615"],
      ["absent", undefined],
    ])
      expect(await hv.read(`External/${key}`)).to.equal(value);
  });

  it("refuses what is neither text nor a number, and leaves it out of listings", async () => {
    change("External", (key) => {
      key.set("binary", 3, Buffer.from([1, 2, 3]));
      key.set("short", 4, Buffer.from([1]));
      key.set("list", 7, utf16("a\0b\0\0"));
      key.set("huge", REG_SZ, Buffer.alloc(1024 ** 2 + 2, 0x41));
      key.set("text", REG_SZ, utf16("text\0"));
      key.set("", REG_SZ, utf16("default\0"));
    });
    for (const name of ["binary", "short", "list", "huge"]) {
      const error = await rejects(hv.read(`External/${name}`), "ERR_NOT_SUPPORTED");
      expect(error.message).to.include(name).and.include("REG_SZ");
    }
    expect(await collect(hv.list("External/"))).to.deep.equal([{ key: "External/text", value: "text" }]);
  });

  it("reads text of any length, and grows with it", async () => {
    const long = "x".repeat(100_000);
    change("External", (key) => key.set("long", REG_SZ, utf16(long)));
    expect(await hv.read("External/long")).to.equal(long);
    expect((await collect(hv.list("External/")))[0]?.value).to.equal(long);
  });

  it("writes REG_SZ with its NUL, 255 and 1023 characters at most", async () => {
    const [name, value] = ["文".repeat(255), "値".repeat(1023)];
    await hv.write(`Guest/${name}`, value);
    change("Guest", (key) => {
      expect(key.values()).to.deep.equal([{ name, type: REG_SZ, data: utf16(`${value}\0`) }]);
    });
    await rejects(hv.write(`Guest/${name}x`, "v"), "ERR_KEY_TOO_LONG");
    await rejects(hv.write("Guest/k", `${value}x`), "ERR_VALUE_TOO_LONG");
    expect(await collect(hv.list("Guest/"))).to.have.length(1);
  });

  it("tells names apart by more than case only, backslash and slash belong to them", async () => {
    await hv.write("Guest/Some\\Path/to", "1");
    await hv.write("Guest/some\\path/TO", "2");
    expect(await collect(hv.list("Guest/"))).to.deep.equal([{ key: "Guest/Some\\Path/to", value: "2" }]);
    expect(await hv.delete("Guest/SOME\\PATH/TO")).to.equal(true);
    expect(await hv.delete("Guest/SOME\\PATH/TO")).to.equal(false);
  });

  it("gives the machine's facts", async () => {
    change("Guest\\Parameters", (key) => {
      key.set("VirtualMachineName", REG_SZ, utf16("web-01\0"));
      key.set("HostName", REG_SZ, utf16("host\0"));
      key.set("VirtualMachineId", REG_SZ, utf16("id\0"));
    });
    expect(await hv.facts()).to.deep.equal({ vmName: "web-01", hostName: "host", vmId: "id" });
  });

  it("sees every kind of change by Windows' notification", async () => {
    const seen: string[] = [];
    const abort = new AbortController();
    let step = (): void => undefined;
    const watching = (async () => {
      for await (const { key, value } of hv.watch("External/", {
        signal: abort.signal,
        ready: () => act(),
      })) {
        seen.push(`${key}=${value}`);
        step();
      }
    })();
    const next = (): Promise<void> => new Promise((resolve) => (step = resolve));
    const act = async (): Promise<void> => {
      const actions: ((key: RegistryKey) => void)[] = [
        (key) => key.set("a", REG_SZ, utf16("1\0")),
        (key) => key.set("a", REG_SZ, utf16("2\0")),
        (key) => key.delete("a"),
      ];
      for (const action of actions) {
        const noticed = next();
        change("External", action);
        await noticed;
      }
      abort.abort();
    };
    await watching;
    expect(seen).to.deep.equal(["External/a=1", "External/a=2", "External/a=undefined"]);
  });

  it("tells a worker thread of changes too, which may be stopped while it watches", async () => {
    const body = `
      const { parentPort } = require("node:worker_threads");
      import(${JSON.stringify(new URL("../../src/native/windows/registry.js", import.meta.url).href)}).then(({ openRegistryKey }) => {
        openRegistryKey(${JSON.stringify(`${PLACE}\\External`)}).notify(() => parentPort.postMessage("changed"));
        parentPort.postMessage("watching");
      });`;
    for (let time = 0; time < 3; time++) {
      const worker = new Worker(body, { eval: true });
      expect(await once(worker, "message")).to.deep.equal(["watching"]);
      const told = once(worker, "message");
      change("External", (key) => key.set("a", REG_SZ, utf16(`${time}\0`)));
      expect(await told).to.deep.equal(["changed"]);
      await worker.terminate();
      change("External", (key) => key.set("a", REG_SZ, utf16("unheard\0")));
    }
    expect(await hv.read("External/a")).to.equal("unheard");
  });

  it("opens a key again that was removed and made anew", async () => {
    await hv.write("Guest/k", "v");
    const api = spawnSync("reg", ["delete", `HKLM\\${PLACE}\\Guest`, "/f"]);
    expect(api.status, "reg delete").to.equal(0);
    const error = await rejects(hv.read("Guest/k"), "ERR_UNAVAILABLE");
    expect(error.message).to.include("vmickvpexchange");
    await rejects(hv.write("Guest/k", "v"), "ERR_UNAVAILABLE");
    keyOf("Guest").close();
    await hv.write("Guest/k", "again");
    expect(await hv.read("Guest/k")).to.equal("again");
  });

  it("makes a pool with createPools", async () => {
    spawnSync("reg", ["delete", `HKLM\\${PLACE}\\Guest`, "/f"]);
    const provider = new HypervProvider(nodeHost());
    const store = await provider.open({ options: { createPools: true } });
    await store.write("Guest/k", Buffer.from("v"), new Call());
    await store.close();
    expect(await hv.read("Guest/k")).to.equal("v");
  });

  it("is examined by reading each pool", async () => {
    const provider = new HypervProvider(nodeHost());
    const works = async (): Promise<boolean[]> => (await provider.diagnose({})).map((check) => check.works);
    expect(await works()).to.deep.equal([true, true, true, true]);
    spawnSync("reg", ["delete", `HKLM\\${PLACE}\\Guest`, "/f"]);
    expect((await works()).filter((each) => !each)).to.have.length(2);
  });

  it("refuses a pool directory", async () => {
    const provider = new HypervProvider(nodeHost());
    await rejects(provider.open({ options: { directory: "C:\\pools" } }), "ERR_NOT_SUPPORTED");
  });

  it("serves the command line", () => {
    const run = (...args: string[]): string => {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [join(ROOT, "dist/bin/pvbus.cjs"), "-t", "Hyper-V", ...args],
        { encoding: "utf8" },
      );
      expect(status, stderr).to.equal(0);
      return stdout;
    };
    run("set", "Guest/cli", "von der Zeile");
    expect(run("get", "Guest/cli")).to.equal("von der Zeile\n");
    expect(JSON.parse(run("ls", "Guest/", "--json"))).to.deep.equal([
      { key: "Guest/cli", value: "von der Zeile" },
    ]);
    run("rm", "Guest/cli");
    expect(run("ls", "Guest/")).to.equal("");
  });

  it("lets a process end that has closed its watch, and one that has not called close", () => {
    const script = (rest: string): string => `
      import { openPvbus } from ${JSON.stringify(new URL("../../src/index.js", import.meta.url).href)};
      const bus = await openPvbus({ interfaces: [{ type: "Hyper-V" }] });
      const abort = new AbortController();
      for await (const change of bus.primary.watch("", { signal: abort.signal, ready: () => abort.abort() }));
      await bus.primary.write("Guest/end", "1");
      ${rest}`;
    for (const rest of ["await bus.close();", ""]) {
      const { status, signal } = spawnSync(process.execPath, ["--input-type=module", "-e", script(rest)], {
        timeout: 15_000,
      });
      expect([status, signal]).to.deep.equal([0, null]);
    }
  });
});
