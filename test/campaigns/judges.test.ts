import { expect } from "chai";
import { Allowance, allOutcomes, foreignFault, outcomesOf, type Records, rawFault, settle } from "./model.js";
import {
  azureInitView,
  cloudInitView,
  fileOf,
  type Pair,
  RECORD_BYTES,
  recordOf,
  recordsOf,
  viewsOf,
} from "./readers.js";
import { vendorRewrite } from "./vendor-rewrite.js";

const pair = (key: string, value: string): Pair => ({ key, value });
const [a, b, c] = [pair("a", "1"), pair("b", "2"), pair("c", "3")];
const held: Records = [a, b, c];
const raw = (file: Buffer, ...states: Records[]): string | undefined =>
  rawFault(file, states, viewsOf(file, "clean"));

describe("the campaigns' judges", () => {
  it("have nothing against what is right, before and after a repair", () => {
    const inFlight = [held, ...outcomesOf(held, { kind: "write", key: "b", value: "new" })];
    for (const records of [held, [a, pair("b", "new"), c], [a, b, c, pair("b", "new")], [a, a, b, c]])
      expect(raw(fileOf(records), ...inFlight), JSON.stringify(records)).to.equal(undefined);
    expect(raw(Buffer.concat([fileOf(held), Buffer.alloc(RECORD_BYTES)]), held)).to.equal(undefined);
    expect(settle(fileOf(held), inFlight)).to.deep.equal({ records: held });
    expect(settle(fileOf([a, pair("b", "new"), c]), inFlight).fault).to.equal(undefined);
  });

  it("find a lost pair", () => {
    expect(raw(fileOf([a, c]), held)).to.match(/^lost for host/);
    expect(settle(fileOf([a, c]), [held]).fault).to.match(/^lost/);
  });

  it("find a garbled pair: a value of two, a key of nobody, a value behind its NUL", () => {
    expect(raw(fileOf([a, pair("b", "2new"), c]), held)).to.match(/^garbled/);
    expect(raw(fileOf([...held, pair("ab", "2")]), held)).to.match(/^garbled or resurrected/);
    const tail = fileOf(held);
    tail.write("old", RECORD_BYTES + 512 + 2);
    expect(raw(tail, held)).to.match(/^wrong for cloud-init/);
    expect(rawFault(tail, [held], viewsOf(tail, "vendor's"))).to.equal(undefined);
  });

  it("find a pair that stays doubled, and an old value that hides the new one", () => {
    expect(settle(fileOf([a, b, c, b]), [held]).fault).to.match(/^doubled/);
    const after = outcomesOf(held, { kind: "set", key: "a", value: "new" });
    const file = fileOf([pair("a", "new"), b, c, a]);
    expect(raw(file, ...after)).to.match(/^garbled/);
    expect(settle(file, after).fault).to.match(/resurrected/);
  });

  it("find a deleted pair that came back", () => {
    const after = outcomesOf(held, { kind: "delete", key: "b" });
    expect(after).to.deep.equal([[a, c]]);
    expect(raw(fileOf(held), ...after)).to.match(/^garbled or resurrected/);
    expect(settle(fileOf(held), after).fault).to.match(/resurrected/);
  });

  it("find a torn tail, an unused slot and another order after a repair", () => {
    expect(settle(Buffer.concat([fileOf(held), Buffer.alloc(9)]), [held]).fault).to.match(/^a torn tail/);
    expect(settle(Buffer.concat([fileOf(held), Buffer.alloc(RECORD_BYTES)]), [held]).fault).to.match(
      /^a slot/,
    );
    expect(settle(fileOf([b, a, c]), [held]).fault).to.equal("out of order");
    expect(raw(Buffer.concat([fileOf(held), Buffer.alloc(9)]), held)).to.match(/^azure-init refuses/);
  });

  it("find a reader that stops at bytes that are no text, even in a slot that is not in use", () => {
    const note = Buffer.alloc(RECORD_BYTES);
    note.set([0, 0xff, 0xfe], 0);
    const file = Buffer.concat([note, fileOf(held)]);
    expect(cloudInitView(file).refusal).to.match(/not UTF-8/);
    expect(raw(file, held)).to.match(/^cloud-init refuses/);
    expect(azureInitView(recordOf(a)).pairs).to.deep.equal(new Map([["a", "1"]]));
  });

  it("let a change of duplicates of another program's be half done while the last one decides", () => {
    const twice: Records = [pair("a", "old"), b, a];
    const states = [twice, ...outcomesOf(twice, { kind: "write", key: "a", value: "new" })];
    expect(settle(fileOf([pair("a", "old"), b, pair("a", "new")]), states).fault).to.equal(undefined);
    expect(settle(fileOf([pair("a", "old"), b]), states).fault).to.match(/^wrong|^lost/);
    expect(settle(fileOf([pair("a", "old"), b, a, pair("a", "new")]), states).fault).to.not.equal(undefined);
    expect(settle(fileOf([pair("a", "old"), a]), states).fault).to.match(/lost: "b"/);
  });

  it("find what our repair takes back from the vendor's daemon, and what that takes from others", () => {
    const change = { kind: "set", key: "a", value: "x" } as const;
    const changed = vendorRewrite(fileOf([...held, a]), change);
    expect(recordsOf(changed)).to.deep.equal([pair("a", "x"), b, c, a]);
    expect(foreignFault(changed, [held], change, false)).to.equal(undefined);
    expect(foreignFault(fileOf(held), [held], change, true)).to.match(/^lost: what the vendor's daemon set/);
    expect(foreignFault(fileOf([pair("a", "x"), c]), [held], change, true)).to.match(/^lost for host: "b"/);
    const longer = vendorRewrite(fileOf([a, pair("bb", "22"), c]), { kind: "unset", key: "a" });
    expect(recordsOf(longer)).to.deep.equal([pair("bb", "22"), c]);
  });

  it("know what duplicates of another program's may become", () => {
    const twice: Records = [pair("a", "old"), b, a];
    expect(outcomesOf(twice, { kind: "write", key: "a", value: "n" })).to.deep.equal([
      [b, pair("a", "n")],
      [pair("a", "n"), b],
    ]);
    expect(allOutcomes([twice], { kind: "start" })).to.deep.equal([twice]);
    expect(settle(fileOf([pair("a", "old"), b]), [twice]).fault).to.match(/^wrong/);
    // Last-wins readers must not fall back to the older one.
    expect(
      new Allowance([twice]).faultOfView({
        reader: "host",
        pairs: new Map([
          ["a", "old"],
          ["b", "2"],
        ]),
      }),
    ).to.match(/^wrong for host/);
    expect(settle(fileOf([a, b, c]), [[a, b, a, c]]).fault).to.equal(undefined);
  });
});
