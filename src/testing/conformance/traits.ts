import assert from "node:assert/strict";
import type { CallOptions } from "../../base/flow/call.js";
import type { Verbs } from "../../contract/capabilities.js";
import type { FailureShape } from "./expect.js";
import type { AddClause, Scope } from "./scope.js";
import { faceVerb, hook, type Session } from "./session.js";

/** Returns the clauses that hold for every verb: closed, aborted, timed out. */
export function verbClauses(verb: keyof Verbs): (clause: AddClause) => void {
  const ends = verb === "watch" ? "ends without an error" : "rejects";
  return (clause) => {
    clause("rejects with ERR_DISCONNECTED on a closed store", [verb], async (scope, { store }) => {
      const key = scope.anyKey();
      await scope.soon(store.close(), "close");
      const shape = { codes: ["ERR_DISCONNECTED"] } as const;
      await scope.refused(
        `${verb} on a closed store`,
        () => hook(verb, store, key, { timeoutMs: 200 }),
        shape,
      );
      if (scope.keys.writable && !scope.subject.exclusive)
        await scope.holds(key, undefined, `${verb} when closed`);
    });

    clause("rejects with ERR_DISCONNECTED on a closed interface", [verb], async (scope, { face }) => {
      await scope.soon(face.close(), "close");
      await scope.soon(face.close(), "second close");
      const shape = { codes: ["ERR_DISCONNECTED"], named: true } as const;
      await scope.refused(verb, () => faceVerb(verb, face, scope.anyKey()), shape);
    });

    clause(`${ends} on a signal that has fired, and changes nothing`, [verb], async (scope, session) => {
      const cause = new Error("the caller's reason");
      const options = { signal: AbortSignal.abort(cause) };
      await over({ scope, session, verb }, options, { codes: ["ERR_ABORTED"], cause });
    });

    clause(`${ends} when no time is left, and changes nothing`, [verb], async (scope, session) => {
      await over({ scope, session, verb }, { timeoutMs: 0 }, { codes: ["ERR_TIMEOUT"] });
    });
  };
}

const VALUE_LIMIT = ["write", "valueLimit"] as const;
const KEY_LIMIT = ["write", "keyLimit"] as const;

/** Clauses on keys and values over the limits. */
export function oversizedClauses(clause: AddClause): void {
  clause("refuses a value over the limit and keeps the old one", VALUE_LIMIT, async (scope, session) => {
    const { store, face } = session;
    const key = scope.key();
    await scope.soon(face.write(key, "old"), "write");
    const shape = { codes: ["ERR_VALUE_TOO_LONG"], key, named: true } as const;
    for (const value of ["v".repeat((scope.longestAscii ?? 0) + 1), `${scope.longestNonAscii ?? ""}\u20ac`]) {
      await scope.refused("a value over the limit", () => face.write(key, value), shape);
      await scope.holds(key, "old", "the refused write");
    }
    await scope.soon(face.write(key, "new"), `write after a refusal to ${store.constructor.name}`);
  });

  clause("refuses a key over the limit and writes nothing", KEY_LIMIT, async (scope, { face }) => {
    const key = `${scope.keyOfLength(scope.longestKey ?? 0)}k`;
    const shape = { codes: ["ERR_KEY_TOO_LONG"], key, named: true } as const;
    await scope.refused("a key over the limit", () => face.write(key, "v"), shape);
    await scope.holds(key.slice(0, -1), undefined, "the refused write, under the shortened key");
  });

  clause("finds nothing under a key over the limit, or refuses it", KEY_LIMIT, async (scope, { face }) => {
    const fits = scope.keyOfLength(scope.longestKey ?? 0);
    await scope.soon(face.write(fits, "fits"), "write");
    const shape = { codes: ["ERR_KEY_TOO_LONG", "ERR_KEY_INVALID"] } as const;
    for (const verb of (["read", "delete"] as const).filter((each) => scope.has(each))) {
      const outcome = await scope.mayRefuse(verb, () => faceVerb(verb, face, `${fits}k`), shape);
      assert.ok("error" in outcome || !outcome.value, `${verb} found a shorter key`);
    }
    await scope.holds(fits, "fits", "verbs on a longer key");
    if (scope.has("delete")) await scope.soon(face.delete(fits), "delete");
  });
}

/** Clauses on keys that the guest may not change. */
export function readOnlyClauses(clause: AddClause): void {
  for (const verb of ["write", "delete"] as const) {
    clause(`rejects ${verb} with ERR_READ_ONLY`, [verb, "readOnly"], async (scope, { face }) => {
      for (const key of scope.keys.readOnly ?? []) {
        const before = scope.has("read") ? await scope.soon(face.read(key), "read") : undefined;
        const shape = { codes: ["ERR_READ_ONLY"], key, named: true } as const;
        await scope.refused(`${verb} of ${key}`, () => faceVerb(verb, face, key), shape);
        await scope.holds(key, before, `the refused ${verb}`);
      }
    });
  }
}

/** Runs a verb of the store itself with a call that is over already. */
async function over(
  { scope, session: { store, face }, verb }: { scope: Scope; session: Session; verb: keyof Verbs },
  options: CallOptions,
  shape: FailureShape,
): Promise<void> {
  const key = scope.anyKey();
  if (scope.canWrite) await scope.soon(face.write(key, "before"), "write");
  const what = `${verb} with a call that is over`;
  const run = (): Promise<unknown> => hook(verb, store, key, options);
  if (verb === "watch") assert.deepEqual(await scope.soon(run(), what), [], "changes before the watch began");
  else await scope.refused(what, run, shape);
  if (scope.canWrite) await scope.holds(key, "before", what);
}
