import assert from "node:assert/strict";
import { Call } from "../../base/flow/call.js";
import type { AddClause } from "./scope.js";

const READ_WRITE = ["read", "write"] as const;

/** Clauses on `write`. */
export function writeClauses(clause: AddClause): void {
  clause("is visible to another session when it resolves", READ_WRITE, async (scope, first) => {
    const second = await scope.session();
    const key = scope.key();
    await scope.soon(first.face.write(key, "seen"), "write");
    assert.equal(await scope.soon(second.face.read(key), "read in another session"), "seen");
    await scope.soon(second.face.write(key, "seen again"), "write in another session");
    assert.equal(await scope.soon(first.face.read(key), "read"), "seen again");
  });

  clause("replaces the old value, longer or shorter", READ_WRITE, async (scope, { face }) => {
    const key = scope.key();
    for (const value of ["middle", "much longer than before", "s"]) {
      await scope.soon(face.write(key, value), "write");
      await scope.holds(key, value, "replacing");
    }
  });

  clause("leaves other keys alone", READ_WRITE, async (scope, { face }) => {
    const key = scope.key();
    const longer = `${key}1`;
    await scope.soon(face.write(key, "one"), "write");
    await scope.soon(face.write(longer, "two"), "write of a key that begins with the other");
    await scope.soon(face.write(key, "three"), "write");
    await scope.holds(longer, "two", "writing the shorter key");
    await scope.holds(key, "three", "writing the longer key");
    if (scope.has("delete")) await scope.soon(face.delete(longer), "delete");
  });

  clause("stores an empty value, or refuses it as ERR_VALUE_INVALID", READ_WRITE, async (scope, { face }) => {
    const key = scope.key();
    await scope.soon(face.write(key, "old"), "write");
    const shape = { codes: ["ERR_VALUE_INVALID"], key } as const;
    const outcome = await scope.mayRefuse("an empty value", () => face.write(key, ""), shape);
    await scope.holds(key, "error" in outcome ? "old" : "", "an empty value");
  });

  clause("keeps the bytes that it was given", READ_WRITE, async (scope, { store }) => {
    const key = scope.key();
    const bytes = new TextEncoder().encode("mine");
    await scope.soon(store.write?.(key, bytes, new Call()) ?? Promise.resolve(), "write");
    bytes.fill(33);
    await scope.holds(key, "mine", "the caller changed its array");
  });

  clause("stores the longest value unaltered", ["write", "valueLimit"], async (scope, { face }) => {
    const key = scope.key();
    const most = scope.longestAscii ?? 0;
    const ascii = "0123456789abcdef".repeat(most / 16 + 1).slice(0, most);
    for (const value of [ascii, scope.longestNonAscii ?? ""]) {
      await scope.soon(face.write(key, value), "write of the longest value");
      await scope.holds(key, value, "the longest value");
    }
  });

  clause("stores a value under the longest key", ["write", "keyLimit"], async (scope, { face }) => {
    const key = scope.keyOfLength(scope.longestKey ?? 0);
    await scope.soon(face.write(key, "v"), "write under the longest key");
    await scope.holds(key, "v", "writing under the longest key");
    if (scope.has("delete")) await scope.soon(face.delete(key), "delete");
  });

  clause("keeps spaces, letters of all scripts and emoji", READ_WRITE, async (scope, { face }) => {
    const key = scope.key();
    const shape = { codes: ["ERR_VALUE_INVALID"], key } as const;
    for (const value of [" a  b ", "\u00e9 e\u0301", "\u0416\u4e2d\u0627", "\u{1f600}\u{10ffff}"]) {
      const outcome = await scope.mayRefuse("text beyond ASCII", () => face.write(key, value), shape);
      if ("value" in outcome) await scope.holds(key, value, `writing ${JSON.stringify(value)}`);
    }
  });
}

/** Clauses on `delete`. */
export function deleteClauses(clause: AddClause): void {
  clause("tells whether the key was there", ["write", "delete"], async (scope, { face }) => {
    const key = scope.key();
    assert.equal(await scope.soon(face.delete(key), "delete"), false, "a key that is not there");
    await scope.soon(face.write(key, "v"), "write");
    assert.equal(await scope.soon(face.delete(key), "delete"), true, "a key that is there");
    assert.equal(await scope.soon(face.delete(key), "delete"), false, "a key that was removed");
  });

  clause("leaves nothing under the key", ["write", "delete"], async (scope, { face }) => {
    const key = scope.key();
    await scope.soon(face.write(key, "first"), "write");
    await scope.soon(face.write(key, "second"), "write");
    await scope.soon(face.delete(key), "delete");
    await scope.holds(key, undefined, "the removal");
  });

  clause("keeps the other keys", ["read", "write", "delete"], async (scope, { face }) => {
    const keys = [scope.key(), scope.key(), scope.key()] as const;
    for (const key of keys) await scope.soon(face.write(key, `value of ${key}`), "write");
    await scope.soon(face.delete(keys[1]), "delete");
    await scope.holds(keys[0], `value of ${keys[0]}`, "removing the next key");
    await scope.holds(keys[2], `value of ${keys[2]}`, "removing the key before");
  });

  clause("lets the key be written again", ["read", "write", "delete"], async (scope, { face }) => {
    const key = scope.key();
    await scope.soon(face.write(key, "first life"), "write");
    await scope.soon(face.delete(key), "delete");
    await scope.soon(face.write(key, "second"), "write");
    await scope.holds(key, "second", "writing again");
  });
}
