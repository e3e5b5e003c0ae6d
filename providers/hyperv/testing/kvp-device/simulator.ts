import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pvbusError } from "../../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../../src/base/flow/call.js";
import { SerialQueue } from "../../../../src/base/flow/queues.js";
import { fromSystemError } from "../../../../src/base/system-error.js";
import {
  decodeEnumerateReply,
  decodeIpInfo,
  EMPTY_IP_INFO,
  encodeRequest,
  type KvpIpInfo,
  type KvpRequest,
  LINUX_KVP,
  replyStatus,
} from "../../protocol/messages.js";
import { Answer, Command } from "./control.js";
import type { HostFailure } from "./driver.js";

/** Options of {@link KvpDeviceSimulator.start}. */
export interface KvpDeviceSimulatorOptions {
  /** Directory that agents see as /var/lib/hyperv; default: a temporary one that goes with the simulator. */
  readonly directory?: string;
  /** Version text that registrations are answered with; default 3.1 as the real driver says. */
  readonly version?: string;
  /** How long the driver waits for a reply, in milliseconds; the real one 30 s. */
  readonly timeLimitMs?: number;
}

/** A record as the host sees it. */
export interface HostRecord {
  /** Key. */
  readonly key: string;
  /** Value. */
  readonly value: string;
}

/** An agent's answer to GET_IP_INFO. */
export interface HostIpInfo {
  /** The error word; 0 is success. */
  readonly status: number;
  /** The settings. */
  readonly info: KvpIpInfo;
}

/** The driver answered the host by itself. */
export class KvpDriverAnswer extends Error {
  /** Status that the host gets, 0x80004005. */
  readonly status: number;
  /** Why. */
  readonly why: HostFailure;

  /** @internal */
  constructor(status: number, why: HostFailure) {
    super(`the driver answered the host by itself: ${why}`);
    this.name = "KvpDriverAnswer";
    this.status = status;
    this.why = why;
  }
}

const START_MS = 30_000;
const ANSWER_BYTES = 16 * 1024;

/**
 * Linux's KVP device and the host behind it, for the test of an agent: a file `/dev/vmbus/hv_kvp` that blocks, polls, refuses a
 * second opener and speaks as the driver does, and a host that asks. Agents run unmodified with {@link run}.
 *
 * Needs root, /dev/fuse and util-linux. Everything lives in a process and a mount namespace of its own, which end with
 * {@link close} or with this process, whichever comes first.
 */
export class KvpDeviceSimulator implements AsyncDisposable {
  /** The device as this process can open it; agents started with {@link run} see it at `/dev/vmbus/hv_kvp`. */
  readonly devicePath: string;
  /** The pools' directory, in this process's view. */
  readonly directory: string;
  readonly #server: ChildProcess;
  readonly #control: FileHandle;
  readonly #ended: Promise<void>;
  readonly #temporary: string | undefined;
  readonly #timeLimitMs: number;
  readonly #agents = new Set<ChildProcess>();
  readonly #queue = new SerialQueue();
  #closing: Promise<void> | undefined;

  private constructor(
    server: ChildProcess,
    control: FileHandle,
    ended: Promise<void>,
    directory: string,
    options: KvpDeviceSimulatorOptions,
  ) {
    this.#server = server;
    this.#control = control;
    this.#ended = ended;
    this.devicePath = `/proc/${server.pid}/root/dev/vmbus/hv_kvp`;
    this.directory = directory;
    this.#temporary = options.directory === undefined ? directory : undefined;
    this.#timeLimitMs = options.timeLimitMs ?? 30_000;
  }

  /**
   * Starts the device.
   * @throws PvbusError `ERR_PERMISSION` without root, `ERR_UNAVAILABLE` without /dev/fuse, unshare(1) or mount(8)
   */
  static async start(options: KvpDeviceSimulatorOptions = {}): Promise<KvpDeviceSimulator> {
    const why = KvpDeviceSimulator.whyNot();
    if (why !== undefined)
      throw pvbusError(process.geteuid?.() === 0 ? "ERR_UNAVAILABLE" : "ERR_PERMISSION", why);
    const directory = options.directory ?? mkdtempSync(join(tmpdir(), "pvbus-kvp-"));
    const program = fileURLToPath(new URL("fuse-server.js", import.meta.url));
    const server = spawn(
      "unshare",
      ["--mount", "--propagation", "private", process.execPath, program, directory, options.version ?? "3.1"],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    let said = "";
    server.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const ended = new Promise<void>((resolve) => {
      server.once("close", () => resolve());
      server.once("error", () => resolve());
    });
    try {
      const ready = new Promise<boolean>((resolve) => server.stdout.once("data", () => resolve(true)));
      const first = Promise.race([ready, ended.then(() => false)]);
      const started = await new Call({ timeoutMs: START_MS }).within(first, "the simulated device");
      if (!started) throw pvbusError("ERR_UNAVAILABLE", `the device's process ended: ${said.trim()}`);
      const control = await open(`/proc/${server.pid}/root/dev/vmbus/.control`, "r+");
      return new KvpDeviceSimulator(server, control, ended, directory, options);
    } catch (error) {
      server.kill("SIGKILL");
      if (options.directory === undefined) rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Returns why the device cannot be simulated here; undefined when it can. */
  static whyNot(): string | undefined {
    if (process.platform !== "linux") return "the KVP device is Linux's; run this on Linux";
    if (process.geteuid?.() !== 0) return "mounting needs root; run this as root";
    if (!existsSync("/dev/fuse")) return "there is no /dev/fuse; load the module fuse (modprobe fuse)";
    return undefined;
  }

  /**
   * Runs a program where the device is at /dev/vmbus/hv_kvp and the pools are at /var/lib/hyperv. The child's process id is
   * the program's own. What still runs is killed when the simulator is closed.
   */
  run(
    program: string,
    args: readonly string[] = [],
    options: { env?: NodeJS.ProcessEnv } = {},
  ): ChildProcess {
    const child = spawn(
      "nsenter",
      [`--mount=/proc/${this.#server.pid}/ns/mnt`, "--wdns=/", "--", program, ...args],
      { stdio: ["ignore", "pipe", "pipe"], env: options.env ?? process.env },
    );
    this.#agents.add(child);
    child.once("close", () => this.#agents.delete(child));
    return child;
  }

  /**
   * Resolves when an agent has registered and taken the driver's answer.
   * @param after number of registrations that do not count, such as those seen before
   * @returns the number of registrations so far
   */
  async waitForRegistration(after = 0, options: CallOptions = {}): Promise<number> {
    const rest = Buffer.alloc(4);
    rest.writeUInt32LE(after);
    const call = new Call(options);
    const count = this.#number(Command.awaitRegistration, rest);
    try {
      return await call.within(count, "an agent's registration");
    } catch (error) {
      await this.#send(Command.cancel);
      throw error;
    }
  }

  /** Resolves with the number of registrations so far. */
  registrations(): Promise<number> {
    return this.#number(Command.registrations);
  }

  /** Resolves with the process id of the agent that has the device open; undefined when none has. */
  async agentPid(): Promise<number | undefined> {
    return (await this.#number(Command.agent)) || undefined;
  }

  /**
   * Sends one message to the agent, any bytes, and resolves with its reply of 7432 bytes. The real driver's have 7432 bytes
   * too; a shorter one shows what an agent makes of it.
   * @throws KvpDriverAnswer when the driver answered the host by itself: nobody registered, time limit, closed, removed
   * @throws RangeError for a longer message; PvbusError `ERR_UNAVAILABLE` when the simulator's process has ended
   */
  async request(message: Uint8Array): Promise<Buffer> {
    if (message.length > LINUX_KVP.messageBytes)
      throw new RangeError(`a message has at most ${LINUX_KVP.messageBytes} bytes, not ${message.length}`);
    let limit: NodeJS.Timeout | undefined;
    const begin = (): void => {
      limit = setTimeout(() => this.expire(), this.#timeLimitMs);
    };
    const answer = await this.#exchange(Command.request, message, begin).finally(() => clearTimeout(limit));
    if (answer[0] === Answer.reply) return answer.subarray(1);
    throw new KvpDriverAnswer(answer.readUInt32LE(1), answer.toString("utf8", 5) as HostFailure);
  }

  /** The host sets a pair. @returns the error word */
  async set(pool: number, key: string, value: string): Promise<number> {
    return this.#status({ operation: "set", pool, key: Buffer.from(key), value: Buffer.from(value) });
  }

  /** The host deletes a key. @returns the error word */
  async delete(pool: number, key: string): Promise<number> {
    return this.#status({ operation: "delete", pool, key: Buffer.from(key) });
  }

  /** The host asks for one record. @returns undefined when the agent answers with an error, as at the end */
  async enumerate(pool: number, index: number): Promise<HostRecord | undefined> {
    const reply = await this.request(encodeRequest({ operation: "enumerate", pool, index }, LINUX_KVP));
    if (replyStatus(reply) !== 0) return undefined;
    const { key, value } = decodeEnumerateReply(reply);
    return { key: Buffer.from(key).toString("utf8"), value: Buffer.from(value).toString("utf8") };
  }

  /** The host lists a pool: from index 0 to the first error, as it does. */
  async list(pool: number): Promise<HostRecord[]> {
    const all: HostRecord[] = [];
    for (;;) {
      const record = await this.enumerate(pool, all.length);
      if (record === undefined) return all;
      all.push(record);
    }
  }

  /** The host asks for the settings of the adapter with a MAC address. @returns the error word and the settings */
  async getIpInfo(mac: string): Promise<HostIpInfo> {
    const info = { ...EMPTY_IP_INFO, adapterId: mac };
    const reply = await this.request(encodeRequest({ operation: "getIpInfo", info }, LINUX_KVP));
    return { status: replyStatus(reply), info: decodeIpInfo(reply) };
  }

  /** The host changes the settings of an adapter. @returns the error word */
  setIpInfo(info: KvpIpInfo): Promise<number> {
    return this.#status({ operation: "setIpInfo", info });
  }

  /** The driver loses patience with the request at hand: the host gets 0x80004005, a late reply EINVAL. */
  expire(): Promise<void> {
    return this.#send(Command.expire);
  }

  /** The driver goes away: reads fail with EBADF, poll reports an error. */
  remove(): Promise<void> {
    return this.#send(Command.remove);
  }

  /** The driver is back. */
  restore(): Promise<void> {
    return this.#send(Command.restore);
  }

  /** Ends the agents, the device and its process. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Same as {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    for (const agent of this.#agents) agent.kill("SIGKILL");
    // The pending answer, if any, comes from the agents' end or not at all.
    this.#server.kill("SIGKILL");
    await this.#ended;
    await this.#queue.run(Call.endless(), "the device", () => undefined);
    await this.#control.close().catch(() => undefined);
    if (this.#temporary !== undefined) rmSync(this.#temporary, { recursive: true, force: true });
  }

  async #status(request: Exclude<KvpRequest, { operation: "malformed" }>): Promise<number> {
    return replyStatus(await this.request(encodeRequest(request, LINUX_KVP)));
  }

  async #number(code: number, rest?: Uint8Array): Promise<number> {
    return (await this.#exchange(code, rest)).readUInt32LE(1);
  }

  async #send(code: number, rest: Uint8Array = new Uint8Array()): Promise<void> {
    await this.#control.write(Buffer.concat([Buffer.from([code]), rest])).catch(refuse);
  }

  /** One command with an answer at a time. */
  #exchange(code: number, rest?: Uint8Array, begin?: () => void): Promise<Buffer> {
    return this.#queue.run(Call.endless(), "the device", async () => {
      // Behind what the caller does at once: who asks and ends the device then gets no answer.
      await undefined;
      begin?.();
      await this.#send(code, rest);
      const answer = Buffer.alloc(ANSWER_BYTES);
      const { bytesRead } = await this.#control.read(answer, 0, ANSWER_BYTES, null).catch(refuse);
      return answer.subarray(0, bytesRead);
    });
  }
}

function refuse(error: unknown): never {
  throw fromSystemError(error, { doing: "the simulated device's process has ended" });
}
