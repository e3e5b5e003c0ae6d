/** Runs mocha suites inside a machine and tells each outcome in a line of its own: `node main.js SUITE…`. */
import { readFileSync } from "node:fs";
import { arch, release } from "node:os";
import { resolve } from "node:path";
import Mocha from "mocha";
import { say } from "./say.js";

say({ event: "fact", name: "kernel", value: `${release()} ${arch()}` });
say({ event: "fact", name: "node", value: process.version });
const pvbus = JSON.parse(readFileSync(new URL("../../../../package.json", import.meta.url), "utf8")) as {
  version: string;
};
say({ event: "fact", name: "pvbus", value: pvbus.version });
const mocha = new Mocha({ timeout: 180_000, reporter: "spec", color: false });
for (const file of process.argv.slice(2)) mocha.addFile(resolve(import.meta.dirname, file));
await mocha.loadFilesAsync();
const runner = mocha.run((failures) => {
  process.exitCode = failures === 0 ? 0 : 1;
  // What a failed test left open must not hold up the machine.
  setTimeout(() => process.exit(), 2_000).unref();
});
runner.on("pass", (test) => say({ event: "pass", title: test.fullTitle() }));
runner.on("pending", (test) => say({ event: "pending", title: test.fullTitle() }));
runner.on("fail", (test, error: Error) =>
  say({ event: "fail", title: test.fullTitle(), why: error.stack ?? error.message }),
);
