import assert from "node:assert/strict";
import { PortableView } from "../../bus/portable/view.js";
import type { Clauses } from "./clauses.js";
import { NAMESPACE } from "./trait.js";

/** Clauses on where a store keeps portable keys. */
export function portableClauses(clauses: Clauses): void {
  clauses.group("portable keys", () => {
    clauses.clause("publishes short and split values", ["read", "write", "guestKeys"], async (scope) => {
      const { store, face } = await scope.session();
      const chunkBytes = store.portable?.chunkBytes ?? 0;
      const view = new PortableView(face, NAMESPACE);
      for (const value of ["short", "0123456789".repeat(chunkBytes / 4), "short again"]) {
        await scope.soon(view.publish("value", value), "publish");
        const other = new PortableView((await scope.another({ store, face })).face, NAMESPACE);
        assert.ok(
          (await scope.soon(other.published("value"), "published")) === value,
          `${value.length} characters`,
        );
      }
      await scope.soon(view.unpublish("value"), "unpublish");
      assert.equal(await scope.soon(view.published("value"), "published"), undefined);
    });

    clauses.clause(
      "lists what was published under its name, whole",
      ["read", "write", "list", "guestKeys", "places"],
      async (scope) => {
        const { store, face } = await scope.session();
        const view = new PortableView(face, NAMESPACE);
        const long = "0123456789".repeat((store.portable?.chunkBytes ?? 0) / 4);
        await scope.soon(view.publish("listed.one", "short"), "publish");
        await scope.soon(view.publish("listed.two", long), "publish");
        const found = new Map<string, string | undefined>();
        for await (const { name, value } of view.list()) found.set(name, value);
        assert.deepEqual(
          [...found.keys()].filter((name) => !name.startsWith("listed.")),
          [],
          "other names",
        );
        assert.equal(found.get("listed.one"), "short");
        assert.ok(found.get("listed.two") === long, "a split value");
        for (const name of found.keys()) await scope.soon(view.unpublish(name), "unpublish");
      },
    );

    clauses.clause(
      "looks for the host's values under keys that it can read",
      ["read", "hostKeys"],
      async (scope) => {
        const { store, face } = await scope.session();
        const keys = store.portable?.hostKeys(NAMESPACE, "absent") ?? [];
        assert.ok(keys.length > 0, "hostKeys gives none");
        assert.equal(await scope.soon(new PortableView(face, NAMESPACE).get("absent"), "get"), undefined);
      },
    );
  });
}
