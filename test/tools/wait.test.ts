import { expect } from "chai";
import { pvbusError } from "../../src/base/errors.js";
import type { CallOptions } from "../../src/base/flow/call.js";
import { readNumbered, untilThere } from "../../src/tools/index.js";
import { codeOf } from "../support/memory-interface.js";

describe("untilThere", () => {
  it("tries again while there is no interface, no transport or no connection, and says so", async () => {
    const codes = ["ERR_NO_INTERFACE", "ERR_UNAVAILABLE", "ERR_DISCONNECTED"] as const;
    for (const code of codes) {
      const heard: string[] = [];
      const limits: CallOptions[] = [];
      const attempt = async (given: CallOptions): Promise<string> => {
        limits.push(given);
        if (limits.length === 1) throw pvbusError(code, "not there yet");
        return "there";
      };
      const waiting = ({ code: said }: { code: string }): void => void heard.push(said);
      expect(await untilThere(attempt, { timeoutMs: 60_000, waiting })).to.equal("there");
      expect(heard).to.deep.equal([code]);
      expect(limits[1]?.timeoutMs).to.be.below(59_500);
    }
  }).timeout(10_000);

  it("ends with any other failure at once, with ERR_TIMEOUT and with ERR_ABORTED", async () => {
    const failing = (code: "ERR_PERMISSION" | "ERR_UNAVAILABLE") => async (): Promise<never> => {
      throw pvbusError(code, "as the test says");
    };
    expect(await codeOf(untilThere(failing("ERR_PERMISSION")))).to.equal("ERR_PERMISSION");
    expect(await codeOf(untilThere(failing("ERR_UNAVAILABLE"), { timeoutMs: 10 }))).to.equal("ERR_TIMEOUT");
    const signal = AbortSignal.abort();
    expect(await codeOf(untilThere(failing("ERR_UNAVAILABLE"), { signal }))).to.equal("ERR_ABORTED");
    const abort = new AbortController();
    const waiting = (): void => abort.abort();
    expect(await codeOf(untilThere(failing("ERR_UNAVAILABLE"), { signal: abort.signal, waiting }))).to.equal(
      "ERR_ABORTED",
    );
  });
});

describe("readNumbered", () => {
  const keysOf = (parts: Readonly<Record<string, string>>) => ({
    readBytes: async (key: string) => (key in parts ? Buffer.from(parts[key] ?? "") : undefined),
  });
  const PARTS = { "p.0": "one ", "p.1": "two ", "p.2": "three" };

  it("joins the parts up to the first gap", async () => {
    const found = await readNumbered(keysOf(PARTS), "p.");
    expect(Buffer.from(found?.value ?? []).toString()).to.equal("one two three");
    expect(found).to.include({ parts: 3, isGapped: false });
    expect((await readNumbered(keysOf(PARTS), "p.", { first: 1 }))?.parts).to.equal(2);
    expect(await readNumbered(keysOf({ "p.1": "two" }), "p.")).to.equal(undefined);
  });

  it("tells of a part behind the gap", async () => {
    const found = await readNumbered(keysOf({ ...PARTS, "p.4": "old" }), "p.");
    expect(found).to.include({ parts: 3, isGapped: true });
  });

  it("stops at the most bytes", async () => {
    expect((await readNumbered(keysOf(PARTS), "p.", { maxBytes: 13 }))?.parts).to.equal(3);
    expect(await codeOf(readNumbered(keysOf(PARTS), "p.", { maxBytes: 12 }))).to.equal("ERR_VALUE_TOO_LONG");
  });
});
