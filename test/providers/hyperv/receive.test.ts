import { expect } from "chai";
import { type ReceiveOptions, receiveKvp } from "../../../providers/hyperv/kvpd/receive.js";
import { encodeRequest, LINUX_KVP, replyStatus } from "../../../providers/hyperv/protocol/messages.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import type { StoreEntry } from "../../../src/index.js";
import { TestDriver } from "../../support/kvp-driver.js";
import { PoolTree } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";

describe("receiving Hyper-V's pairs", () => {
  let tree: PoolTree;
  let driver: TestDriver;
  beforeEach(() => {
    tree = new PoolTree();
    driver = new TestDriver();
  });
  afterEach(() => tree[Symbol.asyncDispose]());

  /** Begins to receive; resolves when the host may send. */
  async function begin(options: ReceiveOptions): Promise<{ received: Promise<readonly StoreEntry[]> }> {
    const registered = driver.registration();
    const host = nodeHost({ sysroot: tree.sysroot });
    const received = receiveKvp(host, { openDevice: driver.open, quietMs: 50, ...options });
    await Promise.race([registered, received]);
    return { received };
  }

  async function set(pool: number, key: string, value: string): Promise<void> {
    const request = { operation: "set", pool, key: Buffer.from(key), value: Buffer.from(value) } as const;
    expect(replyStatus(await driver.send(encodeRequest(request, LINUX_KVP)))).to.equal(0);
  }

  it("ends with the wanted pairs when the host is silent, and keeps all that came", async () => {
    const { received } = await begin({ keys: ["External/b", "External/a"], timeoutMs: 30_000 });
    await set(0, "a", "1");
    await set(0, "other", "x");
    await set(0, "b", "2");
    expect(await received).to.deep.equal([
      { key: "External/b", value: "2" },
      { key: "External/a", value: "1" },
    ]);
    expect(tree.get(0).toString("latin1")).to.include("other");
  });

  it("ends with all that came where nothing is named", async () => {
    const { received } = await begin({ timeoutMs: 30_000 });
    await set(3, "HostName", "here");
    expect(await received).to.deep.equal([{ key: "Guest/Parameters/HostName", value: "here" }]);
  });

  it("names what did not come in time", async () => {
    const { received } = await begin({ keys: ["External/a", "External/b"], timeoutMs: 1_500 });
    await set(0, "a", "1");
    const { message } = await rejects(received, "ERR_TIMEOUT");
    expect(message).to.include("External/b").and.not.include("External/a");
  });
});
