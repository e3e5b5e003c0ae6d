import assert from "node:assert/strict";
import type { Clauses } from "./clauses.js";
import { keyOfLength, longestAscii, longestKey, longestNonAscii } from "./sizes.js";

/** Clauses on `write`. */
export function writingClauses(clauses: Clauses): void {
  clauses.group("write", () => {
    clauses.clause("is visible to another session when it resolves", ["read", "write"], async (scope) => {
      const first = await scope.session();
      const second = await scope.another(first);
      const key = scope.key();
      await scope.soon(first.face.write(key, "seen"), "write");
      assert.equal(await scope.soon(second.face.read(key), "read in another session"), "seen");
      await scope.soon(second.face.write(key, "seen again"), "write in another session");
      assert.equal(await scope.soon(first.face.read(key), "read"), "seen again");
    });

    clauses.clause("replaces the old value, longer or shorter", ["read", "write"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      for (const value of ["middle", "much longer than before", "s"]) {
        await scope.soon(face.write(key, value), "write");
        await scope.holds(key, value, "replacing");
      }
    });

    clauses.clause("leaves other keys alone", ["read", "write"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      const longer = `${key}1`;
      await scope.soon(face.write(key, "one"), "write");
      await scope.soon(face.write(longer, "two"), "write of a key that begins with the other");
      await scope.soon(face.write(key, "three"), "write");
      await scope.holds(longer, "two", "writing the shorter key");
      await scope.holds(key, "three", "writing the longer key");
      if (scope.has("delete")) await scope.soon(face.delete(longer), "delete");
    });

    clauses.clause(
      "stores an empty value, or refuses it as ERR_VALUE_INVALID",
      ["read", "write"],
      async (scope) => {
        const { face } = await scope.session();
        const key = scope.key();
        await scope.soon(face.write(key, "old"), "write");
        const outcome = await scope.outcome(() => face.write(key, ""), "write of an empty value");
        if ("error" in outcome) {
          await scope.refused("an empty value", () => Promise.reject(outcome.error), {
            codes: ["ERR_VALUE_INVALID"],
            key,
          });
        }
        await scope.holds(key, "error" in outcome ? "old" : "", "an empty value");
      },
    );

    clauses.clause("keeps the bytes that it was given", ["read", "write"], async (scope) => {
      const { store } = await scope.session();
      const { Call } = await import("../../base/flow/call.js");
      const key = scope.key();
      const bytes = new TextEncoder().encode("mine");
      await scope.soon(store.write?.(key, bytes, new Call()) ?? Promise.resolve(), "write");
      bytes.fill(33);
      await scope.holds(key, "mine", "the caller changed its array");
    });

    clauses.clause("stores the longest value unaltered", ["write", "valueLimit"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      const ascii = "0123456789abcdef"
        .repeat((longestAscii(scope) ?? 0) / 16 + 1)
        .slice(0, longestAscii(scope));
      for (const value of [ascii, longestNonAscii(scope) ?? ""]) {
        await scope.soon(face.write(key, value), "write of the longest value");
        await scope.holds(key, value, "the longest value");
      }
    });

    clauses.clause("stores a value under the longest key", ["write", "keyLimit"], async (scope) => {
      const { face } = await scope.session();
      const key = keyOfLength(scope, longestKey(scope) ?? 0);
      await scope.soon(face.write(key, "v"), "write under the longest key");
      await scope.holds(key, "v", "writing under the longest key");
      if (scope.has("delete")) await scope.soon(face.delete(key), "delete");
    });

    clauses.clause("keeps spaces, letters of all scripts and emoji", ["read", "write"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      for (const value of [" a  b ", "\u00e9 e\u0301", "\u0416\u4e2d\u0627", "\u{1f600}\u{10ffff}"]) {
        const outcome = await scope.outcome(() => face.write(key, value), "write");
        if (!("error" in outcome)) await scope.holds(key, value, `writing ${JSON.stringify(value)}`);
        else {
          const refusal = (): Promise<never> => Promise.reject(outcome.error);
          await scope.refused("text beyond ASCII", refusal, { codes: ["ERR_VALUE_INVALID"], key });
        }
      }
    });
  });
}
