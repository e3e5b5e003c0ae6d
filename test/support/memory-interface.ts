import { MemoryProvider } from "../../providers/testing.js";
import { Call } from "../../src/base/flow/call.js";
import type { PvInterface } from "../../src/bus/interface/interface.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { sessionOf } from "../../src/testing/conformance/session.js";

/** An interface over one memory provider, with whatever the test changes of its store. */
export async function memoryInterface(
  provider = new MemoryProvider(undefined, { limits: { maxKeyBytes: 300, maxValueBytes: 64 } }),
  change: (store: ProviderStore) => Partial<ProviderStore> = () => ({}),
): Promise<PvInterface> {
  const store = await provider.open({}, new Call());
  const same: ProviderStore = {
    capabilities: store.capabilities,
    portable: store.portable,
    read: (key, call) => store.read(key, call),
    write: (key, value, call) => store.write(key, value, call),
    delete: (key, call) => store.delete(key, call),
    list: (prefix, call) => store.list(prefix, call),
    watch: (prefix, call, hooks) => store.watch(prefix, call, hooks),
    facts: (call) => store.facts(call),
    close: () => store.close(),
  };
  return sessionOf({ ...same, ...change(same) }, provider).face;
}

/** Returns the code that a promise rejects with; "none" when it does not. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error: unknown) => (error as { code?: string }).code ?? (error as Error).name,
  );
}
