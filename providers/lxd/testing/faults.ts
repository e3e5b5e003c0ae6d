/** One request as a simulated guest API gets it. */
export interface LxdRequest {
  /** `GET`. */
  readonly method: string;
  /** Its path as it was sent. */
  readonly path: string;
  /** Whether it asks for a WebSocket. */
  readonly upgrade: boolean;
}

/** What a simulated guest API does wrong; may be changed at any time. */
export interface LxdFaults {
  /** Returns the bytes that are sent in place of the answer, before the connection ends; undefined: the right answer. */
  replace?: ((request: LxdRequest) => string | Uint8Array | undefined) | undefined;
  /** Returns true for requests that are never answered. */
  hang?: ((request: LxdRequest) => boolean) | undefined;
  /** Returns true for requests whose connection ends without an answer. */
  drop?: ((request: LxdRequest) => boolean) | undefined;
  /** Milliseconds before each answer. */
  delayMs?: number | undefined;
  /** Answers 500 as a machine's agent does whose host does not answer. */
  hostIsAway?: boolean | undefined;
  /** Answers as to a process that is not the instance's root. */
  notRoot?: boolean | undefined;
  /** Answers as to a process of the host itself. */
  notInside?: boolean | undefined;
  /** No event is told. */
  mute?: boolean | undefined;
  /** No ping is sent. */
  noPing?: boolean | undefined;
}
