import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { SerialQueue } from "../../../src/base/flow/serial-queue.js";
import { type Answer, decodeCapabilities, type HostCapabilities } from "../../../src/mdata/answer.js";
import type { Request } from "../../../src/mdata/request.js";
import type { Endpoint } from "./link.js";
import { nobodyAnswers } from "./negotiation.js";
import { Session, SessionOver } from "./session.js";
import type { SharedLine } from "./shared-line.js";

/** Times and sizes of a {@link ChannelClient}. */
export interface ClientOptions {
  /** Longest line that the host may send. */
  readonly maxLineBytes: number;
  /** Longest time until a host must have answered on an opened link. */
  readonly connectTimeoutMs: number;
  /** How long a shared link is kept when nobody uses it. */
  readonly idleMs: number;
}

/** A session and what its host can do beyond the standard; undefined for a standard one. */
export interface Connected {
  /** The session. */
  readonly session: Session;
  /** What the host says of itself. */
  readonly host: HostCapabilities | undefined;
}

/** A use of the link that lasts: while there is one it is kept, and the process alive. */
export interface Lease {
  /** Ends it; may be called twice. */
  release(): void;
}

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 100;
/** A line that others want too is used for so long without a break, and then left to them for a moment. */
const TENURE_MS = 2_000;
const AWAY_MS = 2 * LONGEST_PAUSE_MS;
/** So often a request is begun on a new link. */
const ATTEMPTS = 4;

/**
 * The metadata channel of one store: opened when it is needed, opened anew when it is gone, and given back when nobody uses it
 * and others could. A host that does not say more takes one request at a time.
 */
export class ChannelClient {
  /** The channel as the user names it. */
  readonly name: string;
  readonly #endpoint: Endpoint;
  readonly #options: ClientOptions;
  readonly #closing = new AbortController();
  readonly #turns = new SerialQueue();
  #connecting: Promise<Connected> | undefined;
  #connected: Connected | undefined;
  #users = 0;
  #longUsers = 0;
  #shared: { readonly session: Session; readonly line: Promise<SharedLine> } | undefined;
  #idle: NodeJS.Timeout | undefined;
  #openedAt = 0;
  #leaving: Promise<void> | undefined;
  /** What there is to say while the line is waited for. */
  #busy: (() => PvbusError) | undefined;
  /** The highest revision that was seen of a host that gives them. */
  #revision = 0;
  #onUse = (): void => undefined;

  constructor(endpoint: Endpoint, options: ClientOptions) {
    this.name = endpoint.name;
    this.#endpoint = endpoint;
    this.#options = options;
  }

  /** Whether others use the line before and after us, and its host may change without a sign. */
  get isShared(): boolean {
    return this.#endpoint.isShared;
  }

  /**
   * Sends a request and waits for its answer. What changes nothing is sent again when the link breaks meanwhile.
   * @throws PvbusError `ERR_UNAVAILABLE` when nobody answers, `ERR_BUSY` while another program has the link for as long as the
   *   call lasts, `ERR_DISCONNECTED`, `ERR_TIMEOUT`, `ERR_ABORTED`, and those of {@link Session.request}
   */
  request(request: Request, call: Call): Promise<Answer> {
    const mayRepeat = request.command === "GET" || request.command === "KEYS";
    return this.use(
      call,
      () => mayRepeat,
      ({ session }) => session.request(request, call),
    );
  }

  /** Works with the open session; done again on a new one when the link was gone before anything was sent, or may be repeated. */
  async use<T>(call: Call, mayRepeat: () => boolean, work: (connected: Connected) => Promise<T>): Promise<T> {
    await this.#giveWay(call);
    const lease = this.lease();
    try {
      for (let attempt = 1, pause = FIRST_PAUSE_MS; ; attempt++, pause *= 4) {
        const connected = await this.connect(call);
        try {
          const what = "the turn on the metadata channel";
          return await (connected.host === undefined
            ? this.#turns.run(call, what, () => work(connected))
            : work(connected));
        } catch (error) {
          const isUnsent = error instanceof SessionOver;
          const isLost = isUnsent || (!connected.session.isOpen && isDisconnected(error) && mayRepeat());
          if (isLost && attempt < ATTEMPTS) await call.sleep(pause, "a new link to the host");
          else throw isUnsent ? this.#gone(error) : error;
        }
      }
    } finally {
      lease.release();
    }
  }

  /** Returns the open session, a new one where there is none. @throws as {@link ChannelClient.request} */
  async connect(call: Call): Promise<Connected> {
    this.#checkOpen();
    if (this.#connected?.session.isOpen) return this.#connected;
    let busy: PvbusError | undefined;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        if (busy !== undefined) await call.sleep(pause, `the metadata channel ${this.name}`);
        this.#connecting ??= this.#connect();
        return await call.within(this.#connecting, `an answer on the metadata channel ${this.name}`);
      } catch (error) {
        this.#checkOpen();
        if (!PvbusError.is(error)) throw error;
        // That the line is taken says more than that the time is over.
        if (error.code === "ERR_TIMEOUT" && this.#busy !== undefined) throw this.#busy();
        if (error.code === "ERR_TIMEOUT" && busy !== undefined) throw busy;
        if (error.code !== "ERR_BUSY") throw error;
        busy = error;
      }
    }
  }

  /** Keeps the link until the lease is released. @param isLong let other programs have a part of it meanwhile */
  lease(isLong = false): Lease {
    const change = (by: 1 | -1): void => {
      this.#users += by;
      if (isLong) this.#longUsers += by;
      this.#rest();
      this.#onUse();
    };
    change(1);
    let isHeld = true;
    return {
      release: () => {
        if (isHeld) change(-1);
        isHeld = false;
      },
    };
  }

  /** Ends everything; whatever waits rejects with `ERR_DISCONNECTED`. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#idle);
    await this.#connecting?.catch(() => undefined);
    await this.#connected?.session.close();
  }

  /** Leaves a line that was used for long, so that a busy program does not keep others out for ever. */
  async #giveWay(call: Call): Promise<void> {
    if (this.#leaving === undefined) {
      const session = this.#connected?.session;
      if (!this.#endpoint.isShared || session === undefined || !session.isOpen || session.isPart) return;
      if (performance.now() - this.#openedAt < TENURE_MS || this.#longUsers > 0) return;
      this.#leaving = this.#leave(session);
    }
    await call.within(this.#leaving, "other programs on the metadata channel");
  }

  async #leave(session: Session): Promise<void> {
    while (this.#users > 0 && this.#longUsers === 0) {
      await new Promise<void>((resolve) => {
        this.#onUse = resolve;
      });
    }
    // A watch that began meanwhile lets others in.
    if (this.#longUsers === 0) {
      await session.close();
      await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
    }
    this.#leaving = undefined;
  }

  async #connect(): Promise<Connected> {
    const call = new Call({ timeoutMs: this.#options.connectTimeoutMs, signal: this.#closing.signal });
    try {
      const connected = await this.#open(call);
      this.#connected = connected;
      this.#openedAt = performance.now();
      this.#rest();
      return connected;
    } finally {
      this.#connecting = undefined;
    }
  }

  async #open(call: Call): Promise<Connected> {
    let session: Session | undefined;
    try {
      session = await Session.open(this.#endpoint, this.#options.maxLineBytes, call, (busy) => {
        this.#busy = busy;
        // The host has its whole time when the line is there.
        if (busy === undefined) call.renew();
      });
      const host = session.version === 2 ? await capabilitiesOf(session, call) : undefined;
      // Elsewhere nothing gets lost, and nothing is sent again.
      if (this.#endpoint.isShared && host?.commands.includes("SESSION")) {
        this.#revision = this.#connected?.session.hostSession?.revision ?? this.#revision;
        await session.introduce({ boot: this.#endpoint.boot?.(), revision: this.#revision }, call);
      }
      return { session, host };
    } catch (error) {
      await session?.close();
      this.#checkOpen();
      const isSilent =
        error instanceof SessionOver ||
        isDisconnected(error) ||
        (PvbusError.is(error) && error.code === "ERR_TIMEOUT");
      throw isSilent ? nobodyAnswers(this.name, error) : error;
    }
  }

  /** Keeps the process alive while somebody waits, and gives a line back that others may want. */
  #rest(): void {
    clearTimeout(this.#idle);
    const session = this.#connected?.session;
    if (session === undefined || !session.isOpen) return;
    session.hold(this.#users > 0);
    this.#share(this.#connected);
    if (this.#users > 0 || !this.#endpoint.isShared) return;
    this.#idle = setTimeout(() => void session.close(), this.#options.idleMs);
    this.#idle.unref();
  }

  /** Begins or ends to let others in, as it is due. */
  #share(connected: Connected | undefined): void {
    const { sharing } = this.#endpoint;
    const isDue = this.#longUsers > 0 && connected?.host !== undefined && !connected.session.isPart;
    if (isDue && sharing !== undefined && this.#shared?.session !== connected.session) {
      const { session } = connected;
      const { maxLineBytes } = this.#options;
      const line = import("./shared-line.js").then(
        (loaded) => new loaded.SharedLine(sharing(), session, maxLineBytes),
      );
      this.#shared = { session, line };
    } else if (!isDue && this.#shared !== undefined) {
      void this.#shared.line.then((line) => line.close());
      this.#shared = undefined;
    }
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted)
      throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
  }

  #gone(cause: unknown): PvbusError {
    return pvbusError("ERR_DISCONNECTED", `the host closes ${this.name} again and again; see its log`, {
      cause,
    });
  }
}

/** Asks for our extensions; a host without them says that it does not know the command, or something else that they are not. */
async function capabilitiesOf(session: Session, call: Call): Promise<HostCapabilities | undefined> {
  const answer = await session.request({ command: "CAPS" }, call);
  return answer.kind === "success" ? decodeCapabilities(answer.value) : undefined;
}

/** Reports whether a link went away. */
export function isDisconnected(error: unknown): boolean {
  return PvbusError.is(error) && error.code === "ERR_DISCONNECTED";
}
