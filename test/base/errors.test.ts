import { readFileSync } from "node:fs";
import { expect } from "chai";
import { AbortedError, LimitError, PvbusError, pvbusError, RefusedError } from "../../src/base/errors.js";

describe("PvbusError", () => {
  it("picks the subclass that belongs to the code", () => {
    expect(pvbusError("ERR_READ_ONLY", "m"))
      .to.be.instanceOf(RefusedError)
      .and.have.property("name", "RefusedError");
    expect(pvbusError("ERR_KEY_INVALID", "m")).to.be.instanceOf(LimitError);
  });

  it("keeps interface, key and cause", () => {
    const cause = new Error("c");
    const error = pvbusError("ERR_BUSY", "m", { interface: "pvbus1", key: "k", cause });
    expect(error).to.include({ code: "ERR_BUSY", interface: "pvbus1", key: "k", cause });
    expect("cause" in pvbusError("ERR_BUSY", "m")).to.equal(false);
  });

  it("is an AbortError with the signal's reason when aborted", () => {
    const error = pvbusError("ERR_ABORTED", "m", { cause: "why" });
    expect(error).to.be.instanceOf(AbortedError).and.include({ name: "AbortError", cause: "why" });
  });

  it("is recognised across a second copy of the package, and nothing else is", async () => {
    const copy = (await import(`${new URL("../../src/base/errors.js", import.meta.url)}?copy`)) as {
      pvbusError: typeof pvbusError;
    };
    const foreign = copy.pvbusError("ERR_TIMEOUT", "m");
    expect(foreign).not.to.be.instanceOf(PvbusError);
    expect(PvbusError.is(foreign)).to.equal(true);
    for (const other of [undefined, null, 7, "x", {}, new Error("m"), { code: "ERR_TIMEOUT" }]) {
      expect(PvbusError.is(other)).to.equal(false);
    }
  });

  it("has one section of docs/errors.md for each code", () => {
    const root = new URL("../../../", import.meta.url);
    const source = readFileSync(new URL("src/base/errors.ts", root), "utf8");
    const codes = [...new Set(source.match(/(?<=\| ")ERR_\w+/g))];
    const sections = readFileSync(new URL("docs/errors.md", root), "utf8").match(/(?<=^## )ERR_\w+$/gm) ?? [];
    expect(codes).to.have.length(17);
    expect(sections.toSorted()).to.deep.equal(codes.toSorted());
  });
});
