import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type KvpDeviceSimulator,
  KvpDriverAnswer,
} from "../../providers/hyperv/testing/kvp-device/simulator.js";
import { PROGRAM } from "../support/command-line.js";
import { ROOT } from "../support/pools.js";
import type { MixedResult } from "./mixed.js";
import type { Action, ApiAction, HostAction } from "./model.js";

/** Where Debian's hyperv-daemons puts the vendor's daemon. */
const VENDOR = "/usr/sbin/hv_kvp_daemon";
/** The end of a pool, or no such key. */
const NO_MORE_ITEMS = 0x80070103;
const GUEST = 1;
const REGISTRATION_MS = 30_000;
const LOOK_MS = 3;

/** The writer was killed before it answered. */
export class Killed extends Error {}

/** A process that changes a pool when it is asked to, and may be killed meanwhile. */
export interface Writer {
  /** What it is, in words. */
  readonly name: string;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  /** Resolves when it can be asked. @throws Killed */
  ready(): Promise<void>;
  /** Does it; resolves with what it said, where it says anything. @throws Killed */
  act(action: Action): Promise<boolean | undefined>;
  kill(): void;
}

const endOf = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => child.once("close", () => resolve()));

/** A process on the public API. */
export class ApiWriter implements Writer {
  readonly name = "API";
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #said = "";

  /**
   * Starts one that works below a sysroot.
   * @param prelude a command that runs another one
   */
  constructor(
    sysroot: string,
    env: NodeJS.ProcessEnv = process.env,
    options: object = {},
    prelude: readonly string[] = [],
  ) {
    const program = join(ROOT, "dist/test/campaigns/pool-process.js");
    const [command = "", ...args] = [
      ...prelude,
      ...[process.execPath, program, sysroot, JSON.stringify(options)],
    ];
    const child = spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    this.ended = endOf(child);
    child.stdin.on("error", () => undefined);
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#said += text;
    });
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Resolves when it can be asked. */
  async ready(): Promise<void> {
    await this.#next();
  }

  async act(action: ApiAction): Promise<boolean | undefined> {
    return (await this.#ask(action)) as boolean | undefined;
  }

  /** Lists the pool; resolves with the pairs. @throws Error with what it said */
  async list(): Promise<Map<string, string>> {
    return new Map((await this.#ask({ kind: "list" })) as [string, string][]);
  }

  /** Changes own keys that are there for so long: in place, or so that others move. */
  async burst(keys: readonly string[], moves: boolean, ms: number): Promise<MixedResult> {
    return (await this.#ask({ kind: "burst", keys, moves, ms })) as MixedResult;
  }

  async #ask(what: { kind: string; [more: string]: unknown }): Promise<unknown> {
    this.#child.stdin?.write(`${JSON.stringify(what)}\n`);
    const { answer, failure } = await this.#next();
    if (failure !== undefined) throw new Error(`the API refused ${what.kind}: ${failure}`);
    return answer;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async #next(): Promise<{ answer?: unknown; failure?: string }> {
    const { done, value } = await this.#lines.next();
    if (!done) return JSON.parse(value);
    await this.ended;
    if (this.#child.signalCode === "SIGKILL") throw new Killed();
    throw new Error(`the process of the API ended: ${this.#said}`);
  }
}

/** A daemon on the simulated device, whose host asks for changes of pool Guest. */
export class HostWriter implements Writer {
  readonly name: string;
  readonly ended: Promise<void>;
  readonly #simulator: KvpDeviceSimulator;
  readonly #child: ChildProcess;
  readonly #before: number;
  #said = "";

  private constructor(
    simulator: KvpDeviceSimulator,
    who: "ours" | "vendor",
    env: NodeJS.ProcessEnv,
    before: number,
  ) {
    this.name = who === "ours" ? "daemon" : "vendor's daemon";
    this.#simulator = simulator;
    this.#before = before;
    const [program = "", ...args] =
      who === "ours" ? [process.execPath, PROGRAM, "kvpd", "-n"] : [VENDOR, "-n"];
    this.#child = simulator.run(program, args, { env });
    this.ended = endOf(this.#child);
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#said += text;
    });
  }

  /** Starts one. */
  static async start(
    simulator: KvpDeviceSimulator,
    who: "ours" | "vendor",
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<HostWriter> {
    // The vendor's daemon may be faster than the next question.
    return new HostWriter(simulator, who, env, await simulator.registrations());
  }

  /** Resolves when it is registered. @throws Killed */
  async ready(): Promise<void> {
    let over = false;
    this.ended.then(() => {
      over = true;
    });
    // One that is killed meanwhile never registers, so the number is looked at: a command that waits for it would stay.
    for (const began = performance.now(); (await this.#simulator.registrations()) <= this.#before; ) {
      if (over && this.#child.signalCode === "SIGKILL") throw new Killed();
      const late = performance.now() - began > REGISTRATION_MS;
      if (over || late)
        throw new Error(`${this.name} did not register${over ? " and ended" : ""}: ${this.#said}`);
      await sleep(LOOK_MS);
    }
  }

  async act(action: HostAction): Promise<boolean | undefined> {
    if (action.kind === "start") return undefined;
    try {
      const status =
        action.kind === "set"
          ? await this.#simulator.set(GUEST, action.key, action.value)
          : await this.#simulator.delete(GUEST, action.key);
      if (action.kind === "unset" && (status === 0 || status === NO_MORE_ITEMS)) return status === 0;
      if (status !== 0) throw new Error(`${this.name} refused ${action.kind}: 0x${status.toString(16)}`);
      return undefined;
    } catch (error) {
      if (!(error instanceof KvpDriverAnswer)) throw error;
      throw new Killed();
    }
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}
