import assert from "node:assert/strict";
import { PortableView } from "../../bus/portable/view.js";
import type { AddClause } from "./scope.js";
import { NAMESPACE } from "./trait.js";

const GUEST_KEYS = ["read", "write", "guestKeys"] as const;
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

  clause("looks for the host's values under keys that it can read", HOST_KEYS, async (scope, session) => {
    const keys = session.store.portable?.hostKeys(NAMESPACE, "absent") ?? [];
    assert.ok(keys.length > 0, "hostKeys gives none");
    const view = new PortableView(session.face, NAMESPACE);
    assert.equal(await scope.soon(view.get("absent"), "get"), undefined);
  });
}
