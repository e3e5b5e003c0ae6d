import assert from "node:assert/strict";
import { Call } from "../../base/flow/call.js";
import type { Capabilities, Verbs } from "../../contract/capabilities.js";
import type { ProviderStore } from "../../contract/store.js";
import { assertFailure, type FailureShape, type Outcome, settle, soon } from "./expect.js";
import { type Session, sessionOf } from "./session.js";
import type { ConformanceKeys, ConformanceSubject, ConformanceTrait } from "./subject.js";

export interface Running {
  /** The subject; set before the first test. */
  subject: ConformanceSubject;
  capabilities: Capabilities;
  traits: ReadonlySet<ConformanceTrait>;
  readonly patienceMs: number;
  readonly parallel: number;
  labels: number;
}

/**
 * Adds a clause to the present group.
 * @param need what it is about: it is no test of a store without that
 * @param body gets a session that is open already
 */
export type AddClause = (
  title: string,
  need: readonly ConformanceTrait[],
  body: (scope: Scope, session: Session) => Promise<void>,
) => void;

export function openStore({ subject, patienceMs }: Running): Promise<ProviderStore> {
  const { provider, open, target = {} } = subject;
  const opening = async (): Promise<ProviderStore> => {
    if (open !== undefined) return open();
    assert.ok(provider, "the subject must have a provider or open()");
    return provider.open(target, new Call({ timeoutMs: patienceMs }));
  };
  return soon(opening(), patienceMs, "the opening of the store");
}

/** One running test: its sessions and keys, and the checks that several tests share. */
export class Scope {
  readonly running: Running;
  readonly #sessions: Session[] = [];
  readonly #written = new Set<string>();
  readonly #givenByHost = new Set<string>();

  constructor(running: Running) {
    this.running = running;
  }

  get capabilities(): Capabilities {
    return this.running.capabilities;
  }

  get subject(): ConformanceSubject {
    return this.running.subject;
  }

  get keys(): ConformanceKeys {
    return this.subject.keys;
  }

  /** Opens one more session, closed when the test ends; where the transport takes one at a time it is the first one. */
  async session(): Promise<Session> {
    return (this.subject.exclusive ? this.#sessions[0] : undefined) ?? this.#open();
  }

  /** Returns a new writable key; removed when the test ends. */
  key(suffix = ""): string {
    assert.ok(this.keys.writable, "the store can write: the subject must have keys.writable");
    const key = this.keys.writable(`c${this.running.labels++}${suffix}`);
    this.#written.add(key);
    return key;
  }

  /** Returns a writable key whose counted part has `length` one-byte characters. */
  keyOfLength(length: number): string {
    const front = this.keys.uncounted ?? "";
    const short = this.key().length - front.length;
    return this.key("k".repeat(Math.max(0, length - short))).slice(0, front.length + length);
  }

  /** Returns a key for verbs that need not find anything. */
  anyKey(): string {
    if (this.keys.writable) return this.key();
    const key = Object.keys(this.keys.given ?? {})[0] ?? this.keys.readOnly?.[0];
    assert.ok(key, "the subject must have keys.writable or keys.given");
    return key;
  }

  /** Longest key of one-byte characters that the store declares to take; undefined where it declares no limit. */
  get longestKey(): number | undefined {
    const { maxKeyUnits, maxKeyBytes } = this.capabilities.limits ?? {};
    return smallest(maxKeyUnits, maxKeyBytes);
  }

  /** Longest text of one-byte characters that the store declares to take; undefined where it declares no limit. */
  get longestAscii(): number | undefined {
    const { maxValueUnits, maxValueBytes } = this.capabilities.limits ?? {};
    return smallest(maxValueUnits, maxValueBytes);
  }

  /** Text of three-byte characters that just fits, filled up with one-byte characters. */
  get longestNonAscii(): string | undefined {
    const { maxValueUnits = Infinity, maxValueBytes = Infinity } = this.capabilities.limits ?? {};
    const euros = Math.floor(Math.min(maxValueUnits, maxValueBytes / 3));
    if (euros === Infinity) return undefined;
    const rest = Math.min(maxValueUnits - euros, maxValueBytes - 3 * euros);
    return "\u20ac".repeat(euros) + "x".repeat(rest);
  }

  /** Returns a new key of the host's; removed when the test ends. */
  hostKey(): string {
    const key = this.subject.host?.key(`h${this.running.labels++}`);
    assert.ok(key, "the subject must have host.key");
    this.#givenByHost.add(key);
    return key;
  }

  /** Has the host set a key, or remove it. */
  async hostSets(key: string, value: string | undefined): Promise<void> {
    await this.soon(Promise.resolve(this.subject.host?.set(key, value)), `the host's change of ${key}`);
  }

  /** Looks until something is as it should be: what a host has set may be on its way. */
  async comes<T>(what: string, look: () => Promise<T>, fits: (found: T) => boolean): Promise<void> {
    const call = this.patience();
    for (;;) {
      const found = await this.soon(look(), what);
      if (fits(found)) return;
      const waited = await settle(() => call.sleep(LOOK_MS, what));
      if ("error" in waited)
        assert.fail(`${what}: not within ${this.running.patienceMs} ms, but ${shownFound(found)}`);
    }
  }

  /** Returns a call that waits, but not for ever. */
  patience(): Call {
    return new Call({ timeoutMs: this.running.patienceMs });
  }

  /** Waits, but not for ever. */
  soon<T>(promise: Promise<T>, what: string): Promise<T> {
    return soon(promise, this.running.patienceMs, what);
  }

  /** Runs an operation to its end, but not for ever. */
  outcome<T>(operation: () => Promise<T>, what: string): Promise<Outcome<T>> {
    return this.soon(settle(operation), what);
  }

  /** Runs an operation that may be refused, but only as the shape says. */
  async mayRefuse<T>(what: string, operation: () => Promise<T>, shape: FailureShape): Promise<Outcome<T>> {
    const outcome = await this.outcome(operation, what);
    if ("error" in outcome) assertFailure(outcome.error, shape, what);
    return outcome;
  }

  /** Checks that an operation is refused as it must be. */
  async refused(what: string, operation: () => Promise<unknown>, shape: FailureShape): Promise<void> {
    const outcome = await this.mayRefuse(what, operation, shape);
    if ("value" in outcome) assert.fail(`${what}: expected ${shape.codes.join(" or ")}, but it succeeded`);
  }

  /** Checks what a fresh session reads under a key; undefined: nothing. */
  async holds(key: string, value: string | undefined, what: string): Promise<void> {
    if (!this.capabilities.read) return;
    const { face } = await this.session();
    const found = await this.soon(face.read(key), `reading after ${what}`);
    assert.ok(found === value, `${what}: expected ${shown(value)}, found ${shown(found)}`);
  }

  /** Reports whether the store declares all of the verbs. */
  has(...verbs: readonly (keyof Verbs)[]): boolean {
    return verbs.every((verb) => this.capabilities[verb]);
  }

  /** Reports whether the test can write under keys of its own. */
  get canWrite(): boolean {
    return this.has("write") && this.keys.writable !== undefined;
  }

  /** Removes what the test wrote and closes its sessions. */
  async end(): Promise<void> {
    if (this.has("delete") && this.#written.size > 0) {
      if (this.subject.exclusive) await this.#sessions[0]?.store.close();
      const { face } = await this.#open();
      for (const key of this.#written) await this.outcome(() => face.delete(key), "tidying up");
    }
    for (const key of this.#givenByHost)
      await this.outcome(() => this.hostSets(key, undefined), "tidying up");
    for (const { face, store } of this.#sessions) {
      await this.outcome(() => face.close(), "closing");
      await this.outcome(() => store.close(), "closing");
    }
  }

  async #open(): Promise<Session> {
    const session = sessionOf(await openStore(this.running), this.subject.provider);
    this.#sessions.push(session);
    return session;
  }
}

function smallest(a = Infinity, b = Infinity): number | undefined {
  const least = Math.min(a, b);
  return least === Infinity ? undefined : least;
}

/** Time between two looks for what the host has set. */
const LOOK_MS = 5;

function shownFound(found: unknown): string {
  return typeof found === "string" || found === undefined
    ? shown(found)
    : JSON.stringify(found).slice(0, 200);
}

function shown(value: string | undefined): string {
  if (value === undefined) return "nothing";
  return value.length > 60
    ? `${JSON.stringify(value.slice(0, 60))}… (${value.length} units)`
    : JSON.stringify(value);
}
