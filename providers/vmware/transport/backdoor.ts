import { type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { Backoff } from "../../../src/base/flow/backoff.js";
import type { Call } from "../../../src/base/flow/call.js";
import { fairTurn } from "../../../src/base/flow/turn.js";
import type { BackdoorPort } from "../../../src/native/vmware/backdoor-port.js";
import type { VmwareProof } from "../../../src/native/vmware/proof.js";
import { Channel, ChannelFailure, type Steps } from "../protocol/backdoor-channel.js";
import { MAX_REPLY_BYTES } from "../protocol/keys.js";
import { ExchangeFailure, type ExchangeHints, type RpcTransport } from "./rpc-transport.js";

/** Hosts close channels that stay idle, and old ones have eight: ours goes back when it was not used for so long. */
const IDLE_MS = 5_000;
/** Before an OPEN that found no free channel is tried again: 5 to 15 ms at first, half a second in all. */
const OPEN_PAUSES = { firstMs: 15, longestMs: 240, jitter: 2 / 3 };
const MOST_PAUSES = 5;

/** What is no matter of trying again. */
const FAILURES: Partial<Record<ChannelFailure["reason"], readonly [PvbusErrorCode, string]>> = {
  absent: ["ERR_UNAVAILABLE", ": this is an imitation of VMware's hardware, without a store"],
  "too-long": ["ERR_PROTOCOL", "; see the virtual machine's vmware.log"],
  malformed: ["ERR_PROTOCOL", "; see the virtual machine's vmware.log"],
  checkpoint: ["ERR_BUSY", "; try again when the snapshot is done"],
};

const WAITING = "the reply over VMware's backdoor";

/** The backdoor: one channel that stays open from command to command. It is never privileged. */
export class BackdoorTransport implements RpcTransport {
  readonly privileged = false;
  readonly #port: BackdoorPort;
  readonly #idleMs: number;
  #channel: Channel | undefined;
  #bulk: boolean;
  #idle: NodeJS.Timeout | undefined;
  #working: Promise<unknown> | undefined;
  #closed = false;

  /**
   * @param port takes over the port: it is closed with this
   * @param idleMs how long an unused channel is kept
   */
  constructor(port: BackdoorPort, idleMs: number = IDLE_MS) {
    this.#idleMs = idleMs;
    this.#port = port;
    this.#bulk = port.seesMemory;
  }

  get name(): string {
    return this.#port.name;
  }

  exchange(request: Uint8Array, call: Call, hints: ExchangeHints = {}): Promise<Uint8Array> {
    clearTimeout(this.#idle);
    const work = this.#exchange(request, call, hints);
    this.#working = work;
    return work;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    await this.#working?.catch(() => undefined);
    await this.#abandon();
    this.#port.close();
  }

  async #exchange(request: Uint8Array, call: Call, { quick = false }: ExchangeHints): Promise<Uint8Array> {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the backdoor is closed; open the bus again");
    const stale = this.#channel !== undefined;
    this.#channel ??= await this.#open(call);
    const options = { bulk: this.#bulk, maxReply: MAX_REPLY_BYTES, quick };
    try {
      const reply = await this.#drive(this.#channel.exchange(request, options), call);
      this.#rest();
      return reply;
    } catch (error) {
      await this.#abandon();
      if (!(error instanceof ChannelFailure)) throw error;
      if (error.inBulk) this.#bulk = false;
      throw this.#failure(error, stale);
    }
  }

  async #open(call: Call): Promise<Channel> {
    const pauses = new Backoff(OPEN_PAUSES);
    for (;;) {
      try {
        return await this.#drive(Channel.open(), call);
      } catch (error) {
        if (!(error instanceof ChannelFailure)) throw error;
        if (error.reason !== "refused") throw this.#failure(error);
        if (pauses.attempts === MOST_PAUSES) {
          const message = `${error.message}: all of them may be in use; try again`;
          throw new ExchangeFailure("ERR_BUSY", message, { executed: false, connecting: true, cause: error });
        }
        await pauses.sleep(call, "a free channel of VMware's backdoor");
      }
    }
  }

  #failure(error: ChannelFailure, stale = false): unknown {
    const { message, executed, reason } = error;
    const [code, advice] = FAILURES[reason] ?? [];
    if (code !== undefined) return pvbusError(code, `${message}${advice}`, { cause: error });
    const details = { stale, executed, cause: error };
    return new ExchangeFailure("ERR_DISCONNECTED", `${message}; try again`, details);
  }

  /** Runs steps; between them the call may end. */
  async #drive<T>(steps: Steps<T>, call: Call | undefined): Promise<T> {
    let next = steps.next();
    while (next.done !== true) {
      // Port operations that do not wait for the host are executed at once, as many as there are.
      const turn = call === undefined ? fairTurn() : call.turn(WAITING);
      if (turn !== undefined) await turn;
      const results = this.#port.operate(next.value);
      next = steps.next(results instanceof Promise ? await results : results);
    }
    return next.value;
  }

  /** Closes the channel whatever state it is in. One whose closing fails is the host's to clear away, as after a crash. */
  async #abandon(): Promise<void> {
    const channel = this.#channel;
    this.#channel = undefined;
    if (channel === undefined) return;
    try {
      await this.#drive(channel.abandon(), undefined);
    } catch (error) {
      if (!(error instanceof ChannelFailure)) throw error;
    }
  }

  #rest(): void {
    if (this.#closed) return;
    this.#idle = setTimeout(() => {
      this.#working = this.#abandon();
    }, this.#idleMs);
    this.#idle.unref();
  }
}

/** Opens the processor's own port. @throws PvbusError where it does not answer, or no code can be made */
export async function openBackdoorTransport(proof: VmwareProof): Promise<BackdoorTransport> {
  const { openBackdoor } = await import("../../../src/native/vmware/backdoor.js");
  return new BackdoorTransport(openBackdoor(proof));
}
