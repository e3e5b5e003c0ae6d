import { createKvpDaemon, type KvpDaemonOptions } from "../../providers/hyperv/kvpd/create.js";
import type { KvpLayout, KvpRequest } from "../../providers/hyperv/protocol/messages.js";
import { decodeEnumerateReply, LINUX_KVP, replyStatus } from "../../providers/hyperv/protocol/messages.js";
import type { Logger } from "../../src/base/host/host.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { TestDriver } from "./kvp-driver.js";

/** A logger that keeps what it is told, a line each. */
export function keepingLogger(lines: string[]): Logger {
  const keep =
    (level: string) =>
    (message: string): void => {
      lines.push(`${level}: ${message}`);
    };
  return { debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") };
}

/** Our daemon in this process, on a driver of the test's. */
export class RunningDaemon implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly driver: TestDriver;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(layout: KvpLayout) {
    this.driver = new TestDriver(layout);
  }

  /** Starts it below a sysroot; resolves when it is registered. */
  static async start(
    sysroot: string,
    options: KvpDaemonOptions & { platform?: NodeJS.Platform; layout?: KvpLayout } = {},
  ): Promise<RunningDaemon> {
    const { platform, layout = LINUX_KVP, ...settings } = options;
    const running = new RunningDaemon(layout);
    const host = nodeHost({ sysroot, platform, logger: keepingLogger(running.lines) });
    const daemon = await createKvpDaemon(host, { openDevice: running.driver.open, ...settings });
    const registered = running.driver.registration();
    running.#running = daemon.run(running.#stop.signal);
    await Promise.race([registered, running.#running]);
    return running;
  }

  /** Sends a request; resolves with the error word of the reply. */
  async status(request: Exclude<KvpRequest, { operation: "malformed" }>): Promise<number> {
    return replyStatus(await this.driver.request(request));
  }

  set(pool: number, key: string, value: string): Promise<number> {
    return this.status({ operation: "set", pool, key: Buffer.from(key), value: Buffer.from(value) });
  }

  delete(pool: number, key: string): Promise<number> {
    return this.status({ operation: "delete", pool, key: Buffer.from(key) });
  }

  /** Enumerates a pool as the host does, from 0 to the first error. */
  async enumerate(pool: number): Promise<[string, string][]> {
    const pairs: [string, string][] = [];
    for (let index = 0; ; index++) {
      const reply = await this.driver.request({ operation: "enumerate", pool, index });
      if (replyStatus(reply) !== 0) return pairs;
      const { key, value } = decodeEnumerateReply(reply);
      pairs.push([Buffer.from(key).toString(), Buffer.from(value).toString()]);
    }
  }

  /** Ends it; resolves when it has ended. */
  stop(): Promise<void> {
    this.#stop.abort();
    return this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
