// What scripts/test.mjs reads: mocha's spec output for people, and beside it one line of JSON for each event, written at
// once, so that a process which hangs or dies tells in which test it did. Mocha's own JSON reporter writes at the end.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { dirname, resolve } from "node:path";
import Mocha from "mocha";

const {
  EVENT_TEST_BEGIN,
  EVENT_HOOK_BEGIN,
  EVENT_TEST_PASS,
  EVENT_TEST_FAIL,
  EVENT_TEST_PENDING,
  EVENT_RUN_END,
} = Mocha.Runner.constants;

/** Returns what a pending test says is missing: test/support/pending.ts notes it, or a title holds it. */
function missing(test) {
  const title = /\[pending: ([^\]]+)\]/.exec(test.fullTitle())?.[1];
  for (let each = test; each !== undefined; each = each.parent) if (each.missing) return each.missing;
  return title;
}

const PLACE = /(?:file:\/\/)?(\/[^\s():]+\.js):(\d+):(\d+)/g;

/** Returns a stack with the places in the sources, where there are maps to them. */
function inSources(stack) {
  return stack.replace(PLACE, (whole, path, line, column) => {
    if (!existsSync(`${path}.map`)) return whole;
    const map = new SourceMap(JSON.parse(readFileSync(`${path}.map`, "utf8")));
    const { originalSource, originalLine, originalColumn } = map.findEntry(line - 1, column - 1);
    if (originalSource === undefined) return whole;
    return `${resolve(dirname(path), originalSource)}:${originalLine + 1}:${originalColumn + 1}`;
  });
}

export default class TestReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.on(EVENT_TEST_FAIL, (_, error) => {
      if (typeof error?.stack === "string") error.stack = inSources(error.stack);
    });
    const { events } = options.reporterOptions ?? {};
    if (events === undefined) return;
    const tell = (event, more) => appendFileSync(events, `${JSON.stringify({ event, ...more })}\n`);
    const title = (test) => test.titlePath().join(" › ");
    runner.on(EVENT_TEST_BEGIN, (test) => tell("begin", { title: title(test) }));
    runner.on(EVENT_HOOK_BEGIN, (hook) => tell("begin", { title: title(hook) }));
    runner.on(EVENT_TEST_PASS, (test) => tell("pass", { title: title(test), ms: test.duration }));
    runner.on(EVENT_TEST_FAIL, (test, error) =>
      tell("fail", { title: title(test), why: String(error?.message ?? error) }),
    );
    runner.on(EVENT_TEST_PENDING, (test) => tell("pending", { title: title(test), why: missing(test) }));
    runner.on(EVENT_RUN_END, () => tell("end"));
  }
}
