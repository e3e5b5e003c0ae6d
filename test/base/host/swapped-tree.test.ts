import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { KvmProvider } from "../../../providers/kvm/index.js";
import { XenProvider } from "../../../providers/xen/index.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { Call, captureSnapshot, PvbusError } from "../../../src/index.js";
import { pending } from "../../support/pending.js";
import { addFiles, fileTree, removeTree } from "../../support/trees.js";

/** Time of each race: the old code lost 3 to 5 of 100. */
const RACE_MS = 700;
/** A busy machine gets more of it, until both sides of the race were seen. */
const LONGEST_RACE_MS = 20_000;

/** Puts a link out in place of a file and back again, and a directory likewise, as fast as it can. */
const SWAPPER = `
const fs = require("node:fs");
const [, path, inside, out, kind] = process.argv;
const spare = path + ".spare";
const rest = () => {
  for (const end = performance.now() + Math.random() / 4; performance.now() < end; );
};
process.stdout.write("ready");
for (;;) {
  if (kind === "directory") {
    fs.renameSync(path, spare);
    fs.symlinkSync(out, path);
    rest();
    fs.unlinkSync(path);
    fs.renameSync(spare, path);
    rest();
  } else {
    fs.symlinkSync(out, spare);
    fs.renameSync(spare, path);
    rest();
    fs.linkSync(inside, spare);
    fs.renameSync(spare, path);
    rest();
  }
}`;

describe("a tree that somebody changes meanwhile", () => {
  let root: string;
  let outside: string;
  let swapper: ChildProcess | undefined;
  const servers: Server[] = [];
  const sockets = new Set<Socket>();

  before(function () {
    if (process.platform !== "linux") {
      return pending(this, "without /proc/self/fd names are checked, which a race may win");
    }
  });
  beforeEach(() => {
    root = fileTree({});
    outside = fileTree({});
  });
  afterEach(async () => {
    swapper?.kill("SIGKILL");
    if (swapper?.exitCode === null && swapper.signalCode === null) await once(swapper, "exit");
    for (const socket of sockets) socket.destroy();
    for (const server of servers.splice(0)) server.close();
    for (const each of [root, outside]) removeTree(each);
  });

  /** Begins to swap a place of the tree with the same one outside. */
  async function swap(place: string, kind: "file" | "directory"): Promise<void> {
    const inside = join(root, "kept");
    if (kind === "file") linkSync(join(root, place), inside);
    const argv = ["-e", SWAPPER, join(root, place), inside, join(outside, place), kind];
    swapper = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
    await once(swapper.stdout as NodeJS.ReadableStream, "data");
  }

  /** Counts what a look gives, again and again, until both sides of the race were seen. */
  async function race(
    look: () => Promise<string>,
    isSeen: (seen: Map<string, number>) => boolean = () => true,
  ): Promise<Map<string, number>> {
    const seen = new Map<string, number>();
    const began = performance.now();
    const isOver = (): boolean => {
      const spent = performance.now() - began;
      return spent > LONGEST_RACE_MS || (spent > RACE_MS && isSeen(seen));
    };
    while (!isOver()) {
      const found = await look();
      seen.set(found, (seen.get(found) ?? 0) + 1);
      if (swapper?.exitCode !== null) throw new Error("the swapper ended");
    }
    return seen;
  }

  const hasBoth = (seen: Map<string, number>): boolean => seen.has("not there") && seen.size > 1;

  async function listen(at: string, name: string): Promise<{ count: number }> {
    const counter = { count: 0 };
    const path = join(at, name);
    mkdirSync(dirname(path), { recursive: true });
    const server = createServer((socket) => {
      counter.count++;
      sockets.add(socket);
      socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
      socket.destroy();
    });
    servers.push(server.listen(path));
    await once(server, "listening");
    return counter;
  }

  for (const kind of ["file", "directory"] as const) {
    it(`gives a snapshot nothing of what is outside (a ${kind})`, async () => {
      const fields = ["sys_vendor", "product_name", "board_vendor", "bios_vendor"];
      for (const [at, text] of [
        [root, "inside"],
        [outside, "outside"],
      ] as const)
        addFiles(at, Object.fromEntries(fields.map((field) => [`sys/class/dmi/id/${field}`, text])));
      await swap(kind === "file" ? "sys/class/dmi/id/product_name" : "sys/class/dmi/id", kind);
      const seen = await race(async () => {
        const { dmi } = (await captureSnapshot({ sysroot: root })) as { dmi: Record<string, string> | null };
        const values = Object.values(dmi ?? {});
        if (values.includes("outside")) return "outside";
        return values.length < fields.length ? "not there" : "inside";
      }, hasBoth);
      expect(seen.get("outside") ?? 0, JSON.stringify([...seen])).to.equal(0);
      expect(seen.get("inside"), "inside").to.be.greaterThan(0);
      expect(seen.get("not there"), "not there").to.be.greaterThan(0);
    });

    it(`gives KVM's static values nothing of what is outside (a ${kind})`, async () => {
      const item = "sys/firmware/qemu_fw_cfg/by_key/1";
      for (const [at, text] of [
        [root, "inside-"],
        [outside, "outside"],
      ] as const)
        addFiles(at, {
          "sys/firmware/qemu_fw_cfg/rev": "3\n",
          [`${item}/name`]: "opt/org.pvbus/key\n",
          [`${item}/size`]: "7\n",
          [`${item}/raw`]: text,
        });
      await swap(kind === "file" ? `${item}/raw` : item, kind);
      const provider = new KvmProvider(nodeHost({ sysroot: root, platform: "linux" }));
      const seen = await race(async () => {
        const store = await provider.open({});
        try {
          const value = await store.read("fwcfg/opt/org.pvbus/key", new Call());
          return value === undefined ? "not there" : Buffer.from(value).toString();
        } catch (error) {
          if (!PvbusError.is(error) || !["ERR_CORRUPT", "ERR_PERMISSION"].includes(error.code)) throw error;
          return "not there";
        } finally {
          await store.close();
        }
      }, hasBoth);
      expect(seen.get("outside") ?? 0, JSON.stringify([...seen])).to.equal(0);
      expect(seen.get("inside-"), "inside").to.be.greaterThan(0);
      expect(seen.get("not there"), "not there").to.be.greaterThan(0);
    });
  }

  for (const [what, place, open] of [
    ["XenStore", "run/xenstored/socket", (host) => new XenProvider(host).open({}, new Call())],
    [
      "a zone's channel",
      ".zonecontrol/metadata.sock",
      async (host) => {
        const store = await new KvmProvider(host).open({});
        await store.read("meta/key", new Call({ timeoutMs: 1_000 })).finally(() => store.close());
      },
    ],
  ] as readonly [string, string, (host: ReturnType<typeof nodeHost>) => Promise<unknown>][]) {
    it(`never connects ${what} to what listens outside`, async () => {
      const inside = await listen(root, place);
      const live = await listen(outside, place);
      await swap(place, "file");
      const host = nodeHost({ sysroot: root, platform: "linux", env: {} });
      const seen = await race(
        async () => {
          await open(host).catch((error) => {
            if (!PvbusError.is(error)) throw error;
          });
          return "tried";
        },
        () => inside.count > 0,
      );
      expect(live.count, `${live.count} of ${seen.get("tried")}`).to.equal(0);
      expect(inside.count, "inside").to.be.greaterThan(0);
    });
  }

  it("holds a link that is swapped for a file while it is read", async () => {
    writeFileSync(join(root, "a"), "inside");
    symlinkSync("a", join(root, "b"));
    linkSync(join(root, "a"), join(root, "kept"));
    const script = SWAPPER.replace("out, path", '"a", path').replace(
      "fs.symlinkSync(out, spare)",
      'fs.symlinkSync("a", spare)',
    );
    const argv = ["-e", script, join(root, "b"), join(root, "kept"), "", "file"];
    swapper = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
    await once(swapper.stdout as NodeJS.ReadableStream, "data");
    const { files } = nodeHost({ sysroot: root });
    const seen = await race(async () => {
      const turns = Array.from({ length: 20 }, () => `${files.read("/b", 10)}`);
      return turns.find((each) => each !== "inside") ?? "inside";
    });
    expect([...seen.keys()]).to.deep.equal(["inside"]);
  });
});
