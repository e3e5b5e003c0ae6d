// One file's tests in mocha, without mocha's command line: loading that takes longer than most files' tests, and so do source
// maps for every module, where only a failure's stack needs some (see test-reporter.mjs).
//
//   node scripts/test-file.mjs FILE EVENTS TIMEOUT_MS [GREP]
import { resolve } from "node:path";
import Mocha from "mocha";
import TestReporter from "./test-reporter.mjs";

const [file = "", events, timeout, grep] = process.argv.slice(2);
const mocha = new Mocha({
  timeout: Number(timeout),
  forbidOnly: true,
  reporter: TestReporter,
  reporterOption: { events },
  grep,
});
mocha.addFile(resolve(file));
await mocha.loadFilesAsync();
mocha.run((failures) => {
  // A file that sets the code itself, and what ends later, do not hide them.
  process.on("exit", () => {
    process.exitCode = Math.min(failures, 255);
  });
});
