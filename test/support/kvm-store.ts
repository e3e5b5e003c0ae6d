import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type KvmOptions, KvmProvider, type KvmStore } from "../../providers/kvm/index.js";
import { type KvmHostSettings, KvmHostSimulator } from "../../providers/testing.js";
import type { Logger } from "../../src/base/host/host.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { addFiles, removeTree } from "./trees.js";

/** A machine in a directory whose metadata channel is a simulated host's UNIX socket. */
export class KvmMachine {
  readonly sysroot: string;
  readonly host: KvmHostSimulator;
  readonly messages: string[] = [];
  readonly #stores: KvmStore[] = [];

  private constructor(sysroot: string, host: KvmHostSimulator) {
    this.sysroot = sysroot;
    this.host = host;
  }

  static async start(settings?: KvmHostSettings): Promise<KvmMachine> {
    const machine = new KvmMachine(mkdtempSync(join(tmpdir(), "pvbus-kvm-")), new KvmHostSimulator(settings));
    await machine.listen();
    return machine;
  }

  /** Has the host listen, as after its restart. */
  async listen(): Promise<void> {
    await this.host.listen(join(this.sysroot, "meta.sock"));
  }

  /** Returns the machine a fw_cfg device with these items. */
  addFwCfg(items: Readonly<Record<string, string>>): void {
    const root = "sys/firmware/qemu_fw_cfg";
    addFiles(this.sysroot, { [`${root}/rev`]: "3\n" });
    for (const [at, [name, raw]] of Object.entries(items).entries()) {
      const files = { name: `${name}\n`, size: `${raw.length}\n`, raw };
      for (const [file, content] of Object.entries(files))
        addFiles(this.sysroot, { [`${root}/by_key/${32 + at}/${file}`]: content });
    }
  }

  get provider(): KvmProvider {
    const note = (message: string): number => this.messages.push(message);
    const logger: Logger = { debug: note, info: note, warn: note, error: note };
    return new KvmProvider(nodeHost({ sysroot: this.sysroot, platform: "linux", logger }));
  }

  /** Opens a store; without a channel it finds what there is. */
  async open(options: KvmOptions = {}, channel: string | undefined = "unix:/meta.sock"): Promise<KvmStore> {
    const store = await this.provider.open({ channel, options: { ...options } });
    this.#stores.push(store);
    return store;
  }

  async end(): Promise<void> {
    for (const store of this.#stores) await store.close();
    await this.host.stop();
    removeTree(this.sysroot);
  }
}

/** Returns the keys and values of a listing as text. */
export async function listing(store: KvmStore, prefix: string, call: Parameters<KvmStore["list"]>[1]) {
  const all: [string, string | undefined][] = [];
  for await (const { key, value } of store.list(prefix, call))
    all.push([key, value && Buffer.from(value).toString("utf8")]);
  return all;
}
