import { expect } from "chai";
import fc from "fast-check";
import { WaitingLine } from "../../../src/base/flow/waiting-line.js";
import { collectGarbage } from "../../support/descriptors.js";

describe("WaitingLine", () => {
  it("behaves as an array does", () => {
    const step = fc.oneof(fc.constant("shift" as const), fc.nat(50), fc.record({ remove: fc.nat(50) }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const line = new WaitingLine<number>();
        const model: number[] = [];
        for (const each of steps) {
          if (each === "shift") expect(line.shift()).to.equal(model.shift());
          else if (typeof each === "number") {
            // Nobody stands in it twice.
            if (model.includes(each)) continue;
            line.push(each);
            model.push(each);
          } else {
            line.remove(each.remove);
            const at = model.indexOf(each.remove);
            if (at >= 0) model.splice(at, 1);
          }
          expect(line.length).to.equal(model.length);
          expect(line.all()).to.deep.equal(model);
        }
        expect(line.clear()).to.deep.equal(model);
        expect(line.length).to.equal(0);
      }),
    );
  });

  it("does not grow while it is never empty", () => {
    const line = new WaitingLine<Buffer>();
    const turn = (): void => {
      line.push(Buffer.alloc(100));
      line.shift();
    };
    for (let at = 0; at < 100; at++) line.push(Buffer.alloc(100));
    for (let at = 0; at < 5_000; at++) turn();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let at = 0; at < 200_000; at++) turn();
    collectGarbage();
    expect(process.memoryUsage().heapUsed - before).to.be.lessThan(1 << 20);
    expect(line.length).to.equal(100);
  });

  it("keeps nothing of those who leave before their turn", () => {
    const line = new WaitingLine<Buffer>();
    const round = (): void => {
      const items = Array.from({ length: 100 }, () => Buffer.alloc(100));
      for (const item of items) line.push(item);
      for (const item of items) line.remove(item);
    };
    for (let at = 0; at < 100; at++) round();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let at = 0; at < 2_000; at++) round();
    collectGarbage();
    expect(process.memoryUsage().heapUsed - before).to.be.lessThan(1 << 20);
    expect(line.shift()).to.equal(undefined);
  });
});
