import type { MemoryProvider } from "../../providers/testing.js";
import { pvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";

/** What all sessions of one faulty provider share. */
export interface Shared {
  /** For faults that count or lock. */
  count: number;
  /** For faults that remember. */
  readonly map: Map<string, Uint8Array>;
}

/** The hooks of a sound store, bound, and all of them present. */
export type Sound = Required<
  Pick<
    ProviderStore,
    "read" | "write" | "delete" | "take" | "erase" | "insert" | "list" | "watch" | "facts" | "close"
  >
> &
  Pick<ProviderStore, "portable" | "capabilities">;

/** One seeded fault: what replaces the sound hooks. */
export type Fault = (
  sound: Sound,
  shared: Shared,
) => { [K in keyof ProviderStore]?: ProviderStore[K] | undefined };

/** A sound provider behind one seeded fault: conforming but for the clause that must notice. */
export class FaultyProvider implements Provider {
  readonly id: string = "memory";
  readonly type = "Memory";
  readonly #inner: MemoryProvider;
  readonly #fault: Fault;
  readonly #declared: Partial<Capabilities>;
  readonly #shared: Shared = { count: 0, map: new Map() };

  constructor(inner: MemoryProvider, fault: Fault, declared: Partial<Capabilities> = {}) {
    this.#inner = inner;
    this.#fault = fault;
    this.#declared = declared;
  }

  capabilities(): Capabilities {
    return { ...this.#inner.capabilities(), ...this.#declared };
  }

  async open(target: StoreTarget, call: Call): Promise<ProviderStore> {
    const store = await this.#inner.open(target, call);
    const sound: Sound = {
      capabilities: this.capabilities(),
      portable: store.portable,
      read: (key, own) => store.read(key, own),
      write: (key, value, own) => store.write(key, value, own),
      delete: (key, own) => store.delete(key, own),
      take: (key, own) => store.take(key, own),
      erase: (key, own, expected) => store.erase(key, own, expected),
      insert: (key, value, own) => store.insert(key, value, own),
      list: (prefix, own) => store.list(prefix, own),
      watch: (prefix, own, hooks) => store.watch(prefix, own, hooks),
      facts: (own) => store.facts(own),
      close: () => store.close(),
    };
    return { ...sound, ...this.#fault(sound, this.#shared) } as ProviderStore;
  }
}

/** A call that never ends: what a store that ignores its call behaves like. */
export const HEEDLESS = (): Call => new Call({ timeoutMs: Number.POSITIVE_INFINITY });

/** A fault in which a verb heeds neither signal nor deadline, or one of both. */
export function heedless(code: "ERR_ABORTED" | "ERR_TIMEOUT", call: Call): Call {
  try {
    call.check();
  } catch (error) {
    if ((error as { code?: string }).code === code) return HEEDLESS();
  }
  return call;
}

/** Errors that faults throw. */
export const busy = (): Error => pvbusError("ERR_BUSY", "held by a listing that nobody ended");
