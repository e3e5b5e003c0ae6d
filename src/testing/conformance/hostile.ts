import assert from "node:assert/strict";
import type { PvbusErrorCode } from "../../base/errors.js";
import type { Clauses } from "./clauses.js";
import { assertFailure } from "./expect.js";
import type { Scope } from "./scope.js";
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
export function hostileClauses(clauses: Clauses): void {
  clauses.group("hostile", () => {
    for (const [name, text] of HOSTILE_TEXTS) {
      clauses.clause(`survives ${name} as a key in every verb`, [], async (scope) => {
        const session = await scope.session();
        const witness = await Witness.of(scope, session);
        const placed = scope.keys.writable?.(text);
        for (const key of placed === undefined ? [text] : [text, placed]) {
          await tryReading(scope, session, key, name);
          if (scope.has("write", "read")) await tryWriting(scope, session, key, name);
        }
        await witness.unchanged(`a key with ${name}`);
      });

      clauses.clause(`survives ${name} as a value`, ["write", "read"], async (scope) => {
        const session = await scope.session();
        const key = scope.key();
        await scope.soon(session.face.write(key, "old"), "write");
        const witness = await Witness.of(scope, session);
        const outcome = await scope.outcome(() => session.face.write(key, text), `write of ${name}`);
        if ("error" in outcome) {
          assertFailure(outcome.error, { codes: VALUE_CODES, key, named: true }, `a value with ${name}`);
        } else assert.ok(text.isWellFormed(), "text without an encoding was written");
        await scope.holds(key, "error" in outcome ? "old" : text, `a value with ${name}`);
        await witness.unchanged(`a value with ${name}`);
      });
    }

    clauses.clause("refuses an empty key with ERR_KEY_INVALID", [], async (scope) => {
      const { face } = await scope.session();
      for (const verb of (["read", "write", "delete"] as const).filter((each) => scope.has(each))) {
        const shape = { codes: ["ERR_KEY_INVALID"], named: true } as const;
        await scope.refused(`${verb} of an empty key`, () => faceVerb(verb, face, ""), shape);
      }
    });
  });
}

/** Verbs that change nothing, or remove what is not there: any answer but an exception of another kind. */
async function tryReading(scope: Scope, { face }: Session, key: string, name: string): Promise<void> {
  for (const verb of (["read", "delete", "list"] as const).filter((each) => scope.has(each))) {
    const operation = (): Promise<unknown> =>
      verb === "list" ? drained(face.list(key)) : faceVerb(verb, face, key);
    const outcome = await scope.outcome(operation, `${verb} of ${name}`);
    if ("error" in outcome)
      assertFailure(outcome.error, { codes: KEY_CODES, named: true }, `${verb} of ${name}`);
    else if (verb === "read") assert.equal(outcome.value, undefined, `${name}: read what nobody wrote`);
  }
}

async function tryWriting(scope: Scope, { face }: Session, key: string, name: string): Promise<void> {
  const outcome = await scope.outcome(() => face.write(key, "hostile"), `write under ${name}`);
  if ("error" in outcome)
    return assertFailure(outcome.error, { codes: KEY_CODES, named: true }, `write under ${name}`);
  assert.ok(key.isWellFormed(), "a key without an encoding was written");
  await scope.holds(key, "hostile", `writing under ${name}`);
  // A key elsewhere, such as an absolute path, need not be in the listing.
  if (scope.has("list") && key.startsWith(scope.keys.prefix ?? "")) {
    const keys = (await scope.soon(drained(face.list("")), "list")).map((entry) => entry.key);
    const listed = scope.keys.listed?.(key) ?? key;
    assert.equal(
      keys.filter((each) => each === listed).length,
      1,
      `${name}: times of the key in the listing`,
    );
  }
  if (scope.has("delete"))
    assert.equal(await scope.soon(face.delete(key), "delete"), true, `delete of ${name}`);
}

/** What must stay as it is: a neighbour, the given pairs and the set of keys. */
class Witness {
  readonly #scope: Scope;
  readonly #session: Session;
  readonly #pairs = new Map<string, string>();
  #names: readonly string[] = [];

  private constructor(scope: Scope, session: Session) {
    this.#scope = scope;
    this.#session = session;
  }

  static async of(scope: Scope, session: Session): Promise<Witness> {
    const witness = new Witness(scope, session);
    for (const [key, value] of Object.entries(scope.keys.given ?? {})) witness.#pairs.set(key, value);
    if (scope.has("write") && scope.keys.writable) {
      const key = scope.key();
      await scope.soon(session.face.write(key, "witness"), "write");
      witness.#pairs.set(key, "witness");
    }
    witness.#names = await witness.#listed();
    return witness;
  }

  async unchanged(what: string): Promise<void> {
    for (const [key, value] of this.#pairs) await this.#scope.holds(key, value, what);
    if (this.#scope.has("delete")) assert.deepEqual(await this.#listed(), this.#names, `keys after ${what}`);
  }

  async #listed(): Promise<string[]> {
    if (!this.#scope.has("list")) return [];
    const { prefix = "" } = this.#scope.keys;
    const entries = await this.#scope.soon(drained(this.#session.face.list(prefix)), "list");
    return entries.map(({ key }) => key).toSorted();
  }
}
