import assert from "node:assert/strict";
import { Call } from "../../base/flow/call.js";
import type { StoreChange } from "../../contract/store.js";
import type { Clauses } from "./clauses.js";
import type { Scope } from "./scope.js";
import { drained, hook, type Session } from "./session.js";

/** Clauses on `watch`. */
export function watchingClauses(clauses: Clauses): void {
  clauses.group("watch", () => {
    clauses.clause("sees what another session writes after ready", ["write", "watch"], async (scope) => {
      const key = scope.key();
      await followed(
        scope,
        async (writer, seen) => {
          await scope.soon(writer.face.write(key, "first"), "write");
          await seen((change) => change.key === key && change.value === "first");
          await scope.soon(writer.face.write(key, "second"), "write");
          await seen((change) => change.key === key && change.value === "second");
        },
        followable(scope, key),
      );
    });

    clauses.clause("sees a removal as undefined", ["write", "delete", "watch"], async (scope) => {
      await followed(scope, async (writer, seen) => {
        const key = scope.key();
        await scope.soon(writer.face.write(key, "short-lived"), "write");
        await seen((change) => change.key === key);
        await scope.soon(writer.face.delete(key), "delete");
        await seen((change) => change.key === key && change.value === undefined);
      });
    });

    clauses.clause("calls ready exactly once", ["watch"], async (scope) => {
      const { store } = await scope.session();
      let calls = 0;
      const watching = store.watch?.(scope.keys.prefix ?? "", new Call({ timeoutMs: 100 }), {
        ready: () => calls++,
      });
      await scope.soon(drained(watching), "watch");
      assert.equal(calls, 1);
    });

    clauses.clause("keeps to the prefix", ["write", "watch", "writableKeys"], async (scope) => {
      const key = scope.key();
      await followed(
        scope,
        async (writer, seen, changes) => {
          await scope.soon(writer.face.write(scope.key(), "elsewhere"), "write");
          await scope.soon(writer.face.write(key, "here"), "write");
          await seen((change) => change.key === key);
          assert.deepEqual([...new Set(changes.map((change) => change.key))], [key]);
        },
        key,
      );
    });

    clauses.clause("ends without an error when the signal fires", ["watch"], async (scope) => {
      const { store } = await scope.session();
      const abort = new AbortController();
      const options = { signal: abort.signal, timeoutMs: Number.POSITIVE_INFINITY };
      const watching = hook("watch", store, "", options);
      setTimeout(() => abort.abort(new Error("enough")), 20);
      await scope.soon(watching, "watch after the signal fired");
    });

    clauses.clause("ends without an error after timeoutMs", ["watch"], async (scope) => {
      const { store } = await scope.session();
      await scope.soon(hook("watch", store, "", { timeoutMs: 20 }), "watch after timeoutMs");
    });

    clauses.clause("ends with ERR_DISCONNECTED when the store is closed", ["watch"], async (scope) => {
      const { face } = await scope.session();
      let armed = (): void => undefined;
      const ready = new Promise<void>((resolve) => {
        armed = resolve;
      });
      const watching = scope.outcome(() => drained(face.watch("", { ready: armed })), "watch");
      await scope.soon(ready, "ready");
      await scope.soon(face.close(), "close");
      const outcome = await watching;
      assert.ok("error" in outcome, "the watch ended as if all were well");
      await scope.refused("watch", () => Promise.reject(outcome.error), { codes: ["ERR_DISCONNECTED"] });
    });

    clauses.clause("lets go when the loop ends early", ["write", "watch"], async (scope) => {
      const watcher = await scope.session();
      const writer = await scope.another(watcher);
      for (let round = 0; round < 5; round++) {
        const key = scope.key();
        const watching = watcher.face.watch(scope.has("list") ? "" : key, {
          ready: () => void writer.face.write(key, "x").catch(() => undefined),
        });
        await scope.soon(watching.next(), "the first change");
        await scope.soon(watching.return(undefined), "the early end");
      }
      await scope.soon(writer.face.write(scope.key(), "after"), "write after early ends");
    });
  });
}

/** A store that cannot enumerate cannot find new keys by itself: it follows those that it is told. */
function followable(scope: Scope, key: string): string | undefined {
  return scope.has("list") ? undefined : key;
}

type Seen = (matches: (change: StoreChange) => boolean) => Promise<void>;

/** Follows a prefix in one session while `act` changes things in another. Changes may come late and joined. */
async function followed(
  scope: Scope,
  act: (writer: Session, seen: Seen, changes: readonly StoreChange[]) => Promise<void>,
  prefix = scope.keys.prefix ?? "",
): Promise<void> {
  const watcher = await scope.session();
  const writer = await scope.another(watcher);
  const abort = new AbortController();
  const changes: StoreChange[] = [];
  let news = (): void => undefined;
  let armed = (): void => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const follow = async (): Promise<void> => {
    for await (const change of watcher.face.watch(prefix, { signal: abort.signal, ready: armed })) {
      changes.push(change);
      news();
    }
  };
  const following = follow();
  following.catch(() => armed());
  const seen: Seen = (matches) =>
    scope.soon(
      (async () => {
        while (!changes.some(matches)) {
          await new Promise<void>((resolve) => {
            news = resolve;
          });
        }
      })(),
      "seeing the change",
    );
  try {
    await scope.soon(ready, "ready");
    await act(writer, seen, changes);
  } finally {
    abort.abort();
    await scope.soon(following, "the end of the watch");
  }
}
