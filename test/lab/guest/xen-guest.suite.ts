/** In a guest of Xen: the real device, the real daemon's permissions and quotas. */
import { expect } from "chai";
import { type Bus, type DetectionReport, openPvbus, type PvInterface } from "pvbus";
import { pvbus, SLOW_MS } from "./command.js";

describe("a guest of Xen", () => {
  let bus: Bus;
  let xen: PvInterface;

  before(async () => {
    bus = await openPvbus({ timeoutMs: SLOW_MS });
    xen = bus.primary as PvInterface;
  });
  after(() => bus.close());

  it("is detected", async () => {
    const { code, stdout, stderr } = await pvbus("detect", "--json");
    expect(code, stderr).to.equal(0);
    const report = JSON.parse(stdout) as DetectionReport;
    expect([report.virtual, report.primary]).to.deep.equal([true, "xen"]);
    expect(report.interfaces.find(({ type }) => type === "Xen")).to.include({
      role: "guest",
      emulated: false,
    });
  });

  it("finds the store by itself and reads what the tool stack wrote", async () => {
    expect(xen.type).to.equal("Xen");
    expect(await xen.read("name")).to.equal("lab");
    expect(await xen.read("domid")).to.match(/^[1-9]\d*$/);
    expect(await xen.read("none")).to.equal(undefined);
  });

  it("writes, lists and deletes below data, where a guest may", async () => {
    await xen.write("data/build", "1.2.3");
    await xen.write("data/app/tier", "é 🙂");
    const found: Record<string, string | undefined> = {};
    for await (const { key, value } of xen.list("data")) found[key] = value;
    expect(found).to.include({ "data/build": "1.2.3", "data/app/tier": "é 🙂" });
    expect(await xen.delete("data/app")).to.equal(true);
    expect(await xen.read("data/app/tier")).to.equal(undefined);
  });

  it("is refused what belongs to another domain, by a typed error", async () => {
    const error = await xen.write("/local/domain/0/name", "mine").catch((failure: unknown) => failure);
    expect(error).to.have.property("code", "ERR_PERMISSION");
    const read = await xen.read("/vm").catch((failure: unknown) => failure);
    expect(
      read === undefined || (read as { code?: string }).code === "ERR_PERMISSION" || typeof read === "string",
    ).to.equal(true);
  });

  it("watches: a change wakes it", async () => {
    const seen: string[] = [];
    for await (const { key, value } of xen.watch("data/watched", {
      timeoutMs: 20_000,
      ready: () => void xen.write("data/watched", "now"),
    })) {
      seen.push(`${key}=${value}`);
      if (value === "now") break;
    }
    expect(seen).to.include("data/watched=now");
  });

  it("keeps many requests in flight, and two users of the device apart", async () => {
    await Promise.all(Array.from({ length: 100 }, (_, at) => xen.write(`data/many/${at}`, `${at}`)));
    await using second = await openPvbus({ timeoutMs: SLOW_MS });
    const values = await Promise.all(
      Array.from({ length: 100 }, (_, at) =>
        (at % 2 ? xen : (second.primary as PvInterface)).read(`data/many/${at}`),
      ),
    );
    expect(values).to.deep.equal(Array.from({ length: 100 }, (_, at) => `${at}`));
  });

  it("serves the command line", async () => {
    expect(await pvbus("set", "data/cli", "by hand")).to.deep.include({ code: 0, stderr: "" });
    expect(await pvbus("get", "data/cli")).to.deep.equal({ code: 0, stdout: "by hand\n", stderr: "" });
    expect((await pvbus("ls", "data")).stdout).to.contain("data/cli");
    expect((await pvbus("get", "data/none")).code).to.equal(1);
    const { code, stdout } = await pvbus("doctor", "-i", "pvbus0");
    expect(code, stdout).to.equal(0);
  });
});
