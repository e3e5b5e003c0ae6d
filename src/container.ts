import { Container, type ContainerModule } from "inversify";
import { pvbusError } from "./base/errors.js";
import type { Host } from "./base/host/host.js";
import { typeOfId } from "./contract/interfaces.js";
import type { Provider, ProviderClass } from "./contract/provider.js";
import { HOST, PROVIDER } from "./contract/tokens.js";

/** Providers that come with pvbus; a module is imported when its provider is first needed. */
const BUILT_IN = [
  {
    id: "hyperv",
    type: "Hyper-V",
    load: async () => (await import("../providers/hyperv/module.js")).hypervModule,
  },
  {
    id: "xen",
    type: "Xen",
    load: async () => (await import("../providers/xen/module.js")).xenModule,
  },
  { id: "kvm", type: "KVM", load: async () => (await import("../providers/kvm/module.js")).kvmModule },
  {
    id: "vmware",
    type: "VMware",
    load: async () => (await import("../providers/vmware/module.js")).vmwareModule,
  },
] as const;

/** Interfaces with the devices of another type, whose provider serves them too unless there is one of their own. */
const SERVED_BY: ReadonlyMap<string, string> = new Map(
  ["qemu", "bhyve", "nvmm", "haxm", "lkvm", "apple"].map((id) => [id, "kvm"]),
);

/** The bound providers, by id and by type. */
export interface ProviderRegistry {
  /** Ids of all providers. */
  readonly ids: readonly string[];
  /** Returns the id for an id or a type string of an interface without regard to case; undefined when no provider serves it. */
  idOf(type: string): string | undefined;
  /** Returns the type string of a known id. */
  typeOf(id: string): string;
  /** Loads and creates the provider that serves a known id, once. */
  provider(id: string): Promise<Provider>;
}

/**
 * The composition root: the only place where providers are bound. A provider of the caller replaces the built-in one
 * of the same id.
 * @param extra provider classes, or inversify container modules that bind {@link PROVIDER}
 */
export function createRegistry(host: Host, extra: readonly (ProviderClass | object)[]): ProviderRegistry {
  const container = new Container({ defaultScope: "Singleton" });
  container.bind(HOST).toConstantValue(host);
  for (const each of extra) {
    if (typeof each === "function") {
      const Class = each as ProviderClass;
      container.bind(PROVIDER).toResolvedValue((bound: Host) => new Class(bound), [HOST]);
    } else {
      container.load(each as ContainerModule);
    }
  }
  const bound = (): Provider[] => container.getAll<Provider>(PROVIDER);
  const types = new Map<string, string>(BUILT_IN.map(({ id, type }) => [id, type]));
  for (const { id, type } of bound()) types.set(id, type);

  const load = async (id: string): Promise<Provider> => {
    const present = bound().find((each) => each.id === id);
    if (present !== undefined) return present;
    const module = await BUILT_IN.find((each) => each.id === id)?.load();
    if (module !== undefined) container.load(module);
    const provider = bound().find((each) => each.id === id);
    if (provider === undefined) throw pvbusError("ERR_NOT_SUPPORTED", `no provider has the id "${id}"`);
    return provider;
  };
  const loading = new Map<string, Promise<Provider>>();

  return {
    ids: [...types.keys()],
    idOf: (type) => {
      const wanted = type.toLowerCase();
      const served = [...types, ...[...SERVED_BY.keys()].map((id): [string, string] => [id, typeOfId(id)])];
      return served.find(([id, name]) => id === wanted || name.toLowerCase() === wanted)?.[0];
    },
    typeOf: (id) => types.get(id) ?? typeOfId(id),
    provider: (served) => {
      const id = types.has(served) ? served : (SERVED_BY.get(served) ?? served);
      const provider = loading.get(id) ?? load(id);
      loading.set(id, provider);
      return provider;
    },
  };
}
