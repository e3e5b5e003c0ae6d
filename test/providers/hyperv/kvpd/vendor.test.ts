import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import {
  EMPTY_IP_INFO,
  encodeRequest,
  KvpOperation,
  LINUX_KVP,
  replyStatus,
} from "../../../../providers/hyperv/protocol/messages.js";
import { fieldEnd } from "../../../../providers/hyperv/protocol/record.js";
import {
  KvpDeviceSimulator,
  KvpDriverAnswer,
} from "../../../../providers/hyperv/testing/kvp-device/simulator.js";
import { someMac, startAgent, type Who, whyNoAgent } from "../../../support/kvp-agents.js";
import { requestScript, type ScriptStep } from "../../../support/kvp-script.js";
import { pending } from "../../../support/pending.js";
import { PoolTree, pairsOf, ROOT } from "../../../support/pools.js";

const NO_INTERFACE = "00:00:00:00:00:98";

/** Zeroes what the vendor's daemon sends behind the NULs of a record: bytes of former records and of its memory. */
function withoutTails(request: Buffer, reply: Buffer): Buffer {
  if (request[0] !== KvpOperation.enumerate || replyStatus(reply) !== 0) return reply;
  const clean = Buffer.from(reply);
  for (const [at, size] of [
    [20, 512],
    [532, 2048],
  ] as const)
    clean.fill(0, fieldEnd(clean, at, size), at + size);
  return clean;
}

async function repliesOf(who: Who, steps: readonly ScriptStep[]): Promise<Buffer[]> {
  await using simulator = await KvpDeviceSimulator.start();
  await startAgent(simulator, who);
  const replies: Buffer[] = [];
  for (const { message } of steps) replies.push(await simulator.request(message));
  return replies;
}

describe("KVP daemon beside the vendor's own", function () {
  this.timeout(120_000);

  before(function () {
    const why = whyNoAgent("vendor");
    if (why === undefined) return;
    return pending(this, why);
  });

  it("gives the same reply to every request of the script, but for the rows of docs/hyperv.md", async () => {
    const steps = requestScript(someMac() ?? NO_INTERFACE);
    expect(steps.length).to.be.greaterThan(400);
    const [vendor, ours] = [await repliesOf("vendor", steps), await repliesOf("ours", steps)];
    const table = readFileSync(join(ROOT, "docs/hyperv.md"), "utf8");
    let tails = 0;
    for (const [at, { name, message, differs }] of steps.entries()) {
      const [theirs, mine] = [vendor[at] as Buffer, ours[at] as Buffer];
      const clean = withoutTails(message, theirs);
      if (!clean.equals(theirs)) tails++;
      expect(mine.length, name).to.equal(theirs.length);
      if (differs === undefined) {
        expect(mine.equals(clean), `${at}: ${name}`).to.equal(true);
      } else {
        expect(mine.equals(clean), `${at}: ${name}`).to.equal(false);
        expect(table, differs).to.match(new RegExp(`^\\| ${differs} +\\|`, "m"));
      }
    }
    expect(tails, "replies of the vendor's with tails").to.be.greaterThan(10);
    expect(table).to.match(/^\| tails +\|/m);
  });

  it("leaves the same records in the pools", async () => {
    const steps = requestScript(NO_INTERFACE);
    const pools: Record<Who, [string, string][][]> = { vendor: [], ours: [] };
    for (const who of ["vendor", "ours"] as const) {
      await using tree = new PoolTree();
      await using simulator = await KvpDeviceSimulator.start({ directory: tree.directory });
      await startAgent(simulator, who);
      for (const { message } of steps) await simulator.request(message);
      pools[who] = [0, 1, 3, 4].map((pool) => pairsOf(tree.get(pool)));
    }
    expect(pools.ours).to.deep.equal(pools.vendor);
  });

  describe("serves on after what ends the vendor's", () => {
    const set = (edit: (message: Buffer) => void): Buffer => {
      const request = { operation: "set", pool: 0, key: Buffer.from("k"), value: Buffer.from("v") } as const;
      const message = encodeRequest(request, LINUX_KVP);
      edit(message);
      return message;
    };
    const longAddress = (id: string): Buffer => {
      const ipAddresses = "A".repeat(300);
      const info = { ...EMPTY_IP_INFO, adapterId: id, addressFamily: 1, ipAddresses, subnets: "255.0.0.0" };
      return encodeRequest({ operation: "setIpInfo", info }, LINUX_KVP);
    };
    for (const [what, message] of [
      ["pool 5", set((m) => m.writeUInt8(5, 1))],
      ["pool 7", set((m) => m.writeUInt8(7, 1))],
      ["pool 255", set((m) => m.writeUInt8(255, 1))],
      ["a key size of 4294967295", set((m) => m.writeUInt32LE(0xffffffff, 8))],
      ["a value size of 4294967295", set((m) => m.writeUInt32LE(0xffffffff, 12))],
    ] as const) {
      it(what, async () => {
        await using simulator = await KvpDeviceSimulator.start();
        const vendor = await startAgent(simulator, "vendor");
        const failure = await simulator.request(message).catch((error: unknown) => error);
        expect(failure).to.be.instanceOf(KvpDriverAnswer).with.property("why", "closed");
        await vendor.ended;
        await startAgent(simulator, "ours");
        expect(replyStatus(await simulator.request(message))).to.equal(0x80070103);
        expect(await simulator.set(0, "after", "it")).to.equal(0);
        expect(await simulator.enumerate(0, 0)).to.deep.equal({ key: "after", value: "it" });
      });
    }

    it("an entry of 300 bytes in an IP list", async () => {
      await using simulator = await KvpDeviceSimulator.start();
      await startAgent(simulator, "ours");
      expect(replyStatus(await simulator.request(longAddress("{none}")))).to.equal(0x80041002);
      expect(await simulator.set(0, "after", "it")).to.equal(0);
    });
  });
});
