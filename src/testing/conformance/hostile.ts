import assert from "node:assert/strict";
import type { PvbusErrorCode } from "../../base/errors.js";
import type { AddClause, Scope } from "./scope.js";
import { drained, faceVerb, type Session } from "./session.js";

const MEBIBYTE = 1 << 20;

/** Labels, whole keys and values that have broken parsers, paths and objects before. */
export const HOSTILE_TEXTS: readonly (readonly [name: string, text: string])[] = [
  ["an empty text", ""],
  ["a NUL", "a\0b"],
  ["a lone high surrogate", "a\ud800"],
  ["a lone low surrogate", "\udc00a"],
  ["a newline", "a\nb"],
  ["a carriage return", "a\rb"],
  ["dots", ".."],
  ["a climbing path", "../../../../etc/hostname"],
  ["a doubled slash", "a//b"],
  ["a slash in front", "/a"],
  ["a slash at the end", "a/"],
  ["spaces", " a b "],
  ["a tab", "a\tb"],
  ["control characters", "\u0001\u0007\u001b[31m\u007f\u0085"],
  ["quotes and signs", "a=\"b\" 'c' #d \\e %s $f `g` *?"],
  ["__proto__", "__proto__"],
  ["constructor", "constructor"],
  ["a byte order mark", "\ufeffa"],
  ["a bidirectional override", "a\u202eb"],
  ["a non-character", "a\uffff"],
  ["letters of all scripts", "\u00e9\u0416\u4e2d\u{1f600}"],
  ["a mebibyte", "m".repeat(MEBIBYTE)],
  ["a mebibyte of long characters", "\u{1f600}".repeat(MEBIBYTE / 4)],
];

const KEY_CODES: readonly PvbusErrorCode[] = [
  "ERR_KEY_INVALID",
  "ERR_KEY_TOO_LONG",
  "ERR_READ_ONLY",
  "ERR_PERMISSION",
  "ERR_NO_SPACE",
  "ERR_NOT_SUPPORTED",
];
const VALUE_CODES: readonly PvbusErrorCode[] = ["ERR_VALUE_INVALID", "ERR_VALUE_TOO_LONG", "ERR_NO_SPACE"];

/** Clauses on hostile keys and values: a typed refusal or an exact round trip, and no change elsewhere. */
export function hostileClauses(clause: AddClause): void {
  for (const [name, text] of HOSTILE_TEXTS) {
    clause(`survives ${name} as a key in every verb`, [], async (scope, session) => {
      const unchanged = await witness(scope, session);
      const placed = scope.keys.writable?.(text);
      for (const key of placed === undefined ? [text] : [text, placed]) {
        await tryReading(scope, session, key, name);
        if (scope.has("write", "read")) await tryWriting(scope, session, key, name);
      }
      await unchanged(`a key with ${name}`);
    });

    clause(`survives ${name} as a value`, ["write", "read"], async (scope, session) => {
      const key = scope.key();
      await scope.soon(session.face.write(key, "old"), "write");
      const unchanged = await witness(scope, session);
      const what = `a value with ${name}`;
      const shape = { codes: VALUE_CODES, key, named: true };
      const outcome = await scope.mayRefuse(what, () => session.face.write(key, text), shape);
      assert.ok("error" in outcome || text.isWellFormed(), "text without an encoding was written");
      await scope.holds(key, "error" in outcome ? "old" : text, what);
      await unchanged(what);
    });
  }

  clause("refuses an empty key with ERR_KEY_INVALID", [], async (scope, { face }) => {
    const shape = { codes: ["ERR_KEY_INVALID"], named: true } as const;
    for (const verb of (["read", "write", "delete"] as const).filter((each) => scope.has(each)))
      await scope.refused(`${verb} of an empty key`, () => faceVerb(verb, face, ""), shape);
  });
}

/** Verbs that change nothing, or remove what is not there: any answer but an exception of another kind. */
async function tryReading(scope: Scope, { face }: Session, key: string, name: string): Promise<void> {
  for (const verb of (["read", "delete", "list"] as const).filter((each) => scope.has(each))) {
    const run = (): Promise<unknown> =>
      verb === "list" ? drained(face.list(key)) : faceVerb(verb, face, key);
    const outcome = await scope.mayRefuse(`${verb} of ${name}`, run, { codes: KEY_CODES, named: true });
    if (verb === "read" && "value" in outcome)
      assert.equal(outcome.value, undefined, `${name}: read what nobody wrote`);
  }
}

async function tryWriting(scope: Scope, { face }: Session, key: string, name: string): Promise<void> {
  const shape = { codes: KEY_CODES, named: true };
  const outcome = await scope.mayRefuse(`write under ${name}`, () => face.write(key, "hostile"), shape);
  if ("error" in outcome) return;
  assert.ok(key.isWellFormed(), "a key without an encoding was written");
  await scope.holds(key, "hostile", `writing under ${name}`);
  // A key elsewhere, such as an absolute path, need not be in the listing.
  if (scope.has("list") && key.startsWith(scope.keys.prefix ?? "")) {
    const entries = await scope.soon(drained(face.list("")), "list");
    const listed = scope.keys.listed?.(key) ?? key;
    const times = entries.filter((entry) => entry.key === listed).length;
    assert.equal(times, 1, `${name}: times of the key in the listing`);
  }
  if (scope.has("delete"))
    assert.equal(await scope.soon(face.delete(key), "delete"), true, `delete of ${name}`);
}

/** Returns what checks that all stays as it is: a neighbour, the given pairs and the set of keys. */
async function witness(scope: Scope, { face }: Session): Promise<(what: string) => Promise<void>> {
  const pairs = new Map(Object.entries(scope.keys.given ?? {}));
  if (scope.canWrite) {
    const key = scope.key();
    await scope.soon(face.write(key, "witness"), "write");
    pairs.set(key, "witness");
  }
  const names = async (): Promise<string[]> => {
    if (!scope.has("list")) return [];
    const entries = await scope.soon(drained(face.list(scope.keys.prefix ?? "")), "list");
    return entries.map(({ key }) => key).toSorted();
  };
  const before = await names();
  return async (what) => {
    for (const [key, value] of pairs) await scope.holds(key, value, what);
    if (scope.has("delete")) assert.deepEqual(await names(), before, `keys after ${what}`);
  };
}
