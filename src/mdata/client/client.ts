import { PvbusError, pvbusError } from "../../base/errors.js";
import { pause } from "../../base/flow/abort.js";
import { Backoff } from "../../base/flow/backoff.js";
import { Call } from "../../base/flow/call.js";
import { Closing } from "../../base/flow/closing.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { Notifier } from "../../base/flow/notifier.js";
import { SerialQueue } from "../../base/flow/queues.js";
import { type Answer, decodeCapabilities, type HostCapabilities } from "../answer.js";
import type { Request } from "../request.js";
import { Session, SessionOver } from "./session.js";
import type { Transport } from "./transport.js";

/** A transport whose line others may have a part of. */
export interface ShareableTransport extends Transport {
  /** Lets other programs have a part of such a line while this one keeps it. @internal @param maxLineBytes longest request of theirs */
  readonly share?: ((session: Session, maxLineBytes: number) => Promise<{ close(): void }>) | undefined;
}

/** Times and sizes of a {@link ChannelClient}. */
interface ClientOptions {
  readonly maxLineBytes: number;
  readonly connectTimeoutMs: number;
  /** How long a shared connection is kept when nobody uses it. */
  readonly idleMs: number;
}

/** A session and what its host can do beyond the standard; undefined for a standard one. */
export interface Connected {
  readonly session: Session;
  readonly host: HostCapabilities | undefined;
}

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 100;
/** A line that others want too is used for so long without a break, and then left to them for a moment. */
const TENURE_MS = 2_000;
const AWAY_MS = 2 * LONGEST_PAUSE_MS;
/** So often a request is begun on a new connection. */
const ATTEMPTS = 4;

/**
 * The metadata channel of one store: opened when it is needed, opened again when it is gone, and given back when nobody uses it
 * and others could. A host that does not say more takes one request at a time.
 */
export class ChannelClient {
  /** The channel as the user names it. */
  readonly name: string;
  readonly #transport: ShareableTransport;
  readonly #options: ClientOptions;
  readonly #closing: Closing;
  readonly #turns = new SerialQueue();
  #connecting: Promise<Connected> | undefined;
  #connected: Connected | undefined;
  #users = 0;
  #longUsers = 0;
  #shared: { readonly session: Session; readonly sharing: Promise<{ close(): void }> } | undefined;
  #idle: NodeJS.Timeout | undefined;
  #openedAt = 0;
  #leaving: Promise<void> | undefined;
  /** What there is to say while the line is waited for. */
  #busy: (() => PvbusError) | undefined;
  /** The highest revision that was seen of a host that gives them. */
  #revision = 0;
  readonly #uses = new Notifier();

  constructor(transport: ShareableTransport, options: ClientOptions, closing: Closing = new Closing()) {
    this.name = transport.name;
    this.#transport = transport;
    this.#options = options;
    this.#closing = closing;
  }

  /** Whether others use the line before and after us, and its host may change without a sign. */
  get isShared(): boolean {
    return this.#transport.isShared;
  }

  /**
   * What changes nothing is sent again when the connection breaks meanwhile.
   * @throws PvbusError `ERR_UNAVAILABLE` when nobody answers, `ERR_BUSY` while another program has the line for as long as the call
   *   lasts, `ERR_DISCONNECTED`, and those of {@link Session.request}
   */
  request(request: Request, call: Call): Promise<Answer> {
    const mayRepeat = (): boolean => request.command === "GET" || request.command === "KEYS";
    return this.use(call, mayRepeat, ({ session }) => session.request(request, call));
  }

  /** Works with the open session; done again on a new one when the connection was gone before anything was sent, or may be repeated. */
  async use<T>(call: Call, mayRepeat: () => boolean, work: (connected: Connected) => Promise<T>): Promise<T> {
    await this.#giveWay(call);
    const release = this.lease();
    try {
      const backoff = new Backoff({ firstMs: FIRST_PAUSE_MS, longestMs: LONGEST_PAUSE_MS * 2, factor: 4 });
      for (;;) {
        const connected = await this.connect(call);
        try {
          const what = "the turn on the metadata channel";
          return await (connected.host === undefined
            ? this.#turns.run(call, what, () => work(connected))
            : work(connected));
        } catch (error) {
          const isUnsent = error instanceof SessionOver;
          const isLost = isUnsent || (!connected.session.isOpen && isDisconnected(error) && mayRepeat());
          if (isLost && backoff.attempts < ATTEMPTS - 1) {
            await backoff.sleep(call, "a new connection to the host");
            continue;
          }
          if (!isUnsent) throw error;
          const message = `the host closes ${this.name} again and again; see its log`;
          throw pvbusError("ERR_DISCONNECTED", message, { cause: error });
        }
      }
    } finally {
      release();
    }
  }

  /** Returns the open session, a new one where there is none. @throws as {@link ChannelClient.request} */
  async connect(call: Call): Promise<Connected> {
    this.#closing.check();
    if (this.#connected?.session.isOpen) return this.#connected;
    let busy: PvbusError | undefined;
    const backoff = new Backoff({ firstMs: FIRST_PAUSE_MS, longestMs: LONGEST_PAUSE_MS });
    for (;;) {
      try {
        if (busy !== undefined) await backoff.sleep(call, `the metadata channel ${this.name}`);
        this.#connecting ??= this.#connect();
        return await call.within(this.#connecting, `an answer on the metadata channel ${this.name}`);
      } catch (error) {
        this.#closing.check();
        if (!PvbusError.is(error)) throw error;
        // That the line is taken says more than that the time is over.
        if (error.code === "ERR_TIMEOUT" && this.#busy !== undefined) throw this.#busy();
        if (error.code === "ERR_TIMEOUT" && busy !== undefined) throw busy;
        if (error.code !== "ERR_BUSY") throw error;
        busy = error;
      }
    }
  }

  /** Keeps connection and process. @param isLong let others have a part meanwhile @returns what ends that; may be called twice */
  lease(isLong = false): () => void {
    const change = (by: 1 | -1): void => {
      this.#users += by;
      if (isLong) this.#longUsers += by;
      this.#rest();
      this.#uses.notify();
    };
    change(1);
    let isHeld = true;
    return () => {
      if (isHeld) change(-1);
      isHeld = false;
    };
  }

  /** Ends everything; whatever waits rejects with `ERR_DISCONNECTED`. May be called twice. */
  async close(): Promise<void> {
    this.#closing.close();
    clearTimeout(this.#idle);
    await this.#connecting?.catch(() => undefined);
    await this.#connected?.session.close();
  }

  /** Leaves a line that was used for long, so that a busy program does not keep others out for ever. */
  async #giveWay(call: Call): Promise<void> {
    if (this.#leaving === undefined) {
      const session = this.#connected?.session;
      if (!this.#transport.isShared || session === undefined || !session.isOpen || session.line.isPart)
        return;
      if (monotonicMs() - this.#openedAt < TENURE_MS || this.#longUsers > 0) return;
      this.#leaving = this.#leave(session);
    }
    await call.within(this.#leaving, "other programs on the metadata channel");
  }

  async #leave(session: Session): Promise<void> {
    while (this.#users > 0 && this.#longUsers === 0) await this.#uses.wait(Call.endless());
    // A watch that began meanwhile lets others in.
    if (this.#longUsers === 0) {
      await session.close();
      await pause(AWAY_MS, this.#closing.signal);
    }
    this.#leaving = undefined;
  }

  async #connect(): Promise<Connected> {
    const call = new Call({ timeoutMs: this.#options.connectTimeoutMs, signal: this.#closing.signal });
    let session: Session | undefined;
    try {
      session = await Session.open(this.#transport, this.#options.maxLineBytes, call, (busy) => {
        this.#busy = busy;
        // The host has its whole time when the line is there.
        if (busy === undefined) call.renew();
      });
      // A host without our extensions says that it does not know the command, or something else that they are not.
      const answer = session.version === 2 ? await session.request({ command: "CAPS" }, call) : undefined;
      const host = answer?.kind === "success" ? decodeCapabilities(answer.value) : undefined;
      if (host?.commands.includes("SESSION")) {
        this.#revision = this.#connected?.session.hostSession?.revision ?? this.#revision;
        await session.introduce({ boot: this.#transport.boot?.(), revision: this.#revision }, call);
      }
      this.#connected = { session, host };
      this.#openedAt = monotonicMs();
      this.#rest();
      return this.#connected;
    } catch (error) {
      await session?.close();
      this.#closing.check();
      const isSilent = PvbusError.is(error) && error.code === "ERR_TIMEOUT";
      if (!isSilent && !isDisconnected(error) && !(error instanceof SessionOver)) throw error;
      const what = isSilent
        ? `nobody answers on the metadata channel ${this.name}`
        : `nobody is at the other end of the metadata channel ${this.name}, or hangs up at once`;
      const advice = "start the host side for this machine (pvbus host serve), or see its log";
      throw pvbusError("ERR_UNAVAILABLE", `${what}; ${advice}`, { cause: error });
    } finally {
      this.#connecting = undefined;
    }
  }

  /** Keeps the process alive while somebody waits, and gives a line back that others may want. */
  #rest(): void {
    clearTimeout(this.#idle);
    const session = this.#connected?.session;
    if (session === undefined || !session.isOpen) return;
    session.line.hold(this.#users > 0);
    this.#share(this.#connected);
    if (this.#users > 0 || !this.#transport.isShared) return;
    this.#idle = setTimeout(() => void session.close(), this.#options.idleMs);
    this.#idle.unref();
  }

  /** Begins or ends to let others in, as it is due. */
  #share(connected: Connected | undefined): void {
    const { share } = this.#transport;
    const isDue = this.#longUsers > 0 && connected?.host !== undefined && !connected.session.line.isPart;
    if (isDue && share !== undefined && this.#shared?.session !== connected.session) {
      const { session } = connected;
      this.#shared = { session, sharing: share(session, this.#options.maxLineBytes) };
    } else if (!isDue && this.#shared !== undefined) {
      void this.#shared.sharing.then((sharing) => sharing.close());
      this.#shared = undefined;
    }
  }
}

export function isDisconnected(error: unknown): boolean {
  return PvbusError.is(error) && error.code === "ERR_DISCONNECTED";
}
