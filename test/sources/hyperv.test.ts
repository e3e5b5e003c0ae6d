import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { ROOT } from "../support/pools.js";

const FOLDER = join(ROOT, "providers/hyperv");

/**
 * What the provider takes of the file system, by source. All of it is used on names that `host.files` holds, on descriptors, or on
 * names that `src/base/host/ownership.ts` has shown to be nobody else's; whoever adds to this list shows the same of the new one.
 */
const FILE_SYSTEM: Readonly<Record<string, readonly string[]>> = {
  "diagnose.ts": ["accessSync"],
  "kvpd/device.ts": ["closeSync", "fstatSync", "openSync", "writeSync"],
  "kvpd/own-files.ts": ["mkdirSync", "realpathSync"],
  // Its functions come from a test, or from here; it uses them on names by way of descriptor.ts alone.
  "transport/files/file.ts": ["nodeFs"],
  "transport/files/notify.ts": ["lstatSync", "realpathSync", "statSync", "watch"],
};

/** Names for messages, and the arguments of scripts that open their own files. */
const PLAIN_PATHS = [
  "diagnose.ts",
  "kvpd/device.ts",
  "kvpd/own-files.ts",
  "kvpd/scripts.ts",
  "transport/files/open.ts",
];

function importedFunctions(source: string): string[] {
  const names: string[] = [];
  for (const [, clause = ""] of source.matchAll(
    /^import (?!type)([^;]*?) from "(?:node:)?fs(?:\/promises)?";/gms,
  )) {
    for (const name of clause.replace(/[{}]/g, "").split(",")) {
      const trimmed = name.trim();
      if (trimmed !== "" && trimmed !== "constants" && !trimmed.startsWith("type ")) names.push(trimmed);
    }
  }
  return names.sort();
}

describe("the Hyper-V provider's way to files", () => {
  const sources = new Map(
    readdirSync(FOLDER, { recursive: true })
      .map((name) => String(name).replaceAll("\\", "/"))
      .filter((name) => name.endsWith(".ts") && !name.startsWith("testing/"))
      .map((name) => [name, readFileSync(join(FOLDER, name), "utf8")]),
  );

  it("is host.files: only what is known to hold its names calls the file system itself", () => {
    const found = [...sources]
      .map(([name, source]) => [name, importedFunctions(source)] as const)
      .filter(([, names]) => names.length > 0);
    expect(Object.fromEntries(found)).to.deep.equal(FILE_SYSTEM);
  });

  it("is never host.path, which is for messages", () => {
    const found = [...sources].filter(([, source]) => /\bhost\.path\(/.test(source)).map(([name]) => name);
    expect(found.sort()).to.deep.equal(PLAIN_PATHS);
  });
});
