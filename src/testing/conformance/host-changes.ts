import assert from "node:assert/strict";
import type { AddClause, Scope } from "./scope.js";
import { drained, type Session } from "./session.js";
import { endedEarly, followed } from "./watching.js";

/** Changes of a host that does not rest. */
const ROUNDS = 20;

/** Clauses on what the host changes: reads, listings and watches of stores that the guest cannot write show nothing otherwise. */
export function hostClauses(clause: AddClause): void {
  clause(
    "has its values read as it sets, changes and removes them",
    ["read", "hostChanges"],
    async (scope, { face }) => {
      const key = scope.hostKey();
      const other = scope.hostKey();
      const reads = (value: string | undefined): Promise<void> =>
        scope.comes(
          `read of ${key}`,
          () => face.read(key),
          (found) => found === value,
        );
      await reads(undefined);
      await scope.hostSets(other, "another key");
      for (const value of ["first", "second and longer", "3rd"]) {
        await scope.hostSets(key, value);
        await reads(value);
      }
      await scope.hostSets(key, undefined);
      await reads(undefined);
      assert.equal(await scope.soon(face.read(other), "read"), "another key", "the other key");
    },
  );

  clause("has its keys listed until it removes them", ["list", "hostChanges"], async (scope, { face }) => {
    const [gone, stays] = [scope.hostKey(), scope.hostKey()];
    const lists = (what: string, expected: readonly string[]): Promise<void> =>
      scope.comes(
        what,
        async () => {
          const entries = await drained(face.list(scope.subject.host?.prefix ?? ""));
          return entries
            .map(({ key }) => key)
            .filter((key) => key === gone || key === stays)
            .toSorted();
        },
        (found) => found.join("\n") === expected.join("\n"),
      );
    await scope.hostSets(gone, "short-lived");
    await scope.hostSets(stays, "there");
    await lists("both keys in the listing", [gone, stays].toSorted());
    await scope.hostSets(gone, undefined);
    await lists("one key in the listing", [stays]);
  });

  clause(
    "has a watch see what it sets, changes and removes",
    ["watch", "hostChanges"],
    async (scope, session) => {
      const key = scope.hostKey();
      await followed({ scope, session, prefix: prefixOf(scope, key) }, async ({ seen }) => {
        for (const value of ["first", "second", undefined, "again"]) {
          await scope.hostSets(key, value);
          await seen((change) => change.key === key && change.value === value);
        }
      });
    },
  );

  clause("has a watch keep to its prefix", ["watch", "hostChanges"], async (scope, session) => {
    const key = scope.hostKey();
    const other = scope.hostKey();
    await followed({ scope, session, prefix: key }, async ({ seen, changes }) => {
      await scope.hostSets(other, "elsewhere");
      await scope.hostSets(key, "here");
      await seen((change) => change.key === key && change.value === "here");
      assert.deepEqual([...new Set(changes.map((change) => change.key))], [key]);
    });
  });

  clause(
    "has a watch end at its signal though it goes on",
    ["watch", "hostChanges"],
    async (scope, session) => {
      const key = scope.hostKey();
      await followed({ scope, session, prefix: key }, async ({ abort, following }) => {
        for (let round = 0; round < ROUNDS; round++) {
          await scope.hostSets(key, `round ${round}`);
          if (round === ROUNDS / 2) abort.abort();
        }
        await scope.soon(following, "the end of the watch");
      });
    },
  );

  clause("has a watch let go when the loop ends early", ["watch", "hostChanges"], async (scope, session) => {
    for (let round = 0; round < 3; round++) {
      const key = scope.hostKey();
      await endedEarly(scope, session, prefixOf(scope, key), () => scope.hostSets(key, "x"));
    }
    await readsStill(scope, session);
  });
}

/** What to follow so that a key is seen: a store that cannot enumerate follows the keys that it is told. */
function prefixOf(scope: Scope, key: string): string {
  return scope.has("list") ? (scope.subject.host?.prefix ?? "") : key;
}

async function readsStill(scope: Scope, { face }: Session): Promise<void> {
  const key = scope.hostKey();
  await scope.hostSets(key, "after");
  if (scope.has("read"))
    await scope.comes(
      "read after early ends",
      () => face.read(key),
      (found) => found === "after",
    );
}
