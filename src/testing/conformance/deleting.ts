import assert from "node:assert/strict";
import type { Clauses } from "./clauses.js";

/** Clauses on `delete`. */
export function deletingClauses(clauses: Clauses): void {
  clauses.group("delete", () => {
    clauses.clause("tells whether the key was there", ["write", "delete"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      assert.equal(await scope.soon(face.delete(key), "delete"), false, "a key that is not there");
      await scope.soon(face.write(key, "v"), "write");
      assert.equal(await scope.soon(face.delete(key), "delete"), true, "a key that is there");
      assert.equal(await scope.soon(face.delete(key), "delete"), false, "a key that was removed");
    });

    clauses.clause("leaves nothing under the key", ["write", "delete"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      await scope.soon(face.write(key, "first"), "write");
      await scope.soon(face.write(key, "second"), "write");
      await scope.soon(face.delete(key), "delete");
      await scope.holds(key, undefined, "the removal");
    });

    clauses.clause("keeps the other keys", ["read", "write", "delete"], async (scope) => {
      const { face } = await scope.session();
      const keys = [scope.key(), scope.key(), scope.key()] as const;
      for (const key of keys) await scope.soon(face.write(key, `value of ${key}`), "write");
      await scope.soon(face.delete(keys[1]), "delete");
      await scope.holds(keys[0], `value of ${keys[0]}`, "removing the next key");
      await scope.holds(keys[2], `value of ${keys[2]}`, "removing the key before");
    });

    clauses.clause("lets the key be written again", ["read", "write", "delete"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      await scope.soon(face.write(key, "first life"), "write");
      await scope.soon(face.delete(key), "delete");
      await scope.soon(face.write(key, "second"), "write");
      await scope.holds(key, "second", "writing again");
    });
  });
}
