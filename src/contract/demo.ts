import type { KeyInterface } from "./key-values.js";
import type { StoreTarget } from "./provider.js";
import type { StoreChange } from "./store.js";

/** Who does a step of the round trip. */
export type DemoActor = "host" | "guest";

/** What one demonstration works with. */
export interface DemoRun {
  /** An empty directory of its own; it is removed afterwards. */
  readonly directory: string;
  /** Fires when the user ends the demonstration. */
  readonly signal: AbortSignal;
  /** Tells one step. */
  tell(actor: DemoActor, text: string): void;
  /** Opens the store of the manifest's type, below a sysroot or through a channel; `await using` closes it before the host. */
  open(target: StoreTarget & { readonly sysroot?: string }): Promise<KeyInterface & AsyncDisposable>;
  /** Arms a watch, has the host change something, and resolves with what the watch saw. */
  change(store: KeyInterface, prefix: string, change: () => Promise<void> | void): Promise<StoreChange>;
}

/** The round trip of `pvbus demo` on a provider's simulator. */
export interface Demo {
  /** What the guest reaches the simulated host through, in words: `pool files`. */
  readonly through: string;
  /** Loads what does it. */
  load(): Promise<(run: DemoRun) => Promise<void>>;
}
