import assert from "node:assert/strict";
import type { StoreEntry } from "../../contract/store.js";
import type { AddClause, Scope } from "./scope.js";
import { drained, type Session } from "./session.js";

/** Clauses on `list`. */
export function listClauses(clause: AddClause): void {
  clause("gives every key exactly once", ["write", "list"], async (scope, session) => {
    const keys = await filled(scope, session, 20);
    assertOnce(keys, await keysBelow(scope, session));
  });

  clause("gives keys that can be passed back", ["read", "list"], async (scope, session) => {
    const own = scope.canWrite ? await filled(scope, session, 5) : [];
    const expected = new Set([...own, ...Object.keys(scope.keys.given ?? {})]);
    for (const { key, value } of await listed(scope, session, "")) {
      if (!expected.delete(key)) continue;
      const read = await scope.soon(session.face.read(key), `read ${key}`);
      assert.notEqual(read, undefined, `${key}: listed, then not there`);
      if (value !== undefined) assert.equal(read, value, `${key}: as listed and as read`);
    }
    assert.deepEqual([...expected], [], "keys that are not listed");
  });

  clause("keeps to the prefix", ["list", "prefix"], async (scope, session) => {
    const prefix = scope.keys.prefix ?? "";
    if (scope.has("write")) await filled(scope, session, 3);
    const all = await keysBelow(scope, session, "");
    const some = (await keysBelow(scope, session)).toSorted();
    assert.deepEqual(some, all.filter((key) => key.startsWith(prefix)).toSorted());
    const bare = await keysBelow(scope, session, prefix.replace(/\/$/, ""));
    assert.deepEqual(bare.toSorted(), some, "without the final slash");
  });

  clause("leaves out what was removed", ["write", "delete", "list"], async (scope, session) => {
    const [gone = "", stays = ""] = await filled(scope, session, 2);
    await scope.soon(session.face.delete(gone), "delete");
    const keys = await keysBelow(scope, session);
    assert.ok(!keys.includes(gone), "the removed key is listed");
    assert.ok(keys.includes(stays), "the other key is not listed");
  });

  clause("lists nothing where nothing is", ["list"], async (scope, { face }) => {
    const nowhere = scope.keys.writable?.("nothingishere") ?? "nothingishere";
    const shape = { codes: ["ERR_KEY_INVALID"] } as const;
    const outcome = await scope.mayRefuse("list", () => drained(face.list(nowhere)), shape);
    if ("value" in outcome) assert.deepEqual(outcome.value, []);
  });

  clause("lets go when the loop ends early", ["write", "list"], async (scope, session) => {
    await filled(scope, session, 3);
    for (let round = 0; round < 20; round++) {
      const listing = session.face.list(scope.keys.prefix ?? "");
      assert.equal((await scope.soon(listing.next(), "the first entry")).done, false);
      await scope.soon(listing.return(undefined), "the early end");
    }
    const key = scope.key();
    await scope.soon(session.face.write(key, "after"), "write after early ends");
    assert.ok((await keysBelow(scope, session)).includes(key));
  });

  clause("gives steady keys once while others come", ["write", "list"], async (scope, session) => {
    const writer = await scope.session();
    const keys = await filled(scope, session, 10);
    const found: string[] = [];
    const reading = async (): Promise<void> => {
      for await (const { key } of session.face.list(scope.keys.prefix ?? "")) {
        found.push(key);
        if (!scope.subject.exclusive && found.length <= 10) await writer.face.write(scope.key(), "new");
      }
    };
    await scope.soon(reading(), "listing while another session writes");
    assertOnce(keys, found);
  });
}

function assertOnce(keys: readonly string[], found: readonly string[]): void {
  for (const key of keys) assert.equal(found.filter((each) => each === key).length, 1, `times of ${key}`);
}

async function filled(scope: Scope, { face }: Session, count: number): Promise<string[]> {
  const keys = Array.from({ length: count }, () => scope.key());
  for (const key of keys) await scope.soon(face.write(key, `value of ${key}`), "write");
  return keys;
}

function listed(scope: Scope, { face }: Session, prefix = scope.keys.prefix ?? ""): Promise<StoreEntry[]> {
  return scope.soon(drained(face.list(prefix)), "list");
}

async function keysBelow(scope: Scope, session: Session, prefix?: string): Promise<string[]> {
  return (await listed(scope, session, prefix)).map(({ key }) => key);
}
