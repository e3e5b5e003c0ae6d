import { randomBytes } from "node:crypto";
import type {
  BackdoorPort,
  Operation,
  OperationMemory,
  Registers,
} from "../../../src/native/vmware/backdoor-port.js";
import type { VmxHost } from "./host.js";

/** Steps of a message channel. */
export type VmxStep =
  | "OPEN"
  | "SENDSIZE"
  | "SENDPAYLOAD"
  | "RECVSIZE"
  | "RECVPAYLOAD"
  | "RECVSTATUS"
  | "CLOSE"
  | "HB OUT"
  | "HB IN";

/** What goes wrong in a step: a checkpoint, a plain failure, the loss of the channel, or registers of the test's own. */
export type VmxFault = "checkpoint" | "fail" | "close" | Partial<Registers>;

/** One operation as the machine saw it. */
export interface VmxTrap {
  /** The step; undefined for what is no message. */
  readonly step: VmxStep | undefined;
  /** Bytes of payload that it moved. */
  readonly bytes: number;
  /** Registers that came in. */
  readonly in: Registers;
  /** Registers that went out. */
  readonly out: Registers;
}

/** What may differ from one {@link VmxBackdoor} to the next. */
export interface VmxBackdoorOptions {
  /** Offers the string instructions. Default true. */
  readonly highBandwidth?: boolean | undefined;
  /** Knows cookies. Default true. */
  readonly cookies?: boolean | undefined;
  /** Channels at a time. Default 128; hosts up to 9.4 have 8. */
  readonly channels?: number | undefined;
  /** Knows message channels; QEMU's imitation does not. Default true. */
  readonly messages?: boolean | undefined;
  /** Cookies in place of random ones. */
  readonly fixedCookies?: readonly [high: number, low: number] | undefined;
  /** Says what goes wrong; called before each step is carried out. */
  readonly fault?: ((step: VmxStep, count: number) => VmxFault | undefined) | undefined;
}

interface Line {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** The command as far as it came. */
  request: Buffer;
  announced: number | undefined;
  got: number;
  reply: Buffer | undefined;
  given: number;
}

/** What became of an operation: its step, the registers that changed, and how many bytes it moved. */
type Outcome = readonly [step: VmxStep | undefined, changes: Partial<Registers>, bytes?: number];

const MAGIC = 0x564d5868;
const LB_PORT = 0x5658;
const HB_PORT = 0x5659;
const MESSAGE = 0x1e;
const GETVERSION = 0x0a;
const RPCI = 0x49435052;
const TCLO = 0x4f4c4354;
const COOKIE_FLAG = 0x80000000;
const MAX_REQUEST = 65536;
const STEPS: readonly VmxStep[] = [
  "OPEN",
  "SENDSIZE",
  "SENDPAYLOAD",
  "RECVSIZE",
  "RECVPAYLOAD",
  "RECVSTATUS",
  "CLOSE",
];

const SUCCESS = 1;
const DORECV = 2;
const CHECKPOINT = 0x10;
const HB = 0x80;

/**
 * VMware's backdoor at register level: what the virtual machine monitor does behind each port instruction. Give it to what
 * drives a {@link BackdoorPort}.
 */
export class VmxBackdoor implements BackdoorPort {
  readonly name = "the simulated backdoor";
  /** Whether the string instructions reach the guest's memory; false for an encrypted one. */
  seesMemory = true;
  /** Operations in order. */
  readonly traps: VmxTrap[] = [];
  readonly #host: VmxHost;
  readonly #options: VmxBackdoorOptions;
  readonly #lines = new Map<number, Line>();
  readonly #counts = new Map<VmxStep, number>();

  /** @param host who answers the commands */
  constructor(host: VmxHost, options: VmxBackdoorOptions = {}) {
    this.#host = host;
    this.#options = options;
  }

  /** Channels that are open. */
  get open(): number {
    return this.#lines.size;
  }

  operate(operations: readonly Operation[]): readonly Registers[] {
    const results: Registers[] = [];
    for (const operation of operations) {
      const out = this.trap(operation);
      results.push(out);
      if (operation.memory === undefined && ((out.ecx >>> 16) & SUCCESS) === 0) break;
    }
    return results;
  }

  close(): void {
    // The machine goes on; whoever used it stopped.
  }

  /** Closes every channel, as a host does with idle ones. */
  dropAll(): void {
    this.#lines.clear();
  }

  /** Carries out one operation. */
  trap({ registers, memory }: Pick<Operation, "registers" | "memory">): Registers {
    const [step, changes, bytes = 0] = this.#carryOut(registers, memory);
    const out = { ...registers, ...changes };
    this.traps.push({ step, bytes, in: registers, out });
    return out;
  }

  #carryOut(registers: Registers, memory: OperationMemory | undefined): Outcome {
    const [port, command] = [registers.edx & 0xffff, registers.ecx & 0xffff];
    const unknown: Outcome = [undefined, { eax: 0xffffffff }];
    if (registers.eax !== MAGIC || port !== (memory === undefined ? LB_PORT : HB_PORT)) return unknown;
    let step: VmxStep | undefined;
    if (memory !== undefined) step = memory.direction === "send" ? "HB OUT" : "HB IN";
    else if (command === GETVERSION) return [undefined, { eax: 6, ebx: MAGIC, ecx: 2 }];
    else if (command === MESSAGE && this.#options.messages !== false) step = STEPS[registers.ecx >>> 16];
    if (step === undefined) return unknown;
    const fault = this.#fault(step, registers);
    if (typeof fault === "object") return [step, fault];
    if (fault !== undefined) return [step, this.#failed(step, registers, fault)];
    return memory === undefined ? this.#message(step, registers) : this.#bulk(step, registers, memory);
  }

  #message(step: VmxStep, registers: Registers): Outcome {
    const refused: Outcome = [step, { ecx: 0 }];
    if (step === "OPEN") return [step, this.#openLine(registers)];
    const line = this.#lineOf(registers, registers.esi, registers.edi);
    if (line === undefined) return refused;
    const done = (changes: Partial<Registers> = {}, bytes = 0, more = 0): Outcome => [
      step,
      { ecx: ((SUCCESS | more) << 16) >>> 0, ...changes },
      bytes,
    ];
    const hb = this.#options.highBandwidth === false ? 0 : HB;
    switch (step) {
      case "SENDSIZE": {
        const announced = registers.ebx;
        if (announced > MAX_REQUEST) return refused;
        Object.assign(line, { announced, request: Buffer.alloc(announced), got: 0, reply: undefined });
        return done({}, 0, hb);
      }
      case "SENDPAYLOAD": {
        const due = Math.min(4, (line.announced ?? 0) - line.got);
        if (due <= 0) return refused;
        for (let at = 0; at < due; at++) line.request[line.got++] = registers.ebx >>> (8 * at);
        this.#runWhenWhole(line);
        return done({}, due);
      }
      case "RECVSIZE":
        line.given = 0;
        if (line.reply === undefined) return done({ ebx: 0 });
        return done({ ebx: line.reply.length, edx: 0x10000 }, 0, DORECV | hb);
      case "RECVPAYLOAD": {
        if ((registers.ebx & SUCCESS) === 0) line.reply = undefined;
        const word = Buffer.alloc(4);
        const bytes = line.reply?.copy(word, 0, line.given, line.given + 4) ?? 0;
        if (bytes === 0) return refused;
        line.given += bytes;
        return done({ ebx: word.readUInt32LE(), edx: 0x20000 }, bytes);
      }
      case "RECVSTATUS":
        if (line.reply === undefined) return refused;
        line.reply = undefined;
        return done();
      default:
        this.#lines.delete(registers.edx >>> 16);
        return done();
    }
  }

  #bulk(step: VmxStep, registers: Registers, { direction, bytes }: OperationMemory): Outcome {
    const { esi, edi, ebp } = registers;
    const isSent = direction === "send";
    const line = isSent ? this.#lineOf(registers, ebp, edi) : this.#lineOf(registers, esi, ebp);
    const wanted = isSent ? line?.announced : line?.reply?.length;
    const right = registers.ebx === SUCCESS << 16 && registers.ecx === wanted && bytes.length === wanted;
    if (line === undefined || !right || this.#options.highBandwidth === false || wanted === 0)
      return [step, { ebx: 0 }];
    if (isSent) {
      line.request = Buffer.from(bytes);
      line.got = bytes.length;
      this.#runWhenWhole(line);
    } else bytes.set(line.reply ?? []);
    return [step, { ebx: SUCCESS << 16, ecx: 0 }, bytes.length];
  }

  #runWhenWhole(line: Line): void {
    if (line.got !== line.announced) return;
    line.reply = this.#host.answer(line.request, { privileged: false });
    line.announced = undefined;
  }

  #openLine({ ebx }: Registers): Partial<Registers> {
    const { cookies = true, channels = 128, fixedCookies } = this.#options;
    const flagged = ebx >= COOKIE_FLAG;
    const protocol = (ebx & ~COOKIE_FLAG) >>> 0;
    const refused =
      this.#lines.size >= channels || (flagged && !cookies) || (protocol !== RPCI && protocol !== TCLO);
    if (refused) return { ecx: 0 };
    let id = 0;
    while (this.#lines.has(id)) id++;
    const random = randomBytes(8);
    const [high, low] = fixedCookies ?? [random.readUInt32LE(0), random.readUInt32LE(4)];
    const line: Line = {
      cookieHigh: flagged ? high : 0,
      cookieLow: flagged ? low : 0,
      request: Buffer.alloc(0),
      announced: undefined,
      got: 0,
      reply: undefined,
      given: 0,
    };
    this.#lines.set(id, line);
    return { ecx: SUCCESS << 16, edx: (id << 16) >>> 0, esi: line.cookieHigh, edi: line.cookieLow };
  }

  #lineOf({ edx }: Registers, high: number, low: number): Line | undefined {
    const line = this.#lines.get(edx >>> 16);
    return line !== undefined && line.cookieHigh === high && line.cookieLow === low ? line : undefined;
  }

  #fault(step: VmxStep, registers: Registers): VmxFault | undefined {
    const count = this.#counts.get(step) ?? 0;
    this.#counts.set(step, count + 1);
    const fault = this.#options.fault?.(step, count);
    if (fault === "close") this.#lines.delete(registers.edx >>> 16);
    return fault;
  }

  /** A cut or failed step; the message that was on its way starts again. */
  #failed(step: VmxStep, { edx }: Registers, fault: "checkpoint" | "fail" | "close"): Partial<Registers> {
    const status = fault === "checkpoint" ? CHECKPOINT << 16 : 0;
    const line = this.#lines.get(edx >>> 16);
    if (line !== undefined && fault === "checkpoint") {
      if (step === "SENDPAYLOAD" || step === "HB OUT") line.announced = undefined;
      line.given = 0;
    }
    return step.startsWith("HB") ? { ebx: status } : { ecx: status };
  }
}
