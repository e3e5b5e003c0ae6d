import assert from "node:assert/strict";
import { PortableView } from "../../bus/portable/view.js";
import type { AddClause } from "./scope.js";
import { NAMESPACE } from "./trait.js";

/** Clauses on where a store keeps portable keys. */
export function portableClauses(clause: AddClause): void {
  clause(
    "publishes short and split values",
    ["read", "write", "guestKeys"],
    async (scope, { store, face }) => {
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
    },
  );

  clause(
    "looks for the host's values under keys that it can read",
    ["read", "hostKeys"],
    async (scope, { store, face }) => {
      const keys = store.portable?.hostKeys(NAMESPACE, "absent") ?? [];
      assert.ok(keys.length > 0, "hostKeys gives none");
      assert.equal(await scope.soon(new PortableView(face, NAMESPACE).get("absent"), "get"), undefined);
    },
  );
}
