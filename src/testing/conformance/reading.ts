import assert from "node:assert/strict";
import type { Clauses } from "./clauses.js";
import type { Scope } from "./scope.js";

/** Every byte that text can hold in one byte, and text of two, three and four bytes a character. */
const TEXT = "plain, \u00e9\u0301 \u20ac \u{1f600} end";

/** Clauses on `read` and `readBytes`. */
export function readingClauses(clauses: Clauses): void {
  clauses.group("read", () => {
    clauses.clause("gives undefined for a key that is not there", ["read", "writableKeys"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      assert.equal(await scope.soon(face.read(key), "read"), undefined);
      assert.equal(await scope.soon(face.readBytes(key), "readBytes"), undefined);
    });

    clauses.clause("gives the values that are there already", ["read", "given"], async (scope) => {
      const { face } = await scope.session();
      for (const [key, value] of Object.entries(scope.keys.given ?? {})) {
        assert.equal(await scope.soon(face.read(key), `read ${key}`), value);
      }
    });

    clauses.clause("gives the same value every time", ["read"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.anyKey();
      if (scope.has("write") && scope.keys.writable) await scope.soon(face.write(key, "again"), "write");
      const first = await scope.soon(face.read(key), "read");
      assert.equal(await scope.soon(face.read(key), "second read"), first);
    });
  });

  clauses.group("readBytes", () => {
    clauses.clause("gives text as UTF-8", ["read", "write"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      const outcome = await scope.outcome(() => face.write(key, TEXT), "write");
      const text = "error" in outcome ? "plain" : TEXT;
      if ("error" in outcome) await scope.soon(face.write(key, text), "write");
      const bytes = await scope.soon(face.readBytes(key), "readBytes");
      assert.ok(bytes instanceof Uint8Array);
      assert.deepEqual([...bytes], [...new TextEncoder().encode(text)]);
    });

    clauses.clause("gives arrays that belong to the caller", ["read"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.keys.writable && scope.has("write") ? scope.key() : givenKey(scope);
      if (scope.keys.writable && scope.has("write")) await scope.soon(face.write(key, "mine"), "write");
      const before = await scope.soon(face.read(key), "read");
      (await scope.soon(face.readBytes(key), "readBytes"))?.fill(33);
      assert.equal(await scope.soon(face.read(key), "read after the caller changed its array"), before);
    });

    clauses.clause("keeps any bytes", ["read", "write", "binary"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      const bytes = Uint8Array.from({ length: 256 }, (_, at) => at);
      await scope.soon(face.write(key, bytes), "write");
      assert.deepEqual(await scope.soon(face.readBytes(key), "readBytes").then(toArray), [...bytes]);
    });

    clauses.clause("refuses bytes that are no text", ["write", "text"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.key();
      const write = (): Promise<void> => face.write(key, Uint8Array.of(0x61, 0xff, 0xfe));
      await scope.refused("bytes out of UTF-8", write, { codes: ["ERR_VALUE_INVALID"], key, named: true });
      await scope.holds(key, undefined, "the refused write");
    });
  });
}

function toArray(bytes: Uint8Array | undefined): number[] {
  return [...(bytes ?? [])];
}

function givenKey(scope: Scope): string {
  return Object.keys(scope.keys.given ?? {})[0] ?? scope.anyKey();
}
