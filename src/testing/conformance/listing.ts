import assert from "node:assert/strict";
import type { StoreEntry } from "../../contract/store.js";
import type { Clauses } from "./clauses.js";
import type { Scope } from "./scope.js";
import { drained, type Session } from "./session.js";

/** Clauses on `list`. */
export function listingClauses(clauses: Clauses): void {
  clauses.group("list", () => {
    clauses.clause("gives every key exactly once", ["write", "list"], async (scope) => {
      const session = await scope.session();
      const keys = await filled(scope, session, 20);
      const listed = (await listedBy(scope, session)).map(({ key }) => key);
      for (const key of keys)
        assert.equal(listed.filter((each) => each === key).length, 1, `times of ${key}`);
    });

    clauses.clause("gives keys that can be passed back", ["read", "list"], async (scope) => {
      const session = await scope.session();
      const own = scope.keys.writable && scope.has("write") ? await filled(scope, session, 5) : [];
      const expected = new Set([...own, ...Object.keys(scope.keys.given ?? {})]);
      for (const { key, value } of await listedBy(scope, session, "")) {
        if (!expected.delete(key)) continue;
        const read = await scope.soon(session.face.read(key), `read ${key}`);
        assert.notEqual(read, undefined, `${key}: listed, then not there`);
        if (value !== undefined) assert.equal(read, value, `${key}: as listed and as read`);
      }
      assert.deepEqual([...expected], [], "keys that are not listed");
    });

    clauses.clause("keeps to the prefix", ["list", "prefix"], async (scope) => {
      const session = await scope.session();
      const prefix = scope.keys.prefix ?? "";
      if (scope.has("write")) await filled(scope, session, 3);
      const below = (key: string): boolean => key.startsWith(prefix);
      const all = (await listedBy(scope, session, "")).map(({ key }) => key);
      const some = (await listedBy(scope, session)).map(({ key }) => key);
      assert.deepEqual(some.toSorted(), all.filter(below).toSorted());
      const bare = (await listedBy(scope, session, prefix.replace(/\/$/, ""))).map(({ key }) => key);
      assert.deepEqual(bare.toSorted(), some.toSorted(), "without the final slash");
    });

    clauses.clause("leaves out what was removed", ["write", "delete", "list"], async (scope) => {
      const session = await scope.session();
      const [gone, stays] = await filled(scope, session, 2);
      await scope.soon(session.face.delete(gone ?? ""), "delete");
      const listed = (await listedBy(scope, session)).map(({ key }) => key);
      assert.ok(!listed.includes(gone ?? ""), "the removed key is listed");
      assert.ok(listed.includes(stays ?? ""), "the other key is not listed");
    });

    clauses.clause("lists nothing where nothing is", ["list"], async (scope) => {
      const session = await scope.session();
      const nowhere = scope.keys.writable?.("nothingishere") ?? "nothingishere";
      const outcome = await scope.outcome(() => drained(session.face.list(nowhere)), "list");
      if ("error" in outcome) {
        await scope.refused("list", () => Promise.reject(outcome.error), { codes: ["ERR_KEY_INVALID"] });
      } else assert.deepEqual(outcome.value, []);
    });

    clauses.clause("lets go when the loop ends early", ["write", "list"], async (scope) => {
      const session = await scope.session();
      await filled(scope, session, 3);
      for (let round = 0; round < 20; round++) {
        const listing = session.face.list(scope.keys.prefix ?? "");
        assert.equal((await scope.soon(listing.next(), "the first entry")).done, false);
        await scope.soon(listing.return(undefined), "the early end");
      }
      const key = scope.key();
      await scope.soon(session.face.write(key, "after"), "write after early ends");
      assert.ok((await listedBy(scope, session)).some((entry) => entry.key === key));
    });

    clauses.clause("gives steady keys once while others come", ["write", "list"], async (scope) => {
      const session = await scope.session();
      const writer = await scope.another(session);
      const keys = await filled(scope, session, 10);
      const listed: string[] = [];
      const reading = async (): Promise<void> => {
        for await (const { key } of session.face.list(scope.keys.prefix ?? "")) {
          listed.push(key);
          if (!scope.subject.exclusive && listed.length <= 10) await writer.face.write(scope.key(), "new");
        }
      };
      await scope.soon(reading(), "listing while another session writes");
      for (const key of keys)
        assert.equal(listed.filter((each) => each === key).length, 1, `times of ${key}`);
    });
  });
}

async function filled(scope: Scope, { face }: Session, count: number): Promise<string[]> {
  const keys = Array.from({ length: count }, () => scope.key());
  for (const key of keys) await scope.soon(face.write(key, `value of ${key}`), "write");
  return keys;
}

function listedBy(scope: Scope, { face }: Session, prefix = scope.keys.prefix ?? ""): Promise<StoreEntry[]> {
  return scope.soon(drained(face.list(prefix)), "list");
}
