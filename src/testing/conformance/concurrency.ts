import assert from "node:assert/strict";
import type { AddClause } from "./scope.js";
import { drained } from "./session.js";

/** Clauses on operations at the same time. */
export function concurrencyClauses(clause: AddClause): void {
  clause("keeps all of many parallel writes to distinct keys", ["read", "write"], async (scope, first) => {
    const faces = [first.face, (await scope.session()).face] as const;
    const keys = Array.from({ length: scope.running.parallel }, () => scope.key());
    const writes = keys.map((key, at) => faces[at % 2 ? 1 : 0].write(key, `value ${at}`));
    await scope.soon(Promise.all(writes), "parallel writes");
    for (const [at, key] of keys.entries()) await scope.holds(key, `value ${at}`, "parallel writes");
  });

  clause("leaves one whole value of parallel writes to one key", ["read", "write"], async (scope, first) => {
    const faces = [first.face, (await scope.session()).face] as const;
    const key = scope.key();
    const values = Array.from({ length: 10 }, (_, at) => `${at}`.repeat(at * 10 + 1));
    const writes = values.map((value, at) => faces[at % 2 ? 1 : 0].write(key, value));
    await scope.soon(Promise.all(writes), "parallel writes");
    const found = await scope.soon(first.face.read(key), "read");
    assert.ok(values.includes(found ?? ""), `a value that nobody wrote: ${found}`);
    await scope.holds(key, found, "parallel writes");
  });

  clause("lets many calls share a signal, without a warning of Node's", ["read"], async (scope, { face }) => {
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
        const list = (): Promise<unknown> => drained(face.list(scope.keys.prefix, { signal }));
        await scope.soon(Promise.all(Array.from({ length: 15 }, list)), "listings under one signal");
      }
      // Warnings come behind the present turn.
      await new Promise(setImmediate);
    } finally {
      process.off("warning", note);
    }
    assert.deepEqual(warnings, []);
  });

  clause("gives whole values to readers during writes", ["read", "write"], async (scope, writer) => {
    const reader = await scope.session();
    const key = scope.key();
    const values = ["a".repeat(100), "b".repeat(40)] as const;
    const { parallel } = scope.running;
    await scope.soon(writer.face.write(key, values[0]), "write");
    const writing = async (): Promise<void> => {
      for (let round = 0; round < parallel; round++) await writer.face.write(key, values[round % 2 ? 0 : 1]);
    };
    const reading = async (): Promise<void> => {
      for (let round = 0; round < parallel; round++) {
        const found = await reader.face.read(key);
        const isWhole = found === values[0] || found === values[1];
        assert.ok(isWhole, `neither the old nor the new value: ${found}`);
      }
    };
    await scope.soon(Promise.all([writing(), reading()]), "reads during writes");
  });
}
