import assert from "node:assert/strict";
import { PvbusError } from "../../base/errors.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { settle } from "./expect.js";
import type { AddClause, Scope } from "./scope.js";
import { drained, type Session } from "./session.js";
import type { ConformanceTrait } from "./subject.js";
import { type Followed, followed } from "./watching.js";

const TIMER_MS = 10;
/** So long after its beginning a timer of {@link TIMER_MS} must have fired, and a loop whose signal it fires be over. */
const BOUND_MS = 50;
/** A loop that nothing ends is given up then. */
const GIVE_UP_MS = 300;
/** One attempt may be held up by the operating system; a store that starves others is late in each. */
const ATTEMPTS = 10;
/** Keys that a loop of insertions goes through where nothing can be deleted. */
const INSERTED = 16;

type Step = (signal: AbortSignal | undefined) => Promise<unknown>;

interface Loop {
  readonly name: string;
  readonly need: readonly ConformanceTrait[];
  /** Its calls fail anyway, whatever becomes of the signal. */
  readonly fails?: boolean;
  readonly prepare: (scope: Scope, session: Session) => Promise<Step> | Step;
}

const LOOPS: readonly Loop[] = [
  {
    name: "reads",
    need: ["read"],
    prepare: async (scope, { face }) => {
      const key = scope.anyKey();
      if (scope.canWrite) await scope.soon(face.write(key, "there"), "write");
      return (signal) => face.read(key, { signal });
    },
  },
  {
    name: "reads that find nothing",
    need: ["read", "writableKeys"],
    prepare: (scope, { face }) => {
      const key = scope.key();
      return (signal) => face.read(key, { signal });
    },
  },
  {
    name: "writes",
    need: ["write"],
    prepare: (scope, { face }) => {
      const key = scope.key();
      let round = 0;
      return (signal) => face.write(key, `round ${round++}`, { signal });
    },
  },
  {
    name: "insertions",
    need: ["write"],
    prepare: (scope, { face }) => {
      const keys = Array.from({ length: INSERTED }, () => scope.key());
      let round = 0;
      return async (signal) => {
        const key = keys[round++ % INSERTED] as string;
        await face.write(key, "new", { signal });
        if (scope.has("delete")) await face.delete(key, { signal });
      };
    },
  },
  {
    name: "deletions that find nothing",
    need: ["delete", "writableKeys"],
    prepare: (scope, { face }) => {
      const key = scope.key();
      return (signal) => face.delete(key, { signal });
    },
  },
  {
    name: "listings",
    need: ["list"],
    prepare:
      ({ keys: { prefix = "" } }, { face }) =>
      (signal) =>
        drained(face.list(prefix, { signal })),
  },
  {
    name: "calls that fail at once",
    need: [],
    fails: true,
    prepare:
      (_, { face }) =>
      () =>
        settle(() => face.read("")),
  },
  {
    name: "refused writes",
    need: ["write", "readOnly"],
    fails: true,
    prepare: (scope, { face }) => {
      const [key = ""] = scope.keys.readOnly ?? [];
      return () => settle(() => face.write(key, "v"));
    },
  },
];

/** Clauses on what else the process does meanwhile: no loop of calls keeps it from running. */
export function fairnessClauses(clause: AddClause): void {
  for (const { name, need, fails, prepare } of LOOPS) {
    clause(`lets timers fire beside an endless loop of ${name}`, need, async (scope, session) => {
      const step = await prepare(scope, session);
      const what = `a timer of ${TIMER_MS} ms beside ${name}`;
      await inTime(scope, what, () => timerBeside(() => step(undefined)));
    });

    if (fails !== true)
      clause(`ends an endless loop of ${name} at its signal`, need, async (scope, session) => {
        const step = await prepare(scope, session);
        await inTime(scope, `the end of ${name}`, () => endOf(step));
      });
  }

  clause("lets timers fire beside a watch of endless changes", ["write", "watch"], async (scope, session) => {
    await inTime(scope, `a timer of ${TIMER_MS} ms beside a watch`, async () => {
      let tookMs = GIVE_UP_MS;
      await changing(scope, session, async (change) => {
        tookMs = await timerBeside(change);
      });
      return tookMs;
    });
  });

  clause("ends a watch of endless changes at its signal", ["write", "watch"], async (scope, session) => {
    await inTime(scope, "the end of a watch", async () => {
      let endedMs = GIVE_UP_MS;
      await changing(scope, session, async (change, { abort, following }) => {
        const began = monotonicMs();
        let isOver = false;
        setTimeout(() => abort.abort(), TIMER_MS);
        const end = following.then(() => {
          endedMs = monotonicMs() - began;
          isOver = true;
        });
        while (!isOver && monotonicMs() - began < GIVE_UP_MS) await change();
        await end;
      });
      return endedMs;
    });
  });
}

/** Fails when the best of many attempts took too long, even for the best that an idle process saw meanwhile. */
async function inTime(scope: Scope, what: string, attempt: () => Promise<number>): Promise<void> {
  const seen: number[] = [];
  let idleMs = Number.POSITIVE_INFINITY;
  for (let count = 0; count < ATTEMPTS; count++) {
    const tookMs = await scope.soon(attempt(), what);
    if (tookMs <= BOUND_MS) return;
    seen.push(Math.round(tookMs));
    idleMs = Math.min(idleMs, await timerBeside(() => new Promise(setImmediate)));
  }
  if (Math.min(...seen) <= BOUND_MS + idleMs - TIMER_MS) return;
  assert.fail(`${what} comes within ${BOUND_MS} ms in none of ${ATTEMPTS} attempts, but in ${seen} ms`);
}

/** Returns how long a timer takes to fire while steps are done. */
async function timerBeside(step: () => Promise<unknown>): Promise<number> {
  const began = monotonicMs();
  let isOver = false;
  const timer = new Promise<number>((resolve) => {
    setTimeout(() => {
      isOver = true;
      resolve(monotonicMs() - began);
    }, TIMER_MS);
  });
  // By the clock too: no timer ever fires beside a store that keeps the event loop.
  while (!isOver && monotonicMs() - began < GIVE_UP_MS) await step();
  return timer;
}

/** Returns how long a loop goes on that a timer's signal ends. */
async function endOf(step: Step): Promise<number> {
  const abort = new AbortController();
  const began = monotonicMs();
  const timer = setTimeout(() => abort.abort(), TIMER_MS);
  try {
    while (monotonicMs() - began < GIVE_UP_MS) await step(abort.signal);
  } catch (error) {
    if (!PvbusError.is(error) || error.code !== "ERR_ABORTED") throw error;
  } finally {
    clearTimeout(timer);
  }
  return monotonicMs() - began;
}

/** Follows a key in one session while another one can change it. */
async function changing(
  scope: Scope,
  session: Session,
  act: (change: () => Promise<void>, watch: Followed) => Promise<void>,
): Promise<void> {
  const key = scope.key();
  let round = 0;
  await followed({ scope, session, prefix: key }, async (watch) => {
    await act(() => watch.writer.face.write(key, `round ${round++}`), watch);
  });
}
