import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { budget, isLong, note, patience, random, repeat, report, seed } from "../support/campaign.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { corpusOf, escaped, unescaped } from "./corpus.js";
import { mutated } from "./mutate.js";
import { attempt, type Target } from "./target.js";
import { TARGETS } from "./targets.js";

/** Seconds of changed inputs, and of guided ones in the long form, for each target. */
const SECONDS = { changed: 0.08, guided: 4 };
/** Exit code of `npm run fuzz` where the guided engine cannot be had. */
const NO_ENGINE = 3;
/** It and its C library may have to be fetched. */
const PREPARE_MS = 600_000;

/** Functions that take outside bytes apart are named so. */
const DECODER = /^export (?:async )?(?:function\*? ((?:decode|parse)\w*)|class (\w*(?:Decoder|Reader))\b)/gm;
/** What no target calls by its name, and why. */
const EXEMPT = new Map([["parseChannel", "takes what the user names, and looks for it on the machine"]]);

async function feed(target: Target, data: Uint8Array): Promise<void> {
  try {
    await attempt(target, data);
  } catch (error) {
    const { message, cause } = error as Error;
    const line = escaped(data);
    throw new Error(`${target.name}: ${message}\n  add to test/fuzz/corpus/${target.name}.txt:\n${line}`, {
      cause,
    });
  }
}

describe("fuzzing", () => {
  let inputs = 0;

  after(() => {
    report("fuzz", { targets: TARGETS.length, inputs, findings: 0 });
  });

  for (const target of TARGETS) {
    it(`${target.name} keeps its promises for its corpus, and for inputs like it`, async function () {
      const corpus = corpusOf(target);
      for (const data of corpus) await feed(target, data);
      const choice = random(seed());
      this.timeout(60_000);
      inputs += corpus.length;
      inputs += await repeat(
        budget(SECONDS.changed, SECONDS.changed),
        () => feed(target, mutated(corpus, choice)),
        10,
      );
    });
  }

  it("has a target for every decoder", () => {
    const targets = sources("test/fuzz/targets").map((path) => readFileSync(join(ROOT, path), "utf8"));
    const missing = [...sources("src"), ...sources("providers")].flatMap((path) =>
      [...readFileSync(join(ROOT, path), "utf8").matchAll(DECODER)]
        .map(([, name, reader]) => name ?? reader ?? "")
        .filter(
          (name) => !EXEMPT.has(name) && !targets.some((text) => new RegExp(`\\b${name}\\b`).test(text)),
        )
        .map((name) => `${path}: ${name}`),
    );
    expect(missing).to.deep.equal([]);
  });

  it("has no two targets of one name, and no corpus without a target", () => {
    const names = TARGETS.map(({ name }) => name);
    expect(new Set(names).size).to.equal(names.length);
    const corpora = readdirSync(join(ROOT, "test/fuzz/corpus")).map((name) => name.replace(/\.txt$/, ""));
    expect(corpora.filter((name) => !names.includes(name))).to.deep.equal([]);
  });

  it("reads the inputs of a corpus as they were written", () => {
    const choice = random(7);
    for (const bytes of [
      Buffer.from("#a\\x41\n"),
      Buffer.alloc(40),
      Buffer.from("\\\\\\\\\\\\\\\\\\"),
      choice.bytes(500),
    ])
      expect(unescaped(escaped(bytes))).to.deep.equal(Buffer.from(bytes));
  });

  if (isLong)
    describe("guided by coverage", () => {
      before(function () {
        this.timeout(PREPARE_MS);
        const { status, stderr } = guided(["--prepare"]);
        if (status === NO_ENGINE) pending(this, lastLine(stderr));
        expect(status, stderr).to.equal(0);
      });

      it("every target keeps its promises", function () {
        const seconds = budget(SECONDS.guided, SECONDS.guided);
        this.timeout(patience(seconds * TARGETS.length));
        const { status, stdout, stderr } = guided(["--seconds", String(seconds), "--seed", String(seed())]);
        for (const line of stdout.trim().split("\n")) note(line);
        expect(status, stderr).to.equal(0);
      });
    });
});

/** Runs `npm run fuzz` without its building. */
function guided(args: readonly string[]): {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
} {
  return spawnSync(process.execPath, ["scripts/fuzz/main.mjs", ...args], { cwd: ROOT, encoding: "utf8" });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

function sources(directory: string): string[] {
  return readdirSync(join(ROOT, directory), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(directory, name));
}
