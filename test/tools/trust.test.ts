import { expect } from "chai";
import { openPvbus } from "../../src/index.js";
import { checkTrust, getBootData, getCredential } from "../../src/tools/index.js";
import { run } from "../support/command-line.js";
import { rejects } from "../support/rejects.js";

describe("a confidential machine", () => {
  it("does not take the host's word, unless it is told to", () => {
    expect(() => checkTrust({ confidential: "sev-snp" })).to.throw(/the host is not trusted.*--trust-host/);
    checkTrust({ confidential: "sev-snp" }, { trustHost: true });
    checkTrust({ confidential: null });
  });

  it("gives programs no boot data and no credentials", async () => {
    await using bus = await openPvbus({ detect: false });
    const confidential = Object.create(bus, {
      detection: { value: { ...bus.detection, confidential: "tdx" } },
    });
    await rejects(getBootData(confidential, "user-data"), "ERR_PERMISSION");
    await rejects(getCredential(confidential, "alpha"), "ERR_PERMISSION");
    await rejects(getBootData(confidential, "user-data", { trustHost: true }), "ERR_NO_INTERFACE");
  });

  it("refuses the commands that go by what the host says, each with its own way round", async () => {
    const open = async (options: object) => {
      const bus = await openPvbus({ ...options, detect: false });
      return Object.create(bus, { detection: { value: { ...bus.detection, confidential: "tdx" } } });
    };
    for (const argv of [
      ["userdata", "list"],
      ["userdata", "get", "user-data"],
      ["userdata", "nocloud", "/nonexistent/seed"],
      ["creds", "list"],
      ["creds", "get", "alpha"],
      ["creds", "export", "/nonexistent/creds"],
    ]) {
      const { code, stderr } = await run([...argv, "-t", "Xen", "--channel", "unix:/nonexistent"], { open });
      expect([code, stderr], argv.join(" ")).to.deep.equal([
        1,
        "pvbus: the host is not trusted in a confidential machine (tdx); --trust-host reads all the same [ERR_PERMISSION]\n",
      ]);
      const trusting = await run([...argv, "--trust-host", "-t", "Xen", "--channel", "unix:/nonexistent"], {
        open,
      });
      expect(trusting.stderr, argv.join(" ")).not.to.contain("not trusted");
    }
  });
});
