import { expect } from "chai";
import { whyNoAgent } from "../../../support/kvp-agents.js";
import { killUnderLoad } from "../../../support/kvp-load.js";
import { pending } from "../../../support/pending.js";

const KILLS = 200;
const VENDOR_KILLS = 20;
const RECORDS = 1000;

describe("KVP daemon, killed", function () {
  this.timeout(600_000);

  it(`keeps all that the host was told is stored, through ${KILLS} kills under load`, async function () {
    const why = whyNoAgent("ours");
    if (why !== undefined) return pending(this, why);
    const { kills, inFlight, damaged, how } = await killUnderLoad("ours", KILLS, RECORDS);
    expect([damaged, how]).to.deep.equal([0, []]);
    expect(kills).to.equal(KILLS);
    expect(inFlight, "kills that hit a request").to.be.greaterThan(KILLS / 4);
  });

  it("does so where the vendor's loses, so the test can see a loss", async function () {
    const why = whyNoAgent("vendor");
    if (why !== undefined) return pending(this, why);
    const { damaged } = await killUnderLoad("vendor", VENDOR_KILLS, RECORDS);
    expect(damaged).to.be.greaterThan(0);
  });
});
