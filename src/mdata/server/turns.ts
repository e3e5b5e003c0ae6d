import { Turns } from "../../base/flow/turn.js";
import { WaitingLine } from "../../base/flow/waiting-line.js";

/**
 * How the host shares its time. Short: what somebody waits for who seldom asks is the rest of the present stretch.
 */
const SETTINGS = { budgetMs: 0.5, sliceMs: 0.25 };

/**
 * The host's time: it goes from guest to guest, to the one that has had the fewest turns of late. So who asks now and then comes
 * before all who ask without pause, and those share evenly; however long somebody was silent, he is no more than one turn ahead.
 */
export class HostTurns {
  readonly #turns: Turns;
  /**
   * Who waits, by the turns they had. Of thousands who ask at once each costs the same: nobody who waits has had more turns than one
   * more than {@link #fewest}, or fewer than one less.
   */
  readonly #lines = new Map<number, WaitingLine<GuestTurns>>();
  /** Turns that the last one had, before it was his turn. */
  #fewest = 0;

  constructor(turns = new Turns(SETTINGS)) {
    this.#turns = turns;
  }

  /** Reports whether there is time left to work on. */
  mayGoOn(): boolean {
    return this.#turns.mayGoOn();
  }

  /** Has a guest wait for its turn. */
  stand(guest: GuestTurns): void {
    guest.had = Math.max(guest.had, this.#fewest - 1);
    let line = this.#lines.get(guest.had);
    if (line === undefined) {
      line = new WaitingLine();
      this.#lines.set(guest.had, line);
    }
    line.push(guest);
    this.#turns.wait(() => this.#next());
  }

  #next(): void {
    for (let had = this.#fewest - 1; had <= this.#fewest + 1; had++) {
      const line = this.#lines.get(had);
      const next = line?.shift();
      if (line?.length === 0) this.#lines.delete(had);
      if (next === undefined) continue;
      this.#fewest = Math.max(this.#fewest, had);
      next.had++;
      next.go();
      return;
    }
  }
}

/**
 * One guest's share of the host's time: however many connections it has, they stand in a line of their own, and have one place among
 * the other guests. To be asked before each step of less than a millisecond.
 */
export class GuestTurns {
  readonly #host: HostTurns;
  readonly #waiting = new WaitingLine<() => void>();
  /** How many turns it has had, as the host counts them. */
  had = 0;

  constructor(host: HostTurns) {
    this.#host = host;
  }

  /** Reports when to go on. @returns undefined when there is time left; else a promise to wait for */
  next(): Promise<void> | undefined {
    if (this.#host.mayGoOn()) return undefined;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#waiting.length === 1) this.#host.stand(this);
    });
  }

  /** Lets the first of its connections go on; the host calls it. */
  go(): void {
    const first = this.#waiting.shift();
    if (this.#waiting.length > 0) this.#host.stand(this);
    first?.();
  }
}
