import { expect } from "chai";
import { type Bus, type OpenOptions, openPvbus } from "../../src/index.js";
import { checkTrust, getBootData, getCredential } from "../../src/tools/index.js";
import { run } from "../support/command-line.js";
import { rejects } from "../support/rejects.js";

/** Returns a bus of the same interfaces on a machine whose host is not trusted. */
function confidential(bus: Bus): Bus {
  const { interfaces, primary } = bus;
  return {
    detection: { ...bus.detection, confidential: "tdx" },
    interfaces,
    primary,
    interface: (name: string) => bus.interface(name),
    byType: (type: string) => bus.byType(type),
    portable: (...args: Parameters<Bus["portable"]>) => bus.portable(...args),
    close: () => bus.close(),
  } as unknown as Bus;
}

describe("a confidential machine", () => {
  it("does not take the host's word, unless it is told to", () => {
    expect(() => checkTrust({ confidential: "sev-snp" })).to.throw(/the host is not trusted.*--trust-host/);
    checkTrust({ confidential: "sev-snp" }, { trustHost: true });
    checkTrust({ confidential: null });
  });

  it("gives programs no boot data and no credentials", async () => {
    await using bus = await openPvbus({ detect: false });
    await rejects(getBootData(confidential(bus), "user-data"), "ERR_PERMISSION");
    await rejects(getCredential(confidential(bus), "alpha"), "ERR_PERMISSION");
    await rejects(getBootData(confidential(bus), "user-data", { trustHost: true }), "ERR_NO_INTERFACE");
  });

  it("refuses the commands that go by what the host says, each with its own way round", async () => {
    const open = async (options: OpenOptions) => confidential(await openPvbus({ ...options, detect: false }));
    for (const argv of [
      ["userdata", "list"],
      ["userdata", "get", "user-data"],
      ["userdata", "nocloud", "/proc/nonexistent/seed"],
      ["creds", "list"],
      ["creds", "get", "alpha"],
      ["creds", "export", "/proc/nonexistent/creds"],
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
