import type { Host } from "../base/host/host.js";
import type { OptionSchema } from "../base/options.js";
import type { BootData } from "./boot-data.js";
import type { Verbs } from "./capabilities.js";
import type { ProviderCommand } from "./command.js";
import type { Demo } from "./demo.js";
import type { PortableHost } from "./portable-host.js";
import type { Evidence } from "./report.js";

/**
 * An inversify `ContainerModule`, by its shape: whose copy of inversify 8 made it does not matter. It binds `PROVIDER`
 * exactly once, and whatever that needs; `HOST` is bound for it.
 */
export interface ProviderModule {
  /** Number that its copy of inversify gave it. */
  readonly id: number;
  /** Adds the bindings; inversify calls it. */
  load(options: never): void | Promise<void>;
}

/** A text of the firmware that shows an interface. */
export interface FirmwareRule {
  /** The field by its name in Linux' /sys/class/dmi/id: `sys_vendor`. */
  readonly field: string;
  /** What it begins with. */
  readonly prefix: string;
}

/** What tells detection of an interface that it does not know by itself. */
export interface DetectionRules {
  /** CPUID signatures: EBX, ECX, EDX of the base leaf as 12 Latin-1 characters, NULs at the end left out. */
  readonly signatures?: readonly string[];
  /** Texts of the firmware (DMI). */
  readonly firmware?: readonly FirmwareRule[];
  /** Absolute paths whose presence shows the interface. */
  readonly paths?: readonly string[];
}

/** Loads what is known of the hypervisor's own tool. */
export interface PortableHostLoader {
  /** Loads it. */
  load(): Promise<PortableHost>;
}

/** A store that is at its usual place, with what shows it. */
export interface Located {
  /** What was seen, at least one fact. */
  readonly evidence: readonly [Evidence, ...Evidence[]];
  /** Decoded facts. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/**
 * One provider, ours or a stranger's: plain data and loaders that are called on first use. Importing a manifest loads
 * neither the provider nor inversify nor native code.
 */
export interface ProviderManifest {
  /** Lower-case id of the interface that it serves, as detection reports it: `hyperv`. */
  readonly id: string;
  /** Type string: `Hyper-V`. */
  readonly type: string;
  /** Further ids whose interfaces it serves where they have no provider of their own. */
  readonly serves?: readonly string[];
  /** Loads the module that binds the provider. */
  load(): Promise<ProviderModule>;
  /**
   * Reports whether the store is at its usual place, by names and short attributes below `host.files` alone and without loading
   * the provider; what it saw may come with the answer. It is asked for bare copies below a sysroot, and for interfaces that
   * detection does not know on every machine.
   */
  locate?(host: Host): boolean | Located | Promise<boolean | Located>;
  /** The operating systems on which each verb can work at all. */
  readonly systems: Readonly<Record<keyof Verbs, readonly NodeJS.Platform[]>>;
  /** Where boot configuration and credentials live on its store. */
  readonly bootData?: BootData;
  /** The provider's settings. */
  readonly options?: OptionSchema;
  /** What detection looks for besides, for an interface that it does not know. */
  readonly detection?: DetectionRules;
  /** Further commands of `pvbus`. */
  readonly commands?: readonly ProviderCommand[];
  /** How portable keys are reached from the host with the hypervisor's own tool. */
  readonly portableHost?: PortableHostLoader;
  /** The simulated round trip of `pvbus demo`. */
  readonly demo?: Demo;
}
