import type { Host } from "../base/host/host.js";
import type { Provider } from "./provider.js";

/** Service identifier typed by what it resolves to. */
export type Token<T> = symbol & {
  /** Present in the type alone. */
  readonly __type?: T;
};

/** Token of every bound {@link Provider}; bind one per hypervisor type. */
export const PROVIDER: Token<Provider> = Symbol.for("pvbus.Provider");
/** Token of the {@link Host} that everything works on. */
export const HOST: Token<Host> = Symbol.for("pvbus.Host");
