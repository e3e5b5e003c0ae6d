import assert from "node:assert/strict";
import { PvbusError } from "../../base/errors.js";
import type { Clauses } from "./clauses.js";
import { settle } from "./expect.js";
import type { Scope } from "./scope.js";
import { drained, type Session } from "./session.js";
import type { ConformanceTrait } from "./subject.js";

const TIMER_MS = 10;
/** So long after its beginning a timer of {@link TIMER_MS} must have fired, and a loop whose signal it fires be over. */
const BOUND_MS = 50;
/** A loop that nothing ends is given up then. */
const GIVE_UP_MS = 300;
/** One attempt may be held up by the operating system; a store that starves others is late in each. */
const ATTEMPTS = 10;
/** Keys that a loop of insertions goes through where nothing can be deleted. */
const INSERTED = 16;

/** One step of a loop; it gets the signal that is to end the loop. */
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
      if (scope.has("write") && scope.keys.writable) await scope.soon(face.write(key, "there"), "write");
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
    prepare: (scope, { face }) => {
      const { prefix = "" } = scope.keys;
      return (signal) => drained(face.list(prefix, { signal }));
    },
  },
  {
    name: "calls that fail at once",
    need: [],
    fails: true,
    prepare: (_, { face }) => {
      return () => settle(() => face.read(""));
    },
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
export function fairnessClauses(clauses: Clauses): void {
  clauses.group("fairness", () => {
    for (const { name, need, fails, prepare } of LOOPS) {
      clauses.clause(`lets timers fire beside an endless loop of ${name}`, need, async (scope) => {
        const step = await prepare(scope, await scope.session());
        await inTime(scope, `a timer of ${TIMER_MS} ms beside ${name}`, () =>
          timerBeside(() => step(undefined)),
        );
      });

      if (fails !== true)
        clauses.clause(`ends an endless loop of ${name} at its signal`, need, async (scope) => {
          const step = await prepare(scope, await scope.session());
          await inTime(scope, `the end of ${name}`, () => endOf(step));
        });
    }

    clauses.clause(
      "lets timers fire beside a watch of endless changes",
      ["write", "watch"],
      async (scope) => {
        await inTime(scope, `a timer of ${TIMER_MS} ms beside a watch`, async () => {
          let tookMs = GIVE_UP_MS;
          await watched(scope, async (change) => {
            tookMs = await timerBeside(change);
          });
          return tookMs;
        });
      },
    );

    clauses.clause("ends a watch of endless changes at its signal", ["write", "watch"], async (scope) => {
      await inTime(scope, "the end of a watch", async () => {
        let endedMs = GIVE_UP_MS;
        await watched(scope, async (change, abort, following) => {
          const began = performance.now();
          let isOver = false;
          setTimeout(() => abort.abort(), TIMER_MS);
          const end = following.then(() => {
            endedMs = performance.now() - began;
            isOver = true;
          });
          while (!isOver && performance.now() - began < GIVE_UP_MS) await change();
          await end;
        });
        return endedMs;
      });
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
  const began = performance.now();
  let isOver = false;
  const timer = new Promise<number>((resolve) => {
    setTimeout(() => {
      isOver = true;
      resolve(performance.now() - began);
    }, TIMER_MS);
  });
  // By the clock too: no timer ever fires beside a store that keeps the event loop.
  while (!isOver && performance.now() - began < GIVE_UP_MS) await step();
  return timer;
}

/** Returns how long a loop goes on that a timer's signal ends. */
async function endOf(step: Step): Promise<number> {
  const abort = new AbortController();
  const began = performance.now();
  const timer = setTimeout(() => abort.abort(), TIMER_MS);
  try {
    while (performance.now() - began < GIVE_UP_MS) await step(abort.signal);
  } catch (error) {
    if (!PvbusError.is(error) || error.code !== "ERR_ABORTED") throw error;
  } finally {
    clearTimeout(timer);
  }
  return performance.now() - began;
}

/** Follows a key in one session while another one can change it. */
async function watched(
  scope: Scope,
  act: (change: () => Promise<void>, abort: AbortController, following: Promise<void>) => Promise<void>,
): Promise<void> {
  const watcher = await scope.session();
  const writer = await scope.another(watcher);
  const key = scope.key();
  const abort = new AbortController();
  let armed = (): void => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const follow = async (): Promise<void> => {
    for await (const _ of watcher.face.watch(key, { signal: abort.signal, ready: armed }));
  };
  const following = follow();
  following.catch(() => armed());
  let round = 0;
  try {
    await scope.soon(ready, "ready");
    await act(() => writer.face.write(key, `round ${round++}`), abort, following);
  } finally {
    abort.abort();
    await scope.soon(following, "the end of the watch");
  }
}
