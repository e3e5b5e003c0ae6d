import assert from "node:assert/strict";
import { Call } from "../../base/flow/call.js";
import { Notifier } from "../../base/flow/notifier.js";
import type { StoreChange } from "../../contract/store.js";
import { assertFailure, failed, type Outcome, settle } from "./expect.js";
import type { AddClause, Scope } from "./scope.js";
import { drained, hook, type Session } from "./session.js";

/** Clauses on `watch`. */
export function watchClauses(clause: AddClause): void {
  clause("sees what another session writes after ready", ["write", "watch"], async (scope, session) => {
    const key = scope.key();
    // A store that cannot enumerate cannot find new keys by itself: it follows those that it is told.
    const prefix = scope.has("list") ? scope.keys.prefix : key;
    await followed({ scope, session, prefix }, async ({ writer, seen }) => {
      for (const value of ["first", "second"]) {
        await scope.soon(writer.face.write(key, value), "write");
        await seen((change) => change.key === key && change.value === value);
      }
    });
  });

  clause("sees a removal as undefined", ["write", "delete", "watch"], async (scope, session) => {
    const key = scope.key();
    await followed({ scope, session }, async ({ writer, seen }) => {
      await scope.soon(writer.face.write(key, "short-lived"), "write");
      await seen((change) => change.key === key);
      await scope.soon(writer.face.delete(key), "delete");
      await seen((change) => change.key === key && change.value === undefined);
    });
  });

  clause("calls ready exactly once", ["watch"], async (scope, { store }) => {
    let calls = 0;
    const ready = (): void => void calls++;
    const watching = store.watch?.(scope.keys.prefix ?? "", new Call({ timeoutMs: 100 }), { ready });
    await scope.soon(drained(watching), "watch");
    assert.equal(calls, 1);
  });

  clause("keeps to the prefix", ["write", "watch", "writableKeys"], async (scope, session) => {
    const key = scope.key();
    await followed({ scope, session, prefix: key }, async ({ writer, seen, changes }) => {
      await scope.soon(writer.face.write(scope.key(), "elsewhere"), "write");
      await scope.soon(writer.face.write(key, "here"), "write");
      await seen((change) => change.key === key);
      assert.deepEqual([...new Set(changes.map((change) => change.key))], [key]);
    });
  });

  clause("ends without an error when the signal fires", ["watch"], async (scope, { store }) => {
    const abort = new AbortController();
    const options = { signal: abort.signal, timeoutMs: Number.POSITIVE_INFINITY };
    const watching = hook("watch", store, "", options);
    setTimeout(() => abort.abort(new Error("enough")), 20);
    await scope.soon(watching, "watch after the signal fired");
  });

  clause("ends without an error after timeoutMs", ["watch"], async (scope, { store }) => {
    await scope.soon(hook("watch", store, "", { timeoutMs: 20 }), "watch after timeoutMs");
  });

  clause("ends with ERR_DISCONNECTED when the store is closed", ["watch"], async (scope, { face }) => {
    const ready = new Notifier();
    const watching = scope.outcome(() => drained(face.watch("", { ready: ready.notify })), "watch");
    await ready.wait(scope.patience(), "ready", 0);
    await scope.soon(face.close(), "close");
    const outcome = await watching;
    assert.ok("error" in outcome, "the watch ended as if all were well");
    assertFailure(outcome.error, { codes: ["ERR_DISCONNECTED"] }, "watch");
  });

  clause("lets go when the loop ends early", ["write", "watch"], async (scope, watcher) => {
    const writer = await scope.session();
    for (let round = 0; round < 5; round++) {
      const key = scope.key();
      const prefix = scope.has("list") ? "" : key;
      await endedEarly(scope, watcher, prefix, () => writer.face.write(key, "x"));
    }
    await scope.soon(writer.face.write(scope.key(), "after"), "write after early ends");
  });
}

/** Takes one change out of a watch and ends it. */
export async function endedEarly(
  scope: Scope,
  { face }: Session,
  prefix: string,
  change: () => Promise<void> | void,
): Promise<void> {
  let changing: Promise<unknown> = Promise.resolve();
  const ready = (): void => {
    changing = settle(async () => change());
  };
  const watching = face.watch(prefix, { ready });
  const first = await scope.outcome(
    () => scope.soon(watching.next(), "the first change"),
    "the first change",
  );
  const outcome = (await changing) as Outcome<void> | undefined;
  if (outcome !== undefined && "error" in outcome) failed("a change beside a watch", outcome.error);
  if ("error" in first) throw first.error;
  assert.equal(first.value.done, false, "the watch ended before its first change");
  await scope.soon(watching.return(undefined), "the early end");
}

export interface Followed {
  readonly writer: Session;
  /** All changes so far; they may come late and joined. */
  readonly changes: readonly StoreChange[];
  readonly seen: (matches: (change: StoreChange) => boolean) => Promise<void>;
  readonly abort: AbortController;
  readonly following: Promise<void>;
}

/** Follows a prefix in one session while `act` changes things in another; the watch must end without an error. */
export async function followed(
  {
    scope,
    session,
    prefix = scope.keys.prefix ?? "",
  }: { scope: Scope; session: Session; prefix?: string | undefined },
  act: (followed: Followed) => Promise<void>,
): Promise<void> {
  const writer = await scope.session();
  const abort = new AbortController();
  const changes: StoreChange[] = [];
  const news = new Notifier();
  const ready = new Notifier();
  const follow = async (): Promise<void> => {
    for await (const change of session.face.watch(prefix, { signal: abort.signal, ready: ready.notify })) {
      changes.push(change);
      news.notify();
    }
  };
  const following = follow();
  const end: { outcome?: Outcome<void> } = {};
  const noteEnd = settle(() => following).then((outcome) => {
    end.outcome = outcome;
    ready.notify();
    news.notify();
  });
  const seen = async (matches: (change: StoreChange) => boolean): Promise<void> => {
    const call = scope.patience();
    while (!changes.some(matches)) {
      checkFollowing(end.outcome, "the change");
      const waited = await settle(() => news.wait(call, "the change"));
      if ("error" in waited) failed(`no such change came, of ${changes.length} that did`, waited.error);
    }
  };
  try {
    await ready.wait(scope.patience(), "ready", 0);
    checkFollowing(end.outcome, "it was ready");
    await act({ writer, changes, seen, abort, following });
  } finally {
    abort.abort();
    await scope.soon(noteEnd, "the end of the watch");
  }
  await following;
}

function checkFollowing(ended: Outcome<void> | undefined, before: string): void {
  if (ended === undefined) return;
  if ("error" in ended) failed(`the watch failed before ${before}`, ended.error);
  assert.fail(`the watch ended before ${before}`);
}
