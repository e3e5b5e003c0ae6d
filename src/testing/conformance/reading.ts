import assert from "node:assert/strict";
import type { AddClause } from "./scope.js";

/** Every byte that text can hold in one byte, and text of two, three and four bytes a character. */
const TEXT = "plain, \u00e9\u0301 \u20ac \u{1f600} end";

/** Clauses on `read`. */
export function readClauses(clause: AddClause): void {
  clause("gives undefined for a key that is not there", ["read", "writableKeys"], async (scope, { face }) => {
    const key = scope.key();
    assert.equal(await scope.soon(face.read(key), "read"), undefined);
    assert.equal(await scope.soon(face.readBytes(key), "readBytes"), undefined);
  });

  clause("gives the values that are there already", ["read", "given"], async (scope, { face }) => {
    for (const [key, value] of Object.entries(scope.keys.given ?? {}))
      assert.equal(await scope.soon(face.read(key), `read ${key}`), value);
  });

  clause("gives the same value every time", ["read"], async (scope, { face }) => {
    const key = scope.anyKey();
    if (scope.canWrite) await scope.soon(face.write(key, "again"), "write");
    const first = await scope.soon(face.read(key), "read");
    assert.equal(await scope.soon(face.read(key), "second read"), first);
  });
}

/** Clauses on `readBytes`. */
export function readBytesClauses(clause: AddClause): void {
  clause("gives text as UTF-8", ["read", "write"], async (scope, { face }) => {
    const key = scope.key();
    const outcome = await scope.outcome(() => face.write(key, TEXT), "write");
    const text = "error" in outcome ? "plain" : TEXT;
    if ("error" in outcome) await scope.soon(face.write(key, text), "write");
    const bytes = await scope.soon(face.readBytes(key), "readBytes");
    assert.ok(bytes instanceof Uint8Array);
    assert.deepEqual([...bytes], [...new TextEncoder().encode(text)]);
  });

  clause("gives arrays that belong to the caller", ["read"], async (scope, { face }) => {
    const key = scope.canWrite ? scope.key() : (Object.keys(scope.keys.given ?? {})[0] ?? scope.anyKey());
    if (scope.canWrite) await scope.soon(face.write(key, "mine"), "write");
    const before = await scope.soon(face.read(key), "read");
    (await scope.soon(face.readBytes(key), "readBytes"))?.fill(33);
    assert.equal(await scope.soon(face.read(key), "read after the caller changed its array"), before);
  });

  clause("keeps any bytes", ["read", "write", "binary"], async (scope, { face }) => {
    const key = scope.key();
    const bytes = Uint8Array.from({ length: 256 }, (_, at) => at);
    await scope.soon(face.write(key, bytes), "write");
    assert.deepEqual([...((await scope.soon(face.readBytes(key), "readBytes")) ?? [])], [...bytes]);
  });

  clause("refuses bytes that are no text", ["write", "text"], async (scope, { face }) => {
    const key = scope.key();
    const write = (): Promise<void> => face.write(key, Uint8Array.of(0x61, 0xff, 0xfe));
    await scope.refused("bytes out of UTF-8", write, { codes: ["ERR_VALUE_INVALID"], key, named: true });
    await scope.holds(key, undefined, "the refused write");
  });
}
