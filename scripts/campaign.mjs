// Runs one campaign by hand, for as long or as often as is asked:
//
//   npm run campaign                                         lists them
//   npm run campaign NAME -- [--seconds N | --count N] [--seed N] [--grep TEXT]
//
// NAME is a part of the path of its file. Without --seconds and --count it is the long form that CI runs.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string" },
    count: { type: "string" },
    seed: { type: "string" },
    grep: { type: "string" },
  },
});

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const all = readdirSync("dist/test", { recursive: true })
  .filter((name) => name.endsWith(".test.js"))
  .filter((name) => readFileSync(`dist/test/${name}`, "utf8").includes("/support/campaign.js"))
  .sort();
const [wanted] = positionals;
const exact = all.filter((name) => name === `campaigns/${wanted}.test.js`);
const found = exact.length > 0 ? exact : all.filter((name) => wanted !== undefined && name.includes(wanted));
if (found.length !== 1) {
  const problem = found.length > 1 ? `"${wanted}" is a part of several names` : "name one campaign";
  console.error(
    `${problem}:\n${(found.length > 1 ? found : all).map((name) => `  ${name.replace(/\.test\.js$/, "")}`).join("\n")}`,
  );
  process.exit(2);
}

/** By hand a campaign may take a night: the limit is far above what was asked for, and a day where a count decides. */
const limit = values.count === undefined ? 600 + 4 * Number(values.seconds ?? 600) : 86_400;
const { status } = spawnSync(
  process.execPath,
  [
    "scripts/test.mjs",
    ...["--long", "--limit", String(limit)],
    ...(values.grep === undefined ? [] : ["--grep", values.grep]),
    `dist/test/${found[0]}`,
  ],
  {
    stdio: "inherit",
    env: {
      ...process.env,
      ...(values.seconds === undefined ? {} : { PVBUS_SECONDS: values.seconds }),
      ...(values.count === undefined ? {} : { PVBUS_COUNT: values.count }),
      ...(values.seed === undefined ? {} : { PVBUS_SEED: values.seed }),
    },
  },
);
process.exitCode = status ?? 1;
