import assert from "node:assert/strict";
import { PortableView } from "../../bus/portable/view.js";
import type { AddClause } from "./scope.js";
import { NAMESPACE } from "./trait.js";

const GUEST_KEYS = ["read", "write", "guestKeys"] as const;
const LISTED_KEYS = ["read", "write", "list", "guestKeys", "places"] as const;
const HOST_KEYS = ["read", "hostKeys"] as const;

/** Clauses on where a store keeps portable keys. */
export function portableClauses(clause: AddClause): void {
  clause("publishes short and split values", GUEST_KEYS, async (scope, { store, face }) => {
    const chunkBytes = store.portable?.chunkBytes ?? 0;
    const view = new PortableView(face, NAMESPACE);
    for (const value of ["short", "0123456789".repeat(chunkBytes / 4), "short again"]) {
      await scope.soon(view.publish("value", value), "publish");
      const other = new PortableView((await scope.session()).face, NAMESPACE);
      const found = await scope.soon(other.published("value"), "published");
      assert.ok(found === value, `${value.length} characters`);
    }
    await scope.soon(view.unpublish("value"), "unpublish");
    assert.equal(await scope.soon(view.published("value"), "published"), undefined);
  });

  clause("lists what was published under its name, whole", LISTED_KEYS, async (scope, { store, face }) => {
    const view = new PortableView(face, NAMESPACE);
    const long = "0123456789".repeat((store.portable?.chunkBytes ?? 0) / 4);
    await scope.soon(view.publish("listed.one", "short"), "publish");
    await scope.soon(view.publish("listed.two", long), "publish");
    const found = new Map<string, string | undefined>();
    for await (const { name, value } of view.list()) found.set(name, value);
    const others = [...found.keys()].filter((name) => !name.startsWith("listed."));
    assert.deepEqual(others, [], "other names");
    assert.equal(found.get("listed.one"), "short");
    assert.ok(found.get("listed.two") === long, "a split value");
    for (const name of found.keys()) await scope.soon(view.unpublish(name), "unpublish");
  });

  clause("looks for the host's values under keys that it can read", HOST_KEYS, async (scope, session) => {
    const keys = session.store.portable?.hostKeys(NAMESPACE, "absent") ?? [];
    assert.ok(keys.length > 0, "hostKeys gives none");
    const view = new PortableView(session.face, NAMESPACE);
    assert.equal(await scope.soon(view.get("absent"), "get"), undefined);
  });
}
