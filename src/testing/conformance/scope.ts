import assert from "node:assert/strict";
import { Call } from "../../base/flow/call.js";
import type { Capabilities, Verbs } from "../../contract/capabilities.js";
import type { ProviderStore } from "../../contract/store.js";
import { assertFailure, type FailureShape, type Outcome, settle, soon } from "./expect.js";
import { type Session, sessionOf } from "./session.js";
import type { ConformanceKeys, ConformanceSubject, ConformanceTrait } from "./subject.js";

/** What the suite knows while it runs. */
export interface Running {
  /** The subject; set before the first test. */
  subject: ConformanceSubject;
  /** What its store declares. */
  capabilities: Capabilities;
  /** What the store and its subject have. */
  traits: ReadonlySet<ConformanceTrait>;
  /** Longest wait for anything. */
  readonly patienceMs: number;
  /** Number of parallel writes. */
  readonly parallel: number;
  /** Number of labels given out. */
  labels: number;
}

/** Opens one more session's store. */
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
  readonly #running: Running;
  readonly #sessions: Session[] = [];
  readonly #written = new Set<string>();

  /** @param running the run that the test belongs to */
  constructor(running: Running) {
    this.#running = running;
  }

  /** What the store declares. */
  get capabilities(): Capabilities {
    return this.#running.capabilities;
  }

  /** The subject's sample keys. */
  get keys(): ConformanceKeys {
    return this.#running.subject.keys;
  }

  /** The subject itself. */
  get subject(): ConformanceSubject {
    return this.#running.subject;
  }

  /** Longest wait in milliseconds. */
  get patienceMs(): number {
    return this.#running.patienceMs;
  }

  /** Number of parallel writes. */
  get parallel(): number {
    return this.#running.parallel;
  }

  /** Opens a session; closed when the test ends. */
  async session(): Promise<Session> {
    const session = sessionOf(await openStore(this.#running), this.subject.provider);
    this.#sessions.push(session);
    return session;
  }

  /** Returns another session than `first`, or `first` itself where the transport takes one at a time. */
  async another(first: Session): Promise<Session> {
    return this.subject.exclusive ? first : this.session();
  }

  /** Returns a new writable key; removed when the test ends. */
  key(suffix = ""): string {
    return this.keyOf(`c${this.#running.labels++}${suffix}`);
  }

  /** Returns the writable key of a label. */
  keyOf(label: string): string {
    assert.ok(this.keys.writable, "the store can write: the subject must have keys.writable");
    const key = this.keys.writable(label);
    this.#written.add(key);
    return key;
  }

  /** Returns a key for verbs that need not find anything. */
  anyKey(): string {
    if (this.keys.writable) return this.key();
    const key = Object.keys(this.keys.given ?? {})[0] ?? this.keys.readOnly?.[0];
    assert.ok(key, "the subject must have keys.writable or keys.given");
    return key;
  }

  /** Waits, but not for ever. */
  soon<T>(promise: Promise<T>, what: string): Promise<T> {
    return soon(promise, this.patienceMs, what);
  }

  /** Runs an operation to its end, but not for ever. */
  outcome<T>(operation: () => Promise<T>, what: string): Promise<Outcome<T>> {
    return this.soon(settle(operation), what);
  }

  /** Checks that an operation is refused as it must be. */
  async refused(what: string, operation: () => Promise<unknown>, shape: FailureShape): Promise<void> {
    const outcome = await this.outcome(operation, what);
    if ("value" in outcome) assert.fail(`${what}: expected ${shape.codes.join(" or ")}, but it succeeded`);
    assertFailure(outcome.error, shape, what);
  }

  /** Checks what a fresh session reads under a key; undefined: nothing. */
  async holds(key: string, value: string | undefined, what: string): Promise<void> {
    if (!this.capabilities.read) return;
    const { face } = this.subject.exclusive ? this.#first() : await this.session();
    const found = await this.soon(face.read(key), `reading after ${what}`);
    assert.ok(found === value, `${what}: expected ${shown(value)}, found ${shown(found)}`);
  }

  /** Reports whether the store declares all of the verbs. */
  has(...verbs: readonly (keyof Verbs)[]): boolean {
    return verbs.every((verb) => this.capabilities[verb]);
  }

  /** Removes what the test wrote and closes its sessions. */
  async end(): Promise<void> {
    if (this.has("delete") && this.#written.size > 0) {
      const { face } = await this.#fresh();
      for (const key of this.#written)
        await soon(
          settle(() => face.delete(key)),
          this.patienceMs,
          "tidying up",
        );
    }
    for (const { face, store } of this.#sessions) {
      await soon(
        settle(() => face.close()),
        this.patienceMs,
        "closing",
      );
      await soon(
        settle(() => store.close()),
        this.patienceMs,
        "closing",
      );
    }
  }

  #first(): Session {
    const first = this.#sessions[0];
    assert.ok(first, "the test opened no session");
    return first;
  }

  async #fresh(): Promise<Session> {
    if (this.subject.exclusive) await this.#sessions.at(0)?.store.close();
    return this.session();
  }
}

function shown(value: string | undefined): string {
  if (value === undefined) return "nothing";
  return value.length > 60
    ? `${JSON.stringify(value.slice(0, 60))}… (${value.length} units)`
    : JSON.stringify(value);
}
