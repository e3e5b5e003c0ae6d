/** In Xen's control domain, beside the real xenstored. */
import { expect } from "chai";
import { type DetectionReport, openPvbus } from "pvbus";
import { pvbus, SLOW_MS } from "./command.js";

describe("Xen's dom0", () => {
  it("is seen as the host's side of Xen", async () => {
    const { code, stdout, stderr } = await pvbus("detect", "--json");
    expect(code, stderr).to.equal(0);
    const { interfaces } = JSON.parse(stdout) as DetectionReport;
    expect(interfaces.find(({ type }) => type === "Xen")).to.include({ role: "host" });
  });

  it("reads and writes the whole store over xenstored's socket", async () => {
    await using bus = await openPvbus({
      interfaces: [{ type: "Xen", channel: "unix:/run/xenstored/socket" }],
      timeoutMs: SLOW_MS,
    });
    const xen = bus.primary;
    expect(await xen?.read("/local/domain/0/domid")).to.equal("0");
    await xen?.write("/tool/lab", "from dom0");
    expect(await xen?.read("/tool/lab")).to.equal("from dom0");
    expect(await xen?.delete("/tool/lab")).to.equal(true);
    expect(await xen?.read("/tool/lab")).to.equal(undefined);
  });
});
