import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";

const SOURCES = ["src", "providers"].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name)),
);

/** Who uses what a pattern finds. */
function usersOf(pattern: RegExp): string[] {
  return SOURCES.filter((path) => pattern.test(readFileSync(path, "utf8"))).sort();
}

describe("sources", () => {
  it("listen to signals through onAbort alone: one listener each, no warning, linear ends", () => {
    expect(SOURCES.length).to.be.greaterThan(200);
    expect(usersOf(/\.(add|remove)EventListener\(|\bonabort\b|once\([^)]*"abort"/)).to.deep.equal([
      "src/bus/abort.ts",
    ]);
    expect(usersOf(/setMaxListeners/)).to.deep.equal([]);
  });

  it("have no chain of promises that keeps every result before", () => {
    expect(usersOf(/this\.#\w+ = Promise\.allSettled/)).to.deep.equal([]);
  });
});
