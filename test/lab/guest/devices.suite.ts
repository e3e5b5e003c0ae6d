/** Real character devices: the vendor's daemon and ours on /dev/vmbus/hv_kvp, our OpenBSD store on /dev/pvbus0. */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { nodeHost, openPvbus } from "pvbus";
import { HypervProvider, receiveKvp } from "pvbus/providers/hyperv";
import {
  decodeEnumerateReply,
  encodeRequest,
  LINUX_KVP,
  replyStatus,
} from "../../../providers/hyperv/protocol/messages.js";
import { Call } from "../../../src/base/flow/call.js";
import type { KvpEvent } from "./kvp-device.js";

const PROGRAM = join(import.meta.dirname, "../../../bin/pvbus.cjs");
const AGENTS = {
  "the vendor's daemon": ["/usr/sbin/hv_kvp_daemon", "-n"],
  "pvbus kvpd": [process.execPath, PROGRAM, "kvpd", "-n"],
} as const;

async function started(name: string): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, name));
  await new Promise<void>((resolve, reject) => {
    child.once("message", () => resolve());
    child.once("exit", (code) => reject(new Error(`${name} ended with ${code}`)));
  });
  return child;
}

async function appears(path: string): Promise<void> {
  while (!existsSync(path)) await sleep(20);
}

describe("Linux's KVP device as a character device", () => {
  let device: ChildProcess;
  const next = (event: KvpEvent["event"]): Promise<KvpEvent> =>
    new Promise((resolve) => {
      const listen = (got: KvpEvent): void => {
        if (got.event !== event) return;
        device.off("message", listen);
        resolve(got);
      };
      device.on("message", listen);
    });
  const ask = async (request: Parameters<typeof encodeRequest>[0]): Promise<Buffer> => {
    const reply = next("reply");
    device.send({ message: encodeRequest(request, LINUX_KVP).toString("base64") });
    return Buffer.from(((await reply) as { reply: string }).reply, "base64");
  };
  const set = async (key: string, value: string): Promise<number> =>
    replyStatus(await ask({ operation: "set", pool: 0, key: Buffer.from(key), value: Buffer.from(value) }));
  const list = async (pool: number): Promise<string[]> => {
    const pairs: string[] = [];
    for (let index = 0; ; index++) {
      const reply = await ask({ operation: "enumerate", pool, index });
      if (replyStatus(reply) !== 0) return pairs;
      const { key, value } = decodeEnumerateReply(reply);
      pairs.push(`${Buffer.from(key)}=${Buffer.from(value)}`);
    }
  };

  before(async () => {
    device = await started("kvp-device.js");
    await appears("/dev/vmbus/hv_kvp");
  });
  after(() => device.kill());

  it("is one", () => {
    expect(statSync("/dev/vmbus/hv_kvp").isCharacterDevice()).to.equal(true);
  });

  for (const [name, [program, ...args]] of Object.entries(AGENTS)) {
    it(`${name} serves it, and our store sees what the host sets`, async () => {
      const registered = next("registered");
      const agent = spawn(program, args, { stdio: "inherit" });
      const ended = new Promise((resolve) => agent.once("exit", resolve));
      await registered;
      expect(await set("served by", name)).to.equal(0);
      expect(await list(0)).to.include(`served by=${name}`);
      expect((await list(2)).filter((pair) => pair.startsWith("ProcessorArchitecture="))).to.deep.equal([
        "ProcessorArchitecture=x86_64",
      ]);
      await using bus = await openPvbus({ interfaces: [{ type: "Hyper-V" }] });
      expect(await bus.primary?.read("External/served by")).to.equal(name);
      await bus.primary?.write(`Guest/by ${name}`, "yes");
      expect(await list(1)).to.include(`by ${name}=yes`);
      agent.kill();
      await ended;
    });
  }

  it("pvbus kvpd sees the driver go and come back with a new registration", async () => {
    const [program, ...args] = AGENTS["pvbus kvpd"];
    const registered = next("registered");
    const agent = spawn(program, args, { stdio: "inherit" });
    const ended = new Promise((resolve) => agent.once("exit", resolve));
    await registered;
    device.kill("SIGKILL");
    await new Promise((resolve) => device.once("exit", resolve));
    device = await started("kvp-device.js");
    const again = next("registered");
    await again;
    expect(await set("after", "it")).to.equal(0);
    agent.kill();
    await ended;
  });

  it("receive takes what the host sends, and leaves", async () => {
    const registered = next("registered");
    const received = receiveKvp(nodeHost(), { keys: ["External/role"], timeoutMs: 20_000, quietMs: 200 });
    await registered;
    expect(await set("role", "db")).to.equal(0);
    expect(await received).to.deep.equal([{ key: "External/role", value: "db" }]);
  });
});

describe("OpenBSD's /dev/pvbus0 as a character device", () => {
  let device: ChildProcess;
  before(async () => {
    device = await started("pvbus-device.js");
    await appears("/dev/pvbus0");
  });
  after(() => device.kill());

  it("serves the store through real ioctls", async () => {
    const store = await new HypervProvider(nodeHost({ platform: "openbsd" })).open({ options: {} });
    const call = new Call({ timeoutMs: 10_000 });
    const read = async (key: string): Promise<string | undefined> => {
      const value = await store.read(key, call);
      return value && Buffer.from(value).toString();
    };
    try {
      expect(await read("External/role")).to.equal("db");
      expect(await read("External/none")).to.equal(undefined);
      await store.write("Guest/build", Buffer.from("1"), call);
      expect(await read("Guest/build")).to.equal("1");
      const second = await store
        .write("Guest/build", Buffer.from("2"), call)
        .catch((error: unknown) => error);
      expect(second).to.have.property("code", "ERR_NOT_SUPPORTED");
      await store.write("Auto/OSVersion", Buffer.from("7.7"), call);
      expect(await read("Auto/OSVersion")).to.equal("7.7");
      const keys: string[] = [];
      for await (const { key } of store.list("", call)) keys.push(key);
      expect(keys).to.include.members(["External/role", "Guest/build", "Auto/OSName", "Auto/OSVersion"]);
    } finally {
      await store.close();
    }
  });
});
