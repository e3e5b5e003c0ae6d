import assert from "node:assert/strict";
import type { AddClause } from "./scope.js";
import { faceVerb, VERBS } from "./session.js";

/** Clauses on what a provider declares and how its sessions live. */
export function contractClauses(clause: AddClause): void {
  clause("declares the same capabilities before and while it is open", [], async (scope, { store }) => {
    const { provider, target } = scope.subject;
    const declared = structuredClone(store.capabilities);
    const before = provider === undefined ? declared : structuredClone(provider.capabilities(target));
    assert.deepEqual(before, declared, "before and after opening");
    const { face } = await scope.session();
    if (scope.has("read")) await scope.outcome(() => face.read(scope.anyKey()), "read");
    if (scope.has("write")) await scope.outcome(() => face.write(scope.key(), "v"), "write");
    assert.deepEqual(structuredClone(store.capabilities), declared, "after use");
  });

  clause("has exactly the verbs that it declares", [], async (_, { store }) => {
    for (const verb of VERBS) {
      const declared = store.capabilities[verb];
      assert.equal(typeof declared, "boolean", `capabilities.${verb}`);
      assert.equal(typeof store[verb] === "function", declared, `${verb}: declared and present`);
    }
  });

  clause("declares a verb exactly where one of its pools has it", ["pools"], async ({ capabilities }) => {
    const pools = Object.values(capabilities.pools ?? {});
    for (const verb of VERBS) {
      const has = pools.some((pool) => pool[verb]);
      assert.equal(has, capabilities[verb], `${verb}: of the store and of its pools`);
    }
  });

  clause("refuses undeclared verbs with ERR_NOT_SUPPORTED", [], async (scope, { face }) => {
    const shape = { codes: ["ERR_NOT_SUPPORTED"], named: true } as const;
    for (const verb of VERBS.filter((each) => !scope.has(each)))
      await scope.refused(verb, () => faceVerb(verb, face, "any"), shape);
  });

  clause("has an id in lower case and a type", ["provider"], async ({ subject: { provider } }) => {
    assert.match(provider?.id ?? "", /^[a-z][a-z0-9-]*$/);
    assert.match(provider?.type ?? "", /\S/);
  });

  clause("keeps a session open when another one is closed", ["read", "sessions"], async (scope, first) => {
    const second = await scope.session();
    await scope.soon(first.store.close(), "closing");
    await scope.soon(second.face.read(scope.anyKey()), "reading in the other session");
  });

  clause("closes twice without an error", [], async (scope, { store }) => {
    await scope.soon(store.close(), "closing");
    await scope.soon(store.close(), "closing again");
  });

  clause("gives facts as text", ["facts"], async (scope, { face }) => {
    const { other = {}, ...named } = await scope.soon(face.facts(), "facts");
    for (const [name, value] of Object.entries({ ...other, ...named }))
      assert.equal(typeof value, "string", `fact ${name}`);
  });
}
