// Fuzzes the decoders, guided by what of their code each input reaches:
//
//   npm run fuzz                                  every target, 30 seconds each
//   npm run fuzz -- TARGET ... [--seconds N | --runs N] [--seed N] [--keep BYTES]
//   npm run fuzz -- --list | --prepare
//
// --prepare only brings the fuzzer. --keep adds the smallest inputs that reached something new to the target's corpus, so many bytes of them. Ends with 1
// when a target broke its promises, and with 3 where the fuzzer cannot be had.
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { corpusOf, escaped } from "../../dist/test/fuzz/corpus.js";
import { MODULES, TARGETS } from "../../dist/test/fuzz/targets.js";
import { fuzzer } from "./engine.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const ENTRY = fileURLToPath(new URL("entry.mjs", import.meta.url));
/** Only this code's paths guide: the decoders' own, not those of the targets. */
const GUIDING = ["dist/src", "dist/providers"];
const NO_ENGINE = 3;
/** libFuzzer's limits: a call that does not end, memory that only grows, and inputs before they are repeated. */
const LIMITS = ["-timeout=20", "-rss_limit_mb=3000", "-max_len=4096"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    list: { type: "boolean", default: false },
    prepare: { type: "boolean", default: false },
    seconds: { type: "string", default: "30" },
    runs: { type: "string" },
    seed: { type: "string" },
    keep: { type: "string" },
  },
});
if (values.list) {
  console.log(TARGETS.map(({ name }) => name).join("\n"));
  process.exit();
}
const numbers = [values.seconds, values.runs ?? "1", values.seed ?? "1", values.keep ?? "0"];
if (!numbers.every((text) => /^\d+$/.test(text)))
  usage("--seconds, --runs, --seed and --keep take whole numbers");
const targets = positionals.length === 0 ? TARGETS : positionals.map(named);

let command;
try {
  command = fuzzer();
} catch (error) {
  console.error(`the guided fuzzer cannot be had: ${error.message}`);
  process.exit(NO_ENGINE);
}
if (values.prepare) process.exit();
// libFuzzer takes 0 for "choose one".
const seed = (Number(values.seed ?? randomInt(2 ** 31)) % (2 ** 31 - 1)) + 1;
if (values.seed === undefined) console.log(`--seed ${seed - 1} repeats these choices`);
let failed = 0;
let total = 0;
for (const target of targets) total += fuzzed(target);
if (targets.length > 1) console.log(`${targets.length} targets, ${total} inputs, ${failed} findings`);
process.exitCode = failed > 0 ? 1 : 0;

function named(name) {
  return TARGETS.find((each) => each.name === name) ?? usage(`there is no target ${name}; see --list`);
}

function usage(message) {
  console.error(message);
  process.exit(2);
}

/** Runs one target; gives the number of inputs. */
function fuzzed(target) {
  const place = mkdtempSync(join(tmpdir(), "pvbus-fuzz-"));
  try {
    const corpus = join(place, "corpus");
    mkdirSync(corpus);
    const before = corpusOf(target).map((bytes, at) => {
      writeFileSync(join(corpus, `seed-${at}`), bytes);
      return `seed-${at}`;
    });
    const [program, ...args] = command;
    const [module] = [...MODULES].find(([, targets]) => targets.includes(target));
    const limit = values.runs === undefined ? `-max_total_time=${values.seconds}` : `-runs=${values.runs}`;
    const { stderr, status, error } = spawnSync(
      program,
      [
        ...args,
        ...[ENTRY, corpus, ...(target.isAsync === true ? [] : ["--sync"])],
        ...GUIDING.flatMap((path) => ["-i", path]),
        // They know of shells, SQL and the like, which decoders have none of.
        ...["-e", "node_modules", "--disableBugDetectors", ".*"],
        ...["--", limit, `-seed=${seed}`, `-artifact_prefix=${place}/`, ...LIMITS],
      ],
      {
        cwd: ROOT,
        encoding: "utf8",
        maxBuffer: 1 << 28,
        env: { ...process.env, TMPDIR: place, PVBUS_FUZZ_TARGET: target.name, PVBUS_FUZZ_MODULE: module },
      },
    );
    if (error !== undefined) throw error;
    const progress = [...stderr.matchAll(/^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/gm)].at(-1) ?? [];
    const [, runs = "0", edges = "0", features = "0", kept = "0"] = progress;
    console.log(`${target.name}: ${runs} inputs, ${edges} edges, ${features} features, ${kept} inputs kept`);
    if (status !== 0) tell(target, place, stderr);
    else if (values.keep !== undefined) keep(target, corpus, before, Number(values.keep));
    return Number(runs);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

function tell({ name }, place, stderr) {
  failed++;
  const [artifact] = readdirSync(place).filter((each) => /^(crash|timeout|oom|slow-unit|leak)-/.test(each));
  const why = stderr.split("\n").filter((line) => !/^#\d+|^INFO:/.test(line));
  console.error(why.slice(0, 40).join("\n"));
  if (artifact === undefined) return;
  console.error(`add to test/fuzz/corpus/${name}.txt:\n${escaped(readFileSync(join(place, artifact)))}`);
}

function keep({ name }, corpus, before, most) {
  const found = readdirSync(corpus)
    .filter((each) => !before.includes(each))
    .map((each) => escaped(readFileSync(join(corpus, each))))
    .sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  let bytes = 0;
  const lines = found.filter((line) => {
    bytes += line.length + 1;
    return line !== "" && bytes <= most;
  });
  if (lines.length > 0) appendFileSync(join(ROOT, `test/fuzz/corpus/${name}.txt`), `${lines.join("\n")}\n`);
}
