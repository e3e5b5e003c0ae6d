// What scripts/test.mjs reads: mocha's spec output for people, and beside it one line of JSON for each event, written at
// once, so that a process which hangs or dies tells in which test it did. Mocha's own JSON reporter writes at the end.
import { appendFileSync } from "node:fs";
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

export default class TestReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
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
