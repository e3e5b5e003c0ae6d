import type { Operation, Registers } from "../../../src/native/vmware/backdoor-port.js";

/*
 * The message channel of VMware's backdoor as a state machine: it yields operations and is given what came out of them. It
 * neither executes nor waits. Numbers: open-vm-tools lib/include/backdoor_def.h, guest_msg_def.h, lib/message/message.c.
 */

const BDOOR_MAGIC = 0x564d_5868;
const BDOOR_PORT = 0x5658;
const BDOORHB_PORT = 0x5659;
const BDOOR_CMD_MESSAGE = 0x1e;
/** Success in the upper half, command 0 in the lower. */
const BDOORHB_CMD_MESSAGE = 0x0001_0000;
/** "RPCI", the protocol from guest to host. */
const RPCI_PROTOCOL_NUM = 0x4943_5052;
const GUESTMSG_FLAG_COOKIE = 0x8000_0000;
const NO_SUCH_COMMAND = 0xffff_ffff;

/** Sub-commands, in the upper half of ECX. */
const TYPE = { OPEN: 0, SENDSIZE: 1, SENDPAYLOAD: 2, RECVSIZE: 3, RECVPAYLOAD: 4, RECVSTATUS: 5, CLOSE: 6 };

/** Status bits, in the upper half of ECX or, in high bandwidth, of EBX. */
const STATUS = { SUCCESS: 0x01, DORECV: 0x02, CPT: 0x10, HB: 0x80 } as const;

/** How often a checkpoint may cut one exchange before it is given up. */
const MAX_CHECKPOINTS = 8;
/** Most words that are under way as one run of operations. */
const RUN_WORDS = 256;
const WORD = 4;
/** What one operation, or a short run of them, moves in a few microseconds. */
const SHORT_BYTES = 4096;
const SHORT_WORDS = 16;

/** How a command is exchanged. */
export interface ExchangeOptions {
  /** Move payloads by string instructions where the host offers it. */
  readonly bulk: boolean;
  /** Longest reply in bytes that is taken. */
  readonly maxReply: number;
  /** The host carries the command out at once: then a short one does not wait. */
  readonly quick: boolean;
}

/** A sequence of operations that ends in a value. */
export type Steps<T> = Generator<readonly Operation[], T, readonly Registers[]>;

/** A step that failed: where, why, and whether the host may have carried out the command. */
export class ChannelFailure extends Error {
  /** `absent`: nobody knows this command. `checkpoint`: cut too often. `refused`: anything else that is not success. */
  readonly reason: "absent" | "checkpoint" | "refused" | "malformed" | "too-long";
  /** Whether the host may have carried out the command. */
  readonly executed: boolean;
  /** It failed in a string instruction: low bandwidth may succeed. */
  readonly inBulk: boolean;

  /** @param step what failed, in words */
  constructor(
    step: string,
    reason: ChannelFailure["reason"],
    { executed = false, inBulk = false }: { readonly executed?: boolean; readonly inBulk?: boolean } = {},
  ) {
    super(step);
    this.name = "ChannelFailure";
    this.reason = reason;
    this.executed = executed;
    this.inBulk = inBulk;
  }
}

/** An open channel; its steps must not interleave. */
export class Channel {
  readonly #id: number;
  readonly #cookieHigh: number;
  readonly #cookieLow: number;
  /** Bytes of the reply that are still due while one is received. */
  #due: number | undefined;

  private constructor(id: number, cookieHigh: number, cookieLow: number) {
    this.#id = id;
    this.#cookieHigh = cookieHigh;
    this.#cookieLow = cookieLow;
  }

  /** Opens a channel: with cookies, where the host knows them. @throws ChannelFailure */
  static *open(): Steps<Channel> {
    for (const flag of [GUESTMSG_FLAG_COOKIE, 0]) {
      const ecx = BDOOR_CMD_MESSAGE | (TYPE.OPEN << 16);
      const ebx = (RPCI_PROTOCOL_NUM | flag) >>> 0;
      const out = yield* one({ registers: { ...BLANK, ebx, ecx, edx: BDOOR_PORT }, mayWait: false });
      if (hasSucceeded(out.ecx))
        return flag === 0 ? new Channel(out.edx >>> 16, 0, 0) : new Channel(out.edx >>> 16, out.esi, out.edi);
      if (out.eax === NO_SUCH_COMMAND && out.ecx === ecx)
        throw new ChannelFailure("the hypervisor knows no message channel", "absent");
    }
    throw new ChannelFailure("the hypervisor opened no message channel", "refused");
  }

  /**
   * Sends a command and receives its reply; the channel stays open.
   * @throws ChannelFailure; then {@link Channel.abandon} is due
   */
  *exchange(request: Uint8Array, { bulk, maxReply, quick }: ExchangeOptions): Steps<Uint8Array> {
    let isSent = false;
    for (let checkpoints = 0; checkpoints < MAX_CHECKPOINTS; checkpoints++) {
      isSent ||= yield* this.#send(request, bulk, quick);
      const reply = isSent ? yield* this.#receive(bulk, maxReply) : undefined;
      if (reply !== undefined) return reply;
    }
    const step = "checkpoints of the virtual machine cut the exchange again and again";
    throw new ChannelFailure(step, "checkpoint", { executed: isSent });
  }

  /** Closes the channel, whatever state it is in; a reply on its way is given up. */
  *abandon(): Steps<void> {
    if (this.#due !== undefined) {
      const type = this.#due > 0 ? TYPE.RECVPAYLOAD : TYPE.RECVSTATUS;
      this.#due = undefined;
      yield* one(this.#message(type, 0));
    }
    yield* one(this.#message(TYPE.CLOSE, 0));
  }

  /** Returns false when a checkpoint cut it: then the whole request is due again. */
  *#send(request: Uint8Array, bulk: boolean, quick: boolean): Steps<boolean> {
    const size = yield* one(this.#message(TYPE.SENDSIZE, request.length));
    if (!hasSucceeded(size.ecx))
      throw new ChannelFailure("the host did not take the length of the command", "refused");
    if (request.length === 0) return true;
    if (bulk && hasStatus(size.ecx, STATUS.HB)) {
      const out = yield* one(this.#bulk("send", request, !quick || request.length > SHORT_BYTES));
      if (hasSucceeded(out.ebx)) return true;
      if (hasStatus(out.ebx, STATUS.CPT)) return false;
      throw new ChannelFailure("the host did not take the command at once", "refused", { inBulk: true });
    }
    for (let at = 0; at < request.length; at += RUN_WORDS * WORD) {
      const words = wordsOf(request, at);
      const mayWait = !quick || words.length > SHORT_WORDS;
      const run = words.map((word) => this.#message(TYPE.SENDPAYLOAD, word, mayWait));
      const last = (yield run).at(-1) ?? BLANK;
      if (hasSucceeded(last.ecx)) continue;
      if (hasStatus(last.ecx, STATUS.CPT)) return false;
      throw new ChannelFailure("the host did not take the command", "refused");
    }
    return true;
  }

  /** Returns undefined when a checkpoint cut it: then the host delivers the reply from its start. */
  *#receive(bulk: boolean, maxReply: number): Steps<Uint8Array | undefined> {
    const size = yield* one(this.#message(TYPE.RECVSIZE, 0));
    if (!hasSucceeded(size.ecx)) throw failed("the host sent no length of the reply", "refused");
    if (!hasStatus(size.ecx, STATUS.DORECV))
      throw failed("the host has no reply to the command", "malformed");
    if (size.edx >>> 16 !== TYPE.SENDSIZE)
      throw failed("the host sends no length where one is due", "malformed");
    this.#due = size.ebx;
    if (size.ebx > maxReply)
      throw failed(
        `the host announces a reply of ${size.ebx} bytes; at most ${maxReply} are taken`,
        "too-long",
      );
    const reply = Buffer.alloc(size.ebx);
    const whole =
      reply.length === 0 ||
      (bulk && hasStatus(size.ecx, STATUS.HB) ? yield* this.#fill(reply) : yield* this.#readWords(reply));
    if (!whole) return undefined;
    this.#due = 0;
    const status = yield* one(this.#message(TYPE.RECVSTATUS, STATUS.SUCCESS));
    if (!hasSucceeded(status.ecx)) {
      if (hasStatus(status.ecx, STATUS.CPT)) return undefined;
      throw failed("the host did not take the receipt of the reply", "refused");
    }
    this.#due = undefined;
    return reply;
  }

  *#fill(reply: Uint8Array): Steps<boolean> {
    const out = yield* one(this.#bulk("fill", reply, reply.length > SHORT_BYTES));
    if (hasSucceeded(out.ebx)) return true;
    if (hasStatus(out.ebx, STATUS.CPT)) return false;
    throw failed("the host did not give the reply at once", "refused", true);
  }

  *#readWords(reply: Buffer): Steps<boolean> {
    const mayWait = reply.length > SHORT_WORDS * WORD;
    const step = this.#message(TYPE.RECVPAYLOAD, STATUS.SUCCESS, mayWait);
    for (let at = 0; at < reply.length; ) {
      const results = yield new Array(Math.min(RUN_WORDS, Math.ceil((reply.length - at) / WORD))).fill(step);
      for (const { ebx, ecx, edx } of results) {
        if (!hasSucceeded(ecx)) {
          if (hasStatus(ecx, STATUS.CPT)) return false;
          throw failed("the host did not give the reply", "refused");
        }
        if (edx >>> 16 !== TYPE.SENDPAYLOAD)
          throw failed("the host sends no part of the reply where one is due", "malformed");
        const bytes = Math.min(WORD, reply.length - at);
        for (let index = 0; index < bytes; index++) reply[at + index] = ebx >>> (index * 8);
        at += bytes;
        this.#due = reply.length - at;
      }
    }
    return true;
  }

  #message(type: number, ebx: number, mayWait = false): Operation {
    const ecx = BDOOR_CMD_MESSAGE | (type << 16);
    const edx = ((this.#id << 16) | BDOOR_PORT) >>> 0;
    return { registers: { ...BLANK, ebx, ecx, edx, esi: this.#cookieHigh, edi: this.#cookieLow }, mayWait };
  }

  /** The cookies change their places with the direction, because one register holds the address. */
  #bulk(direction: "send" | "fill", bytes: Uint8Array, mayWait: boolean): Operation {
    const cookies =
      direction === "send"
        ? { edi: this.#cookieLow, ebp: this.#cookieHigh }
        : { esi: this.#cookieHigh, ebp: this.#cookieLow };
    const edx = ((this.#id << 16) | BDOORHB_PORT) >>> 0;
    const registers = { ...BLANK, ebx: BDOORHB_CMD_MESSAGE, ecx: bytes.length, edx, ...cookies };
    return { registers, memory: { direction, bytes }, mayWait };
  }
}

const BLANK: Registers = { eax: BDOOR_MAGIC, ebx: 0, ecx: 0, edx: 0, esi: 0, edi: 0, ebp: 0 };

function* one(operation: Operation): Steps<Registers> {
  const [out] = yield [operation];
  if (out === undefined) throw new ChannelFailure("the port executed nothing", "refused");
  return out;
}

function failed(step: string, reason: ChannelFailure["reason"], inBulk = false): ChannelFailure {
  return new ChannelFailure(step, reason, { executed: true, inBulk });
}

/** The next run of little-endian words; the last one is filled up with zeros. */
function wordsOf(bytes: Uint8Array, from: number): number[] {
  const run = bytes.subarray(from, from + RUN_WORDS * WORD);
  const padded = new Uint8Array(Math.ceil(run.length / WORD) * WORD);
  padded.set(run);
  const view = new DataView(padded.buffer);
  const words: number[] = [];
  for (let at = 0; at < padded.length; at += WORD) words.push(view.getUint32(at, true));
  return words;
}

function hasStatus(register: number, bit: number): boolean {
  return ((register >>> 16) & bit) !== 0;
}

function hasSucceeded(register: number): boolean {
  return hasStatus(register, STATUS.SUCCESS);
}
