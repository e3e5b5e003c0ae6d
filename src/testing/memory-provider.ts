import { pvbusError } from "../base/errors.js";
import type { Call } from "../base/flow/call.js";
import type { Host } from "../base/host/host.js";
import type { Capabilities, Limits } from "../contract/capabilities.js";
import type { ProviderManifest } from "../contract/manifest.js";
import type { Provider, StoreTarget } from "../contract/provider.js";
import { manifestOf } from "./manifest.js";
import { MemoryRecords, MemoryStore } from "./memory-store.js";

/** What may differ from one {@link MemoryProvider} to the next. */
export interface MemorySettings {
  /** Sizes that stores accept; default: keys of 256 and values of 1024 bytes. */
  readonly limits?: Limits | undefined;
  /** What the host administrator has given already, by native key: `{ "host/name": "vm-1" }`. */
  readonly given?: Readonly<Record<string, string>> | undefined;
  /** Whether the guest can erase what the host gave, as on Xen with XAPI. Default false, as on Hyper-V. */
  readonly erasable?: boolean | undefined;
}

const DEFAULT_LIMITS: Limits = Object.freeze({ maxKeyBytes: 256, maxValueBytes: 1024 });
const ALL = Object.freeze({ read: true, write: true, delete: true, list: true, watch: true });
const READ_ONLY = Object.freeze({ read: true, write: false, delete: false, list: true, watch: true });

/**
 * A complete provider that keeps its pairs in memory: the example for authors of providers, and a store for the tests
 * of programs that use pvbus. Keys are `guest/<name>`, which the guest may change, and `host/<name>`, which only
 * {@link MemoryProvider.give} changes. All stores of one provider share the pairs.
 * @example
 * const bus = await openPvbus({ providers: [memoryManifest()], interfaces: [{ type: "Memory" }] });
 * await bus.primary?.write("guest/build", "1.2.3");
 */
export class MemoryProvider implements Provider {
  readonly id = "memory";
  readonly type = "Memory";
  readonly #records = new MemoryRecords();
  readonly #capabilities: Capabilities;
  readonly #erasable: boolean | undefined;

  /** @param _host not needed: the first argument that every provider class gets */
  constructor(_host?: Host, settings: MemorySettings = {}) {
    this.#erasable = settings.erasable;
    this.#capabilities = Object.freeze({
      ...ALL,
      limits: Object.freeze({ ...(settings.limits ?? DEFAULT_LIMITS) }),
      pools: Object.freeze({ guest: ALL, host: READ_ONLY }),
    });
    for (const [key, value] of Object.entries(settings.given ?? {})) this.give(key, value);
  }

  capabilities(): Capabilities {
    return this.#capabilities;
  }

  async open(target: StoreTarget, call: Call, closing?: AbortSignal): Promise<MemoryStore> {
    call.check("the opening of the store");
    if (target.channel !== undefined) {
      throw pvbusError("ERR_NOT_SUPPORTED", `memory has no channel "${target.channel}"; leave channel out`);
    }
    return new MemoryStore(this.#records, this.#capabilities, { closing, erasable: this.#erasable });
  }

  /** Does what the host's administrator does: sets a pair in either pool, or removes it with undefined. */
  give(key: string, value: string | undefined): void {
    this.#records.set(key, value === undefined ? undefined : new TextEncoder().encode(value));
  }
}

/** Returns the manifest of a memory store: of this provider where one is given, else each bus gets one of its own. */
export function memoryManifest(provider?: MemoryProvider): ProviderManifest {
  return manifestOf({ id: "memory", type: "Memory" }, (host) => provider ?? new MemoryProvider(host));
}
