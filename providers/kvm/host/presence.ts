/** Whether a guest is there, as the host that serves it sees it. */
export type GuestPresence =
  /** It has a connection. */
  | "connected"
  /** It had one: it was shut down or killed, or its hypervisor was. */
  | "gone"
  /** It had none since the host was started. */
  | "never";

/** Reports whether a text from outside is a {@link GuestPresence}. */
export function isPresence(text: unknown): text is GuestPresence {
  return text === "connected" || text === "gone" || text === "never";
}

/** Which guests of one host are there. */
export class Presences {
  readonly #connections = new Map<string, number>();
  readonly #listeners = new Set<(guest: string) => void>();

  /** Says whether a guest is there. */
  of(guest: string): GuestPresence {
    const connections = this.#connections.get(guest);
    if (connections === undefined) return "never";
    return connections > 0 ? "connected" : "gone";
  }

  /** A guest has one connection more, or less. */
  change(guest: string, by: 1 | -1): void {
    this.#connections.set(guest, (this.#connections.get(guest) ?? 0) + by);
    for (const listener of this.#listeners) listener(guest);
  }

  /** Calls `listener`, which must not throw, for every change from now on, until the returned function is called. */
  listen(listener: (guest: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
