import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { vmwareManifest } from "../../../providers/vmware/manifest.js";
import { roundTrip } from "../../../src/cli/commands/demo.js";
import { openPvbus } from "../../../src/index.js";

describe("the round trip with a simulated VMware host", () => {
  it("goes both ways and leaves nothing open", async () => {
    const directory = mkdtempSync(join(tmpdir(), "pvbus-demo-vmware-"));
    try {
      const steps: string[] = [];
      const context = { open: openPvbus, signal: new AbortController().signal };
      await roundTrip(context, vmwareManifest, directory, (actor, text) => steps.push(`${actor} ${text}`));
      expect(steps).to.deep.equal([
        'host tells the machine\'s name and sets guestinfo.role = "web"',
        "guest is web-01",
        'guest reads guestinfo.role: "web"',
        'guest writes guestinfo.build = "1.2.3"',
        'host sees guestinfo.build = "1.2.3"',
        'guest its watch sees guestinfo.role become "db"',
        "guest empties guestinfo.build, since this host removes nothing",
        'host sees guestinfo.build = ""',
      ]);
      expect(readdirSync(directory)).to.deep.equal([]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
