import assert from "node:assert/strict";
import type { Clauses } from "./clauses.js";
import type { Scope } from "./scope.js";
import { faceVerb, hook, VERBS } from "./session.js";
import { keyOfLength, longestAscii, longestKey, longestNonAscii } from "./sizes.js";

/** Clauses that hold for every verb: closed, aborted, timed out, oversized, read-only. */
export function traitClauses(clauses: Clauses): void {
  for (const verb of VERBS) {
    clauses.group(`every verb: ${verb}`, () => {
      clauses.clause("rejects with ERR_DISCONNECTED on a closed store", [verb], async (scope) => {
        const { store } = await scope.session();
        const key = scope.anyKey();
        await scope.soon(store.close(), "close");
        await scope.refused(`${verb} on a closed store`, () => hook(verb, store, key, { timeoutMs: 200 }), {
          codes: ["ERR_DISCONNECTED"],
        });
        if (scope.keys.writable && !scope.subject.exclusive)
          await scope.holds(key, undefined, `${verb} when closed`);
      });

      clauses.clause("rejects with ERR_DISCONNECTED on a closed interface", [verb], async (scope) => {
        const { face } = await scope.session();
        await scope.soon(face.close(), "close");
        await scope.soon(face.close(), "second close");
        const shape = { codes: ["ERR_DISCONNECTED"], named: true } as const;
        await scope.refused(verb, () => faceVerb(verb, face, scope.anyKey()), shape);
      });

      clauses.clause(
        `${ends(verb)} on a signal that has fired, and changes nothing`,
        [verb],
        async (scope) => {
          const reason = new Error("the caller's reason");
          await over(scope, verb, { signal: AbortSignal.abort(reason) }, ["ERR_ABORTED"], reason);
        },
      );

      clauses.clause(`${ends(verb)} when no time is left, and changes nothing`, [verb], async (scope) => {
        await over(scope, verb, { timeoutMs: 0 }, ["ERR_TIMEOUT"]);
      });
    });
  }

  clauses.group("oversized", () => {
    clauses.clause(
      "refuses a value over the limit and keeps the old one",
      ["write", "valueLimit"],
      async (scope) => {
        const { store, face } = await scope.session();
        const key = scope.key();
        await scope.soon(face.write(key, "old"), "write");
        const values = [`${"v".repeat(longestAscii(scope) ?? 0)}v`, `${longestNonAscii(scope) ?? ""}\u20ac`];
        for (const value of values) {
          const shape = { codes: ["ERR_VALUE_TOO_LONG"], key, named: true } as const;
          await scope.refused("a value over the limit", () => face.write(key, value), shape);
          await scope.holds(key, "old", "the refused write");
        }
        await scope.soon(face.write(key, "new"), `write after a refusal to ${store.constructor.name}`);
      },
    );

    clauses.clause(
      "refuses a key over the limit and writes nothing",
      ["write", "keyLimit"],
      async (scope) => {
        const { face } = await scope.session();
        const most = longestKey(scope) ?? 0;
        const key = `${keyOfLength(scope, most)}k`;
        const shape = { codes: ["ERR_KEY_TOO_LONG"], key, named: true } as const;
        await scope.refused("a key over the limit", () => face.write(key, "v"), shape);
        await scope.holds(key.slice(0, -1), undefined, "the refused write, under the shortened key");
      },
    );

    clauses.clause(
      "finds nothing under a key over the limit, or refuses it",
      ["write", "keyLimit"],
      async (scope) => {
        const { face } = await scope.session();
        const fits = keyOfLength(scope, longestKey(scope) ?? 0);
        await scope.soon(face.write(fits, "fits"), "write");
        const verbs = (["read", "delete"] as const).filter((each) => scope.has(each));
        for (const verb of verbs) {
          const outcome = await scope.outcome(() => faceVerb(verb, face, `${fits}k`), verb);
          if ("value" in outcome) assert.ok(!outcome.value, `${verb} found a shorter key`);
          else {
            const refusal = (): Promise<never> => Promise.reject(outcome.error);
            await scope.refused(verb, refusal, { codes: ["ERR_KEY_TOO_LONG", "ERR_KEY_INVALID"] });
          }
        }
        await scope.holds(fits, "fits", "verbs on a longer key");
        if (scope.has("delete")) await scope.soon(face.delete(fits), "delete");
      },
    );
  });

  clauses.group("read-only keys", () => {
    for (const verb of ["write", "delete"] as const) {
      clauses.clause(`rejects ${verb} with ERR_READ_ONLY`, [verb, "readOnly"], async (scope) => {
        const { face } = await scope.session();
        for (const key of scope.keys.readOnly ?? []) {
          const before = scope.has("read") ? await scope.soon(face.read(key), "read") : undefined;
          const shape = { codes: ["ERR_READ_ONLY"], key, named: true } as const;
          await scope.refused(`${verb} of ${key}`, () => faceVerb(verb, face, key), shape);
          await scope.holds(key, before, `the refused ${verb}`);
        }
      });
    }
  });
}

function ends(verb: string): string {
  return verb === "watch" ? "ends without an error" : "rejects";
}

/** Runs a verb of the store itself with a call that is over already. */
async function over(
  scope: Scope,
  verb: (typeof VERBS)[number],
  options: { signal: AbortSignal } | { timeoutMs: 0 },
  codes: readonly ["ERR_ABORTED" | "ERR_TIMEOUT"],
  cause?: Error,
): Promise<void> {
  const { store, face } = await scope.session();
  const key = scope.anyKey();
  const prepare = scope.has("write") && scope.keys.writable !== undefined;
  if (prepare) await scope.soon(face.write(key, "before"), "write");
  const what = `${verb} with a call that is over`;
  if (verb === "watch") {
    assert.deepEqual(
      await scope.soon(hook(verb, store, key, options), what),
      [],
      "changes before the watch began",
    );
  } else {
    const shape = cause === undefined ? { codes } : { codes, cause };
    await scope.refused(what, () => hook(verb, store, key, options), shape);
  }
  if (prepare) await scope.holds(key, "before", what);
}
