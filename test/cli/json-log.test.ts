import { expect } from "chai";
import { jsonLogger } from "../../src/cli/io/log.js";

describe("jsonLogger", () => {
  it("writes one object a line, whatever the fields hold", () => {
    const lines: string[] = [];
    const sink = { write: (text: string | Uint8Array) => lines.push(String(text)) };
    const logger = jsonLogger(sink, { now: () => 0 }, false);
    logger.info("an event", { guest: "a\nb\u202e", big: 1n, failure: new Error("why") });
    logger.debug("unseen");
    jsonLogger(sink, { now: () => 0 }, true).debug("seen");
    expect(lines).to.have.length(2);
    expect(lines[0]).to.match(
      /^\{"time":"1970-01-01T00:00:00\.000Z","level":"info","event":"an event",.*\}\n$/,
    );
    expect(lines[0]).to.not.include("\u202e");
    expect(JSON.parse(lines[0] as string)).to.include({ guest: "a\nb\u202e", big: "1", failure: "why" });
  });

  it("goes on when nothing can be written", () => {
    const sink = {
      write: () => {
        throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
      },
    };
    jsonLogger(sink, { now: () => 0 }, true).error("an event");
  });
});
