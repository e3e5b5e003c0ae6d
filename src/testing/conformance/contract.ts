import assert from "node:assert/strict";
import type { Clauses } from "./clauses.js";
import { faceVerb, VERBS } from "./session.js";

/** Clauses on what a provider declares and how its sessions live. */
export function contractClauses(clauses: Clauses): void {
  clauses.group("contract", () => {
    clauses.clause("declares the same capabilities before and while it is open", [], async (scope) => {
      const { provider, target } = scope.subject;
      const { store } = await scope.session();
      const declared = structuredClone(store.capabilities);
      if (provider !== undefined) {
        assert.deepEqual(
          structuredClone(provider.capabilities(target)),
          declared,
          "before and after opening",
        );
      }
      const { face } = await scope.session();
      if (scope.has("read")) await scope.outcome(() => face.read(scope.anyKey()), "read");
      if (scope.has("write")) await scope.outcome(() => face.write(scope.key(), "v"), "write");
      assert.deepEqual(structuredClone(store.capabilities), declared, "after use");
    });

    clauses.clause("has exactly the verbs that it declares", [], async (scope) => {
      const { store } = await scope.session();
      for (const verb of VERBS) {
        assert.equal(typeof store.capabilities[verb], "boolean", `capabilities.${verb}`);
        assert.equal(
          typeof store[verb] === "function",
          store.capabilities[verb],
          `${verb}: declared and present`,
        );
      }
    });

    clauses.clause("declares a verb exactly where one of its pools has it", ["pools"], async (scope) => {
      const pools = Object.values(scope.capabilities.pools ?? {});
      for (const verb of VERBS) {
        assert.equal(
          pools.some((pool) => pool[verb]),
          scope.capabilities[verb],
          `${verb}: of the store and of its pools`,
        );
      }
    });

    clauses.clause("refuses undeclared verbs with ERR_NOT_SUPPORTED", [], async (scope) => {
      const { face } = await scope.session();
      for (const verb of VERBS.filter((each) => !scope.has(each))) {
        const codes = ["ERR_NOT_SUPPORTED"] as const;
        await scope.refused(verb, () => faceVerb(verb, face, "any"), { codes, named: true });
      }
    });

    clauses.clause("has an id in lower case and a type", ["provider"], async (scope) => {
      assert.match(scope.subject.provider?.id ?? "", /^[a-z][a-z0-9-]*$/);
      assert.match(scope.subject.provider?.type ?? "", /\S/);
    });

    clauses.clause("keeps a session open when another one is closed", ["read", "sessions"], async (scope) => {
      const first = await scope.session();
      const second = await scope.session();
      await scope.soon(first.store.close(), "closing");
      await scope.soon(second.face.read(scope.anyKey()), "reading in the other session");
    });

    clauses.clause("closes twice without an error", [], async (scope) => {
      const { store } = await scope.session();
      await scope.soon(store.close(), "closing");
      await scope.soon(store.close(), "closing again");
    });

    clauses.clause("gives facts as text", ["facts"], async (scope) => {
      const { face } = await scope.session();
      const { other = {}, ...named } = await scope.soon(face.facts(), "facts");
      for (const [name, value] of Object.entries({ ...other, ...named })) {
        assert.equal(typeof value, "string", `fact ${name}`);
      }
    });
  });
}
