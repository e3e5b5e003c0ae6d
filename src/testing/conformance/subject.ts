import type { Verbs } from "../../contract/capabilities.js";
import type { Provider, StoreTarget } from "../../contract/provider.js";
import type { ProviderStore } from "../../contract/store.js";

/** What a store or its subject may have or lack, and clauses may need; each verb, and what TRAITS says of the others. */
export type ConformanceTrait =
  | keyof Verbs
  | "binary"
  | "text"
  | "valueLimit"
  | "keyLimit"
  | "pools"
  | "facts"
  | "guestKeys"
  | "hostKeys"
  | "places"
  | "hostChanges"
  | "erase"
  | "take"
  | "insert"
  | "provider"
  | "sessions"
  | "prefix"
  | "given"
  | "readOnly"
  | "writableKeys";

/** Sample native keys of a subject: all that the suite cannot know by itself. */
export interface ConformanceKeys {
  /**
   * Returns a writable key for a label, `(label) => "guest/" + label`. Labels are short and of a-z and 0-9, except in the
   * hostile tests, where the key may well be impossible. Needed where the store can write.
   */
  readonly writable?: ((label: string) => string) | undefined;
  /** Returns the key under which a listing has one that can be written in several ways; default: the same. */
  readonly listed?: ((key: string) => string) | undefined;
  /** What to list and watch so that all writable keys are found; default: everything. */
  readonly prefix?: string | undefined;
  /** Front of the writable keys that the declared limits do not count, such as a pool's name with its slash. */
  readonly uncounted?: string | undefined;
  /** Pairs that are there already and stay unchanged; needed where the store cannot write. */
  readonly given?: Readonly<Record<string, string>> | undefined;
  /** Keys that the guest may read but not change; each of them rejects with `ERR_READ_ONLY`. */
  readonly readOnly?: readonly string[] | undefined;
}

/** What the administrator of the subject's host does. Without it nothing of a store that the guest cannot write is seen to change. */
export interface ConformanceHost {
  /** Returns the native key of a label, of a-z and 0-9, that the host can set and the guest can read: `host/c1`. */
  key(label: string): string;
  /** Sets a key, or removes it with undefined; resolves when the host has it. */
  set(key: string, value: string | undefined): Promise<void> | void;
  /** What to list and watch so that all of these keys are found; default: everything. */
  readonly prefix?: string | undefined;
}

/**
 * What is examined. Either `provider` (with `target` where it needs one) or `open` says how sessions come about; with a
 * provider its promises before opening are examined too.
 */
export interface ConformanceSubject {
  /** The provider; every session is opened by it. */
  readonly provider?: Provider | undefined;
  /** How the provider opens; default: as it chooses. */
  readonly target?: StoreTarget | undefined;
  /** Opens one more session with the same pairs, independent of the others. */
  readonly open?: (() => Promise<ProviderStore>) | undefined;
  /** Sample keys. */
  readonly keys: ConformanceKeys;
  /** How the host changes a key: then reads, listings and watches must see it. */
  readonly host?: ConformanceHost | undefined;
  /** The transport takes one session at a time: "another session" is then the same one. */
  readonly exclusive?: boolean | undefined;
  /** The host keeps any bytes; looked at where the store's capabilities leave that to the host. */
  readonly binary?: boolean | undefined;
  /** Removes what was set up; called once after the last test. */
  cleanup?(): Promise<void> | void;
}

/** Creates the subject of one run of the suite, before its first test. */
export type MakeConformanceSubject = () => Promise<ConformanceSubject> | ConformanceSubject;

/** The part of a test runner that the suite uses: mocha, `node:test`, jest and vitest have it. */
export interface ConformanceRunner {
  /** Groups tests; calls the body at once. */
  describe(title: string, body: () => void): unknown;
  /** Adds a test. Where `this` or the first argument has `skip()`, tests that do not apply are skipped with it. */
  it(title: string, body: (this: unknown, ...context: unknown[]) => Promise<void>): unknown;
  /** Runs once before the tests of the group. */
  before(body: () => Promise<void>): unknown;
  /** Runs once after the tests of the group, whatever their outcome. */
  after(body: () => Promise<void>): unknown;
}

/** Options of `describeProviderConformance`. */
export interface ConformanceOptions {
  /**
   * What the store does not have: clauses that need it are no test of it and are not there. Default: nothing; then such
   * clauses show as skipped and say what is missing. A trait that is there after all fails the suite.
   */
  readonly without?: readonly ConformanceTrait[] | undefined;
  /** The test runner; default: the global `describe`, `it`, `before` and `after`. */
  readonly runner?: ConformanceRunner | undefined;
  /** Longest wait in milliseconds for anything that the store must do; default 5000. */
  readonly patienceMs?: number | undefined;
  /** Number of parallel writes in the concurrency group; default 50. */
  readonly parallel?: number | undefined;
}
