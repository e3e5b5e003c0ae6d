import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { DirectoryTarget } from "../../src/tools/sync/directory-target.js";
import { environmentText } from "../../src/tools/sync/environment-text.js";
import { fileName, variableName } from "../../src/tools/sync/names.js";
import { budget, patience, type Random, random, repeat, report } from "../support/campaign.js";
import { shellReads, systemdReads } from "../support/environment-file.js";
import { codeOf } from "../support/memory-interface.js";

const SECONDS = budget(2, 60);
const BATCH = 250;
/** A disk takes its time: so many of a batch are written into a directory. */
const WRITTEN = 25;
/** What names and values are made of: whatever some reader of files, lines or shells takes for something. */
const PIECES = [
  ...[
    "..",
    ".",
    "/",
    "\\",
    "\0",
    "\n",
    "\r",
    "\r\n",
    "\t",
    " ",
    "=",
    '"',
    "'",
    "`",
    "$",
    "%",
    "#",
    ";",
    "~",
    "*",
    "!",
  ],
  ...[
    "%2e",
    "%2F",
    "%00",
    "$(id)",
    "`id`",
    "$" + "{PATH}",
    '"\nEVIL=1\n"',
    "'\nEVIL=1\n'",
    "\\\nEVIL=1",
    "export EVIL=1\n",
  ],
  ...[
    "PATH=/tmp",
    "LD_PRELOAD",
    "../../etc/passwd",
    "-rf",
    "CON",
    "a",
    "Z",
    "0",
    "_",
    "-",
    "é",
    "ß",
    "\u0131",
    "漢",
    "😀",
  ],
  ...[
    "\u2028EVIL=1",
    "\u0085EVIL=1",
    "\v",
    "\f",
    "\u001b[2J",
    "\u007f",
    "\ufeff",
    "\u202e",
    "\ufffd",
    "\ufffe",
    "x".repeat(90),
  ],
];

function hostile(own: Random, most: number): string {
  return Array.from({ length: own.below(most) }, () => own.pick(PIECES)).join("");
}

function hostileBytes(own: Random): Buffer {
  const bytes = Buffer.from(hostile(own, 8));
  return own() < 0.05 ? Buffer.concat([bytes, own.bytes(3)]) : bytes;
}

/** What no file of variables can hold. */
const isRefused = (value: Buffer): boolean =>
  value.includes(0) ||
  !value.equals(Buffer.from(value.toString())) ||
  /\p{Noncharacter_Code_Point}/u.test(value.toString());

describe("hostile names and values", function () {
  this.timeout(patience(SECONDS));

  it("forge no line of a file, leave no directory, and come out as they went in", async () => {
    const place = mkdtempSync(join(tmpdir(), "pvbus-hostile-"));
    const own = random();
    const done = { names: 0, "refused values": 0, "read by a shell": 0, files: 0 };
    try {
      mkdirSync(join(place, "in/d"), { recursive: true });
      writeFileSync(join(place, "in/canary"), "unharmed");
      const batches = await repeat(SECONDS, async (round) => {
        const content = new Map<string, Buffer>();
        for (let left = BATCH; left > 0; left--, done.names++)
          content.set(hostile(own, 6), hostileBytes(own));
        checkFileNames([...content.keys()]);
        const kept = withoutCollisions(content);
        for (const [name, value] of kept) {
          if (!isRefused(value)) continue;
          done["refused values"]++;
          kept.delete(name);
          expect(await codeOf((async () => environmentText(new Map([[name, value]])))())).to.equal(
            "ERR_VALUE_INVALID",
          );
        }
        const text = environmentText(kept);
        const expected = new Map([...kept].map(([name, value]) => [variableName(name), value.toString()]));
        expect(sorted(systemdReads(text))).to.deep.equal(sorted(expected));
        for (const line of text.split(/[\p{Cc}\u2028\u2029]/u)) {
          const variable = /^\s*(?:export\s+)?"?([A-Za-z_]\w*)=/.exec(line)?.[1];
          if (variable !== undefined) expect([line, expected.has(variable)]).to.deep.equal([line, true]);
        }
        // A start of a shell takes longer than all else.
        if (round % 20 === 0) {
          // These are the shell's own, or the loader's, who would say what it thinks of them.
          const isOther = (name: string): boolean => !/^(?:PATH|IFS|PWD|_|LD_.*)$/.test(variableName(name));
          const safe = new Map([...kept].filter(([name]) => isOther(name)));
          const names = [...safe.keys()].map(variableName);
          expect(sorted(shellReads(environmentText(safe), names))).to.deep.equal(
            sorted(new Map([...safe].map(([name, value]) => [variableName(name), value.toString()]))),
          );
          done["read by a shell"] += names.length;
        }
        done.files += await checkDirectory(place, new Map([...content].slice(0, WRITTEN)));
      });
      report("hostile names", { batches, ...done });
    } finally {
      rmSync(place, { recursive: true });
    }
  });
});

/** Distinct keys have distinct names, none of which is a way out or hidden. */
function checkFileNames(names: readonly string[]): void {
  const made = new Map<string, string>();
  for (const name of names) {
    let file: string;
    try {
      file = fileName(name);
    } catch (error) {
      expect(error).to.have.property("code", "ERR_KEY_TOO_LONG");
      continue;
    }
    expect(file, JSON.stringify(name)).to.match(/^(?!\.)[A-Za-z0-9._%-]*$/);
    expect(decodeURIComponent(file), file).to.equal(name);
    expect(made.get(file) ?? name).to.equal(name);
    made.set(file, name);
  }
}

function withoutCollisions(content: ReadonlyMap<string, Buffer>): Map<string, Buffer> {
  const variables = new Set<string>();
  const kept = new Map<string, Buffer>();
  for (const [name, value] of content) {
    const variable = variableName(name);
    if (variable === "" || variables.has(variable)) continue;
    variables.add(variable);
    kept.set(name, value);
  }
  return kept;
}

/** Writes into a directory, and looks that all of it lies there and nothing elsewhere. @returns how many files */
async function checkDirectory(place: string, content: ReadonlyMap<string, Buffer>): Promise<number> {
  const directory = join(place, "in/d");
  const fitting = new Map(
    [...content].filter(([name]) => name !== "" && encodeURIComponent(name).length < 200),
  );
  {
    using target = new DirectoryTarget(directory);
    await target.write(fitting);
  }
  const names = readdirSync(directory);
  expect(names.length).to.equal(fitting.size);
  for (const name of names) {
    expect(lstatSync(join(directory, name)).isFile(), name).to.equal(true);
    const value = fitting.get(decodeURIComponent(name));
    expect(value && readFileSync(join(directory, name)).equals(value), name).to.equal(true);
  }
  expect(readdirSync(place)).to.deep.equal(["in"]);
  expect(readdirSync(join(place, "in")).sort()).to.deep.equal([".d.pvbus-sync", "canary", "d"]);
  expect(readFileSync(join(place, "in/canary"), "utf8")).to.equal("unharmed");
  return names.length;
}

function sorted(values: ReadonlyMap<string, string>): [string, string][] {
  return [...values].sort(([a], [b]) => (a < b ? -1 : 1));
}
