import { expect } from "chai";
import { budget, patience, report } from "../../../support/campaign.js";
import { whyNoAgent } from "../../../support/kvp-agents.js";
import { killUnderLoad } from "../../../support/kvp-load.js";
import { pending } from "../../../support/pending.js";

const SECONDS = budget(3, 120);
const FEWEST = 8;
const VENDOR_SECONDS = 60;
const RECORDS = 1000;

describe("KVP daemon, killed", function () {
  this.timeout(patience(Math.max(SECONDS, VENDOR_SECONDS)));

  it("keeps all that the host was told is stored, through kills under load", async function () {
    const why = whyNoAgent("ours");
    if (why !== undefined) return pending(this, why);
    const { kills, inFlight, damaged, how } = await killUnderLoad("ours", {
      seconds: SECONDS,
      atLeast: FEWEST,
      records: RECORDS,
    });
    report("kills of the daemon", { kills, "within a request": inFlight });
    expect([damaged, how]).to.deep.equal([0, []]);
    expect(inFlight, "kills that hit a request").to.be.greaterThan(kills / 4);
  });

  it("does so where the vendor's loses, so the test can see a loss", async function () {
    const why = whyNoAgent("vendor");
    if (why !== undefined) return pending(this, why);
    const { damaged, kills } = await killUnderLoad("vendor", {
      seconds: VENDOR_SECONDS,
      atLeast: FEWEST,
      records: RECORDS,
      untilDamaged: true,
    });
    report("kills of the vendor's daemon until a loss", { kills });
    expect(damaged).to.be.greaterThan(0);
  });
});
