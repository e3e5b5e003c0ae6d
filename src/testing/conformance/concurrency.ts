import assert from "node:assert/strict";
import type { Clauses } from "./clauses.js";
import { drained } from "./session.js";

/** Clauses on operations at the same time. */
export function concurrencyClauses(clauses: Clauses): void {
  clauses.group("concurrency", () => {
    clauses.clause("keeps all of many parallel writes to distinct keys", ["read", "write"], async (scope) => {
      const first = await scope.session();
      const second = await scope.another(first);
      const keys = Array.from({ length: scope.parallel }, () => scope.key());
      const face = (at: number): typeof first.face => (at % 2 === 0 ? first.face : second.face);
      await scope.soon(
        Promise.all(keys.map((key, at) => face(at).write(key, `value ${at}`))),
        "parallel writes",
      );
      for (const [at, key] of keys.entries()) await scope.holds(key, `value ${at}`, "parallel writes");
    });

    clauses.clause(
      "leaves one whole value of parallel writes to one key",
      ["read", "write"],
      async (scope) => {
        const first = await scope.session();
        const second = await scope.another(first);
        const key = scope.key();
        const values = Array.from({ length: 10 }, (_, at) => `${at}`.repeat(at * 10 + 1));
        const face = (at: number): typeof first.face => (at % 2 === 0 ? first.face : second.face);
        await scope.soon(
          Promise.all(values.map((value, at) => face(at).write(key, value))),
          "parallel writes",
        );
        const found = await scope.soon(first.face.read(key), "read");
        assert.ok(values.includes(found ?? ""), `a value that nobody wrote: ${found}`);
        await scope.holds(key, found, "parallel writes");
      },
    );

    clauses.clause("lets many calls share a signal, without a warning of Node's", ["read"], async (scope) => {
      const { face } = await scope.session();
      const key = scope.anyKey();
      const { signal } = new AbortController();
      const warnings: string[] = [];
      const note = ({ name, message }: Error): void => {
        if (name === "MaxListenersExceededWarning") warnings.push(message);
      };
      process.on("warning", note);
      try {
        const reads = Array.from({ length: 30 }, () => face.read(key, { signal }));
        await scope.soon(Promise.all(reads), "reads under one signal");
        if (scope.has("list")) {
          const listings = Array.from({ length: 15 }, () =>
            drained(face.list(scope.keys.prefix, { signal })),
          );
          await scope.soon(Promise.all(listings), "listings under one signal");
        }
        // Warnings come behind the present turn.
        await new Promise(setImmediate);
      } finally {
        process.off("warning", note);
      }
      assert.deepEqual(warnings, []);
    });

    clauses.clause("gives whole values to readers during writes", ["read", "write"], async (scope) => {
      const writer = await scope.session();
      const reader = await scope.another(writer);
      const key = scope.key();
      const values = ["a".repeat(100), "b".repeat(40)] as const;
      await scope.soon(writer.face.write(key, values[0]), "write");
      const writing = (async () => {
        for (let round = 0; round < scope.parallel; round++)
          await writer.face.write(key, values[round % 2 ? 0 : 1]);
      })();
      const reading = (async () => {
        for (let round = 0; round < scope.parallel; round++) {
          const found = await reader.face.read(key);
          assert.ok(
            found === values[0] || found === values[1],
            `neither the old nor the new value: ${found}`,
          );
        }
      })();
      await scope.soon(Promise.all([writing, reading]), "reads during writes");
    });
  });
}
