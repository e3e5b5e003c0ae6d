import { readFile } from "node:fs/promises";
import { expect } from "chai";
import { fromSystemError, isSystemError } from "../../src/base/system-error.js";

const systemError = (code: string): Error =>
  Object.assign(new Error(code), { code, syscall: "open", path: "/x" });

describe("fromSystemError", () => {
  it("maps errno names to codes and keeps the error as the cause", async () => {
    const real = await readFile("/nonexistent/file").catch((error: unknown) => error);
    expect(isSystemError(real)).to.equal(true);
    const mapped = fromSystemError(real, {
      doing: "cannot read it",
      codes: { ENOENT: "ERR_CORRUPT" },
      key: "k",
    });
    expect(mapped).to.include({
      code: "ERR_CORRUPT",
      cause: real,
      key: "k",
      message: "cannot read it (ENOENT)",
    });
  });

  for (const [errno, code] of [
    ["EACCES", "ERR_PERMISSION"],
    ["EROFS", "ERR_READ_ONLY"],
    ["ENOSPC", "ERR_NO_SPACE"],
    ["EBUSY", "ERR_BUSY"],
    ["ETIMEDOUT", "ERR_TIMEOUT"],
    ["EPIPE", "ERR_DISCONNECTED"],
    ["ENXIO", "ERR_UNAVAILABLE"],
  ] as const) {
    it(`turns ${errno} into ${code}`, () => {
      expect(fromSystemError(systemError(errno), { doing: "d" })).to.include({ code });
    });
  }

  it("says what to do, by errno, by default or in general", () => {
    const advice = { EACCES: "ask Eve", default: "call Bob" };
    expect(fromSystemError(systemError("EACCES"), { doing: "d", advice })).to.have.property(
      "message",
      "d (EACCES); ask Eve",
    );
    expect(fromSystemError(systemError("EIO"), { doing: "d", advice })).to.have.property(
      "message",
      "d (EIO); call Bob",
    );
    expect(fromSystemError(systemError("EBUSY"), { doing: "d" })).to.have.property(
      "message",
      "d (EBUSY); try again",
    );
  });

  it("gives back what is no system error", () => {
    for (const other of [undefined, "x", new Error("m"), new TypeError("t")]) {
      expect(fromSystemError(other, { doing: "d" })).to.equal(other);
    }
  });
});
