import { expect } from "chai";
import { nodeHost } from "../../src/base/host/node-host.js";
import { Bus } from "../../src/bus/bus.js";
import { PortableView } from "../../src/bus/portable/view.js";
import { detect } from "../../src/detect/detect.js";
import { memoryInterface } from "../support/memory-interface.js";

const report = await detect(nodeHost({ sysroot: "/nonexistent" }));

describe("Bus", () => {
  it("finds interfaces by name, type and id", async () => {
    const face = await memoryInterface();
    const bus = new Bus(report, [face]);
    expect(bus.primary).to.equal(face);
    expect(bus.interface("pvbus0")).to.equal(face);
    expect(bus.interface("pvbus1")).to.equal(undefined);
    for (const type of ["Memory", "MEMORY", "memory"]) expect(bus.byType(type)).to.equal(face);
    expect(bus.byType("Xen")).to.equal(undefined);
  });

  it("gives a portable view of the primary, and says so when there is none", async () => {
    const bus = new Bus(report, [await memoryInterface()]);
    expect(bus.portable("com.example")).to.be.instanceOf(PortableView);
    expect(() => bus.portable("a/b"))
      .to.throw()
      .with.property("code", "ERR_KEY_INVALID");
    expect(() => new Bus(report, []).portable("a"))
      .to.throw()
      .with.property("code", "ERR_NO_INTERFACE");
  });

  it("closes every store, also when one fails to close", async () => {
    let closed = 0;
    const failing = await memoryInterface(undefined, () => ({
      close: () => Promise.reject(new Error("stuck")),
    }));
    const sound = await memoryInterface(undefined, () => ({
      close: async () => {
        await new Promise(setImmediate);
        closed++;
      },
    }));
    await Promise.all([failing.store(), sound.store()]);
    const error = await new Bus(report, [failing, sound]).close().catch((caught: unknown) => caught);
    expect(error).to.have.property("message", "stuck");
    expect(closed).to.equal(1);
  });
});
