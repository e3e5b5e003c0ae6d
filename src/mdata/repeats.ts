import { crc32 } from "../base/crc32.js";
import type { Frame } from "./frame.js";
import type { Introduction } from "./request.js";

/*
 * On a line that several programs share a frame may get lost, so that a request is sent again under its id, and one that changes
 * something would be done twice: with what somebody else wrote in between gone. An id names a request within the session of one
 * client alone; so the client says which session its line begins (`SESSION`), and the host remembers what it answered.
 */

/** So many answers are remembered: the last ones. */
const MOST = 1024;

/** What was answered to the changes of one session; nothing is remembered where there is none. */
export class RememberedAnswers {
  readonly #answers = new Map<string, { readonly checksum: number; readonly answer: string }>();
  #client: Introduction | undefined;

  begin(client: Introduction): void {
    if (client.session !== this.#client?.session) this.#answers.clear();
    const { session, boot, revision } = client;
    this.#client = { session, boot, revision };
  }

  /** What the client last said of itself; undefined while there is no session. */
  get client(): Introduction | undefined {
    return this.#client;
  }

  end(): void {
    this.#client = undefined;
    this.#answers.clear();
  }

  find(request: Frame): string | undefined {
    const known = this.#answers.get(request.id);
    return known?.checksum === checksumOf(request) ? known.answer : undefined;
  }

  /** Remembers an answer. @param answer its whole frame, as text: bytes may be a part of a large buffer */
  keep(request: Frame, answer: string): void {
    if (this.#client === undefined) return;
    this.#answers.delete(request.id);
    this.#answers.set(request.id, { checksum: checksumOf(request), answer });
    if (this.#answers.size <= MOST) return;
    const [oldest] = this.#answers.keys();
    if (oldest !== undefined) this.#answers.delete(oldest);
  }
}

function checksumOf({ word, payload = "" }: Frame): number {
  return crc32(payload, crc32(word));
}
