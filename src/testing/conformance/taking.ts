import assert from "node:assert/strict";
import { Call } from "../../base/flow/call.js";

import { settle } from "./expect.js";
import type { AddClause } from "./scope.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Clauses on taking and erasing. */
export function takeClauses(clause: AddClause): void {
  clause("gives nothing where no key is", ["read", "writableKeys"], async (scope, { face }) => {
    for (const erase of ["after", "first"] as const)
      assert.equal(await scope.soon(face.take(scope.key(), { erase }), "take"), undefined, erase);
  });

  clause("gives the value and says truly what became of it", ["read", "write"], async (scope, { face }) => {
    for (const erase of ["after", "first"] as const) {
      const key = scope.key();
      await scope.soon(face.write(key, "secret"), "write");
      const taken = await scope.soon(face.take(key, { erase }), "take");
      assert.equal(Buffer.from(taken?.value ?? []).toString(), "secret", erase);
      const left = await scope.soon(face.read(key), "read");
      if (taken?.erased === "overwritten") assert.notEqual(left, "secret", `${erase}: overwritten`);
      else await scope.holds(key, taken?.erased === "no" ? "secret" : undefined, `taking ${erase}`);
    }
  });

  clause(
    "claims nothing of what the guest cannot erase",
    ["read", "given", "readOnly"],
    async (scope, { face }) => {
      for (const [key, value] of Object.entries(scope.keys.given ?? {})) {
        if (!scope.keys.readOnly?.includes(key)) continue;
        const outcome = await scope.outcome(() => face.take(key, { erase: "first" }), "take");
        if ("value" in outcome) {
          assert.equal(Buffer.from(outcome.value?.value ?? []).toString(), value);
          assert.equal(outcome.value?.erased, "no", "a pair that stays as it is");
        }
        await scope.holds(key, value, "the taking of a pair that stays");
        const shape = { codes: ["ERR_READ_ONLY", "ERR_PERMISSION"], key, named: true } as const;
        await scope.refused("a taking that must erase", () => face.take(key, { requireErase: true }), shape);
      }
    },
  );

  clause(
    "leaves another value than the expected one alone",
    ["read", "write", "erase"],
    async (scope, { store, face }) => {
      const key = scope.key();
      await scope.soon(face.write(key, "newer"), "write");
      const shape = { codes: ["ERR_CONFLICT"] } as const;
      const erase = async (): Promise<unknown> => store.erase?.(key, new Call(), bytes("older"));
      await scope.refused("erasing what was changed", erase, shape);
      await scope.holds(key, "newer", "the refused erasing");
    },
  );

  clause("gives the value to one of several takers", ["write", "take"], async (scope, { store, face }) => {
    const key = scope.key();
    await scope.soon(face.write(key, "once"), "write");
    const takers = Array.from({ length: 8 }, () => settle(async () => store.take?.(key, new Call())));
    const outcomes = await scope.soon(Promise.all(takers), "several takers");
    const had = outcomes.filter((each) => "value" in each && each.value !== undefined);
    assert.equal(had.length, 1, "takers that had the value");
    await scope.holds(key, undefined, "several takers");
  });
}

/** Clauses on inserting. */
export function insertClauses(clause: AddClause): void {
  clause(
    "writes where there is no key, and leaves what is there",
    ["read", "insert"],
    async (scope, { face }) => {
      const key = scope.key();
      assert.equal(await scope.soon(face.insert(key, "first"), "insert"), true, "a new key");
      assert.equal(await scope.soon(face.insert(key, "second"), "insert"), false, "a key that is there");
      await scope.holds(key, "first", "two inserts");
    },
  );

  clause("lets one of several inserts succeed", ["read", "insert"], async (scope, first) => {
    const faces = [first.face, (await scope.session()).face];
    const key = scope.key();
    const inserts = Array.from({ length: 8 }, (_, at) => faces[at % 2]?.insert(key, `number ${at}`));
    const done = await scope.soon(Promise.all(inserts), "several inserts");
    assert.equal(done.filter(Boolean).length, 1, "inserts that succeeded");
    await scope.holds(key, `number ${done.indexOf(true)}`, "several inserts");
  });
}
