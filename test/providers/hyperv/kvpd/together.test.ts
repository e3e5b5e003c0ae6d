import { expect } from "chai";
import { encodeRecord } from "../../../../providers/hyperv/protocol/record.js";
import { KvpDeviceSimulator } from "../../../../providers/testing.js";
import { startAgent, whyNoAgent } from "../../../support/kvp-agents.js";
import { pending } from "../../../support/pending.js";
import { collect, PoolTree, pairsOf } from "../../../support/pools.js";

const FILLING = 200;
const ROUNDS = 60;

const filling = Buffer.concat(
  Array.from({ length: FILLING }, (_, at) =>
    encodeRecord({ key: Buffer.from(`filling ${at}`), value: Buffer.from(`${at}`.repeat(40)) }),
  ),
);
const holdsFilling = (pairs: Iterable<readonly [string, string]>): boolean => {
  const found = new Map(pairs);
  return Array.from({ length: FILLING }, (_, at) => found.get(`filling ${at}`) === `${at}`.repeat(40)).every(
    Boolean,
  );
};

/** The vendor's daemon and ours, each on a device of its own, on one pool directory. */
class Both implements AsyncDisposable {
  readonly tree = new PoolTree();
  readonly devices: KvpDeviceSimulator[] = [];

  static async start(): Promise<Both> {
    const both = new Both();
    for (const pool of [0, 1]) both.tree.put(pool, filling);
    for (const who of ["vendor", "ours"] as const) {
      const device = await KvpDeviceSimulator.start({ directory: both.tree.directory });
      both.devices.push(device);
      await startAgent(device, who);
    }
    return both;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices) await device.close();
    await this.tree[Symbol.asyncDispose]();
  }
}

describe("the vendor's daemon and ours on one pool directory", function () {
  this.timeout(60_000);

  before(function () {
    const why = whyNoAgent("vendor");
    if (why === undefined) return;
    return pending(this, why);
  });

  it("each sees at once what the other stored, while readers of ours see every record at any time", async () => {
    await using both = await Both.start();
    const external = await both.tree.open();
    let [reading, readings, incomplete] = [true, 0, 0];
    const reader = (async () => {
      while (reading) {
        const pairs = await collect(external.list("External/"));
        readings++;
        // A writer waits for the readers' locks: without a pause it would starve.
        await new Promise((resolve) => setTimeout(resolve, 2));
        if (!holdsFilling(pairs.map(({ key, value }) => [key.slice("External/".length), value ?? ""])))
          incomplete++;
      }
    })();
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const [writer, other] = [both.devices[round % 2], both.devices[(round + 1) % 2]] as [
          KvpDeviceSimulator,
          KvpDeviceSimulator,
        ];
        expect(await writer.set(0, `key ${round}`, `value ${round}`)).to.equal(0);
        const expected = { key: `key ${round}`, value: `value ${round}` };
        expect(await other.enumerate(0, FILLING + round)).to.deep.equal(expected);
      }
    } finally {
      reading = false;
      await reader;
    }
    expect(incomplete).to.equal(0);
    expect(readings).to.be.greaterThan(5);
    const [theirs, ours] = [await both.devices[0]?.list(0), await both.devices[1]?.list(0)];
    expect(ours).to.have.length(FILLING + ROUNDS);
    expect(theirs).to.deep.equal(ours);
  });

  it("a writer of ours in the Guest pool disturbs neither, and loses nothing to them", async () => {
    await using both = await Both.start();
    const guest = await both.tree.open();
    let writing = true;
    const listings = both.devices.map(async (device) => {
      let count = 0;
      while (writing) {
        expect(holdsFilling((await device.list(1)).map(({ key, value }) => [key, value]))).to.equal(true);
        count++;
      }
      return count;
    });
    for (let round = 0; round < ROUNDS; round++) {
      await guest.write(`Guest/key ${round % 7}`, `${round}`.repeat(round));
      if (round % 5 === 4) await guest.write(`Guest/new ${round}`, "new");
    }
    writing = false;
    for (const count of await Promise.all(listings)) expect(count).to.be.greaterThan(0);
    const pairs = new Map(pairsOf(both.tree.get(1)));
    for (let round = ROUNDS - 7; round < ROUNDS; round++)
      expect(pairs.get(`key ${round % 7}`)).to.equal(`${round}`.repeat(round));
    expect(pairs.size).to.equal(FILLING + 7 + ROUNDS / 5);
    for (const device of both.devices)
      expect((await device.list(1)).map(({ key, value }) => [key, value])).to.deep.equal(
        pairsOf(both.tree.get(1)),
      );
  });
});
