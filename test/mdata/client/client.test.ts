import { createServer } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { openAdministration } from "../../../providers/kvm/host/index.js";
import { type KvmHostSettings, KvmHostSimulator } from "../../../providers/testing.js";
import { hostFiles } from "../../../src/base/host/files.js";
import { UnixStream } from "../../../src/base/host/unix-stream.js";
import { Call, pvbusError } from "../../../src/index.js";
import { MAX_KEYS, MetadataChannel } from "../../../src/mdata/client/channel.js";
import { ChannelClient } from "../../../src/mdata/client/client.js";
import type { Session } from "../../../src/mdata/client/session.js";
import type { Transport } from "../../../src/mdata/client/transport.js";
import { decodeFrame } from "../../../src/mdata/frame.js";
import { decodeRequest, type Request } from "../../../src/mdata/request.js";
import { turn } from "../../support/descriptors.js";
import { HostFolder } from "../../support/kvm-guest.js";
import { KvmMachine } from "../../support/kvm-store.js";
import { ROOT } from "../../support/pools.js";
import { start } from "../../support/processes.js";
import { rejects } from "../../support/rejects.js";

const LIVE = hostFiles(undefined);
const OPTIONS = { maxLineBytes: 64 * 1024, connectTimeoutMs: 2_000, idleMs: 30 };
const call = (timeoutMs = 5_000): Call => new Call({ timeoutMs });
const text = (value: Uint8Array | undefined): string | undefined =>
  value && Buffer.from(value).toString("latin1");
const bytes = (value: string): Buffer => Buffer.from(value, "latin1");

describe("metadata channel", () => {
  let machine: KvmMachine;
  const clients: ChannelClient[] = [];
  const openTest: Transport["open"] = (events, during) =>
    UnixStream.connect(
      () => LIVE.holdSocket(join(machine.sysroot, "meta.sock")),
      { name: "unix:test", ...events },
      during,
    );

  async function channelTo(
    settings?: KvmHostSettings,
    change: Partial<Transport> = {},
  ): Promise<MetadataChannel> {
    machine = await KvmMachine.start(settings);
    return channelAt(change);
  }
  function channelAt(change: Partial<Transport> = {}, options = OPTIONS): MetadataChannel {
    const transport = { name: "unix:test", isShared: false, open: openTest, ...change };
    const client = new ChannelClient(transport, options);
    clients.push(client);
    return new MetadataChannel(client, options.maxLineBytes);
  }
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await machine.end();
  });

  for (const fault of ["noise", "torn", "doubled"] as const) {
    it(`gets the answer in spite of: ${fault}`, async () => {
      const channel = await channelTo();
      machine.host.set("k", "value");
      await channel.get("k", call());
      machine.host.fail(fault);
      expect(text(await channel.get("k", call()))).to.equal("value");
      expect(text(await channel.get("k", call()))).to.equal("value");
    });
  }

  for (const fault of ["lost", "damaged", "foreign"] as const) {
    it(`waits to the end of the call, and goes on with the next, after an answer that is: ${fault}`, async () => {
      const channel = await channelTo();
      machine.host.set("k", "value");
      await channel.get("k", call());
      machine.host.fail(fault);
      await rejects(channel.get("k", call(50)), "ERR_TIMEOUT");
      expect(text(await channel.get("k", call()))).to.equal("value");
      expect(machine.host.connections).to.equal(1);
    });
  }

  it("asks again on a new connection when the old one breaks, for what changes nothing", async () => {
    const channel = await channelTo();
    machine.host.set("k", "value");
    await channel.get("k", call());
    machine.host.fail("cut", undefined, "cut-before");
    expect(text(await channel.get("k", call()))).to.equal("value");
    machine.host.fail("cut");
    expect(await channel.keys(call())).to.deep.equal(["k"]);
  });

  it("ends with an error when every link breaks", async () => {
    const channel = await channelTo();
    await channel.get("k", call());
    // CAPS of each new connection is answered, the GET behind it is not.
    machine.host.fail("cut", undefined, "cut", undefined, "cut", undefined, "cut");
    await rejects(channel.get("k", call()), "ERR_DISCONNECTED");
  });

  it("looks what became of a change whose answer was lost with its link", async () => {
    const channel = await channelTo();
    await channel.put("k", bytes("old"), call());
    machine.host.fail("cut");
    await channel.put("k", bytes("new"), call());
    expect(text(machine.host.get("k"))).to.equal("new");
    machine.host.fail("cut-before");
    await rejects(channel.put("k", bytes("newer"), call()), "ERR_DISCONNECTED");
    expect(text(machine.host.get("k"))).to.equal("new");
    // The first fault is for the GET that looks whether the key is there.
    machine.host.fail(undefined, "cut");
    expect(await channel.delete("k", call())).to.equal(true);
    expect(machine.host.get("k")).to.equal(undefined);
  });

  it("says that a change is uncertain when nobody can be asked any more", async () => {
    const channel = await channelTo();
    await channel.get("k", call());
    machine.host.fail("cut");
    const put = channel.put("k", bytes("v"), call());
    await machine.host.stop();
    expect((await rejects(put, "ERR_DISCONNECTED")).message).to.match(/changed or not|gone/);
  });

  it("uses a host that was started anew without a word", async () => {
    const channel = await channelTo();
    machine.host.set("k", "value");
    for (let round = 0; round < 3; round++) {
      expect(text(await channel.get("k", call()))).to.equal("value");
      await machine.host.stop();
      await machine.listen();
    }
  });

  it("refuses a line without an end, and one that is too long, each with its error", async () => {
    const channel = await channelTo();
    machine.host.set("k", "value");
    machine.host.set("long", "x".repeat(60_000));
    const tooLong = await rejects(channel.get("long", call()), "ERR_PROTOCOL");
    expect(tooLong.message).to.include("maxLineBytes");
    expect(text(await channel.get("k", call()))).to.equal("value");
    machine.host.fail("flood", undefined, "flood", undefined, "flood", undefined, "flood");
    const endless = await rejects(channel.get("k", call()), "ERR_DISCONNECTED");
    expect(endless.message).to.include("without an end");
    expect(text(await channel.get("k", call()))).to.equal("value");
  });

  it("says that nobody answers: no socket, nobody behind it, a host that never speaks", async () => {
    machine = await KvmMachine.start();
    const silent = createServer();
    await machine.host.stop();
    await rejects(channelAt().get("k", call()), "ERR_UNAVAILABLE");
    silent.listen(join(machine.sysroot, "meta.sock"));
    try {
      const patience = { ...OPTIONS, connectTimeoutMs: 50 };
      const error = await rejects(channelAt({}, patience).get("k", call()), "ERR_UNAVAILABLE");
      expect(error.message).to.include("pvbus host serve");
      await rejects(channelAt().get("k", call(50)), "ERR_TIMEOUT");
    } finally {
      silent.close();
    }
  });

  it("waits for a line that another program has, and says so at the end of the call", async () => {
    let refusals = 3;
    const open: Transport["open"] = (events, during) => {
      if (refusals-- > 0) throw pvbusError("ERR_BUSY", "another program has it");
      return openTest(events, during);
    };
    const channel = await channelTo({}, { open });
    expect(await channel.get("k", call())).to.equal(undefined);
    refusals = Number.POSITIVE_INFINITY;
    await rejects(channelAt({ open }).get("k", call(60)), "ERR_BUSY");
  });

  it("gives a line that others may want back when nobody uses it, and keeps a connection of its own", async () => {
    const channel = await channelTo({}, { isShared: true });
    await channel.get("k", call());
    expect(machine.host.connections).to.equal(1);
    const release = channel.client.lease();
    await new Promise((resolve) => setTimeout(resolve, 3 * OPTIONS.idleMs));
    expect(machine.host.connections, "while it is leased").to.equal(1);
    release();
    while (machine.host.connections > 0) await turn();
    await channel.get("k", call());
    const own = channelAt();
    await own.get("k", call());
    while (machine.host.connections > 1) await turn();
    await new Promise((resolve) => setTimeout(resolve, 3 * OPTIONS.idleMs));
    expect(machine.host.connections, "one is not shared").to.equal(1);
  });

  it("begins anew on a line on which others left half a request and their answers", async () => {
    machine = await KvmMachine.start();
    await machine.host.stop();
    for (const left of [
      "V2_OK\nNOTFOUND\n",
      "invalid command\n",
      "invalid command\ninvalid command\nFAILURE\n",
      "V2 17 e8bac850 01eaf614 NOTFOUND\n",
      "SUCCESS\nhalf a val",
      `${"x".repeat(1000)}\n`,
    ]) {
      const host = new KvmHostSimulator();
      host.set("k", "value");
      const server = createServer((socket) => {
        socket.write(left);
        host.serve(socket);
      });
      await new Promise<void>((resolve) => server.listen(join(machine.sysroot, "meta.sock"), resolve));
      const channel = channelAt({ isShared: true });
      expect(text(await channel.get("k", call())), JSON.stringify(left)).to.equal("value");
      await channel.client.close();
      host.disconnect();
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it("survives a host that sends anything at all", async () => {
    machine = await KvmMachine.start();
    await machine.host.stop();
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      // Whatever is asked, the answer is of this kind.
      let round = 0;
      socket.on("data", () => {
        round++;
        const noise = Buffer.alloc(300).map((_, at) => (at * 131 + round * 17) ^ (at >> 3));
        socket.write(Buffer.concat([noise, bytes("V2_OK\nV2 9 zz\nSUCCESS\n.\n")]));
      });
    });
    await new Promise<void>((resolve) => server.listen(join(machine.sysroot, "meta.sock"), resolve));
    try {
      for (const isShared of [false, true]) {
        const channel = channelAt({ isShared }, { ...OPTIONS, connectTimeoutMs: 100 });
        await rejects(channel.get("k", call(2_000)), "ERR_UNAVAILABLE");
      }
    } finally {
      server.close();
    }
  });

  it("asks again where a frame got lost on a shared line, under the same id", async () => {
    const channel = await channelTo({}, { isShared: true });
    machine.host.set("k", "value");
    const release = channel.client.lease();
    await channel.get("k", call());
    machine.host.fail("lost");
    expect(text(await channel.get("k", call(15_000)))).to.equal("value");
    expect(machine.host.commands.filter((each) => each === "GET")).to.have.length(3);
    release();
  });

  it("does no change twice that is sent again, and leaves what the administrator wrote meanwhile", async () => {
    machine = await KvmMachine.start();
    await using folder = new HostFolder();
    await folder.serve(["a"]);
    await using administration = await openAdministration(folder.state);
    let lose = (): boolean => false;
    const frames: string[] = [];
    const open: Transport["open"] = async (events, during) => {
      const stream = await UnixStream.connect(
        () => LIVE.holdSocket(folder.socket("a")),
        { name: "unix:test", ...events, onData: (data) => lose() || events.onData(data) },
        during,
      );
      const write: typeof stream.write = (data, within) => {
        frames.push(Buffer.from(data).toString("latin1").split(" ")[4]?.trim() ?? "");
        return stream.write(data, within);
      };
      return { write, ref: () => stream.ref(), unref: () => stream.unref(), close: () => stream.close() };
    };
    const channel = channelAt({ isShared: true, open });
    const release = channel.client.lease(true);
    await channel.put("k", bytes("first"), call());
    for (const change of ["PUT", "DELETE"]) {
      const lost = new Promise<void>((resolve) => {
        lose = () => {
          lose = () => false;
          resolve();
          return true;
        };
      });
      const { session, host } = await channel.client.connect(call());
      expect(host?.commands).to.include("SESSION");
      const request =
        change === "PUT"
          ? { command: change, key: "k", value: bytes("guest") }
          : { command: change, key: "k" };
      const asked = session.request(request as Request, call(15_000));
      await lost;
      await administration.set("a", "k", bytes("administrator"));
      expect((await asked).kind).to.equal("success");
      expect(frames.filter((word) => word === change).length).to.equal(change === "PUT" ? 3 : 2);
      expect(text(await channel.get("k", call()))).to.equal("administrator");
    }
    expect(frames.filter((word) => word === "SESSION")).to.have.length(1);
    release();
  });

  it("tells the host the boot of the machine, and how far it has seen: by sessions and by what watches are told", async () => {
    const boot = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";
    machine = await KvmMachine.start();
    await using folder = new HostFolder();
    await folder.serve(["a"]);
    await using administration = await openAdministration(folder.state);
    const introductions: (Request | "unknown" | "invalid")[] = [];
    const open: Transport["open"] = async (events, during) => {
      const stream = await UnixStream.connect(
        () => LIVE.holdSocket(folder.socket("a")),
        { name: "unix:test", ...events },
        during,
      );
      const write: typeof stream.write = (data, within) => {
        const frame = decodeFrame(Buffer.from(data).subarray(0, -1));
        if (frame?.word === "SESSION") introductions.push(decodeRequest(frame));
        return stream.write(data, within);
      };
      return { write, ref: () => stream.ref(), unref: () => stream.unref(), close: () => stream.close() };
    };
    const channel = channelAt({ isShared: true, open, boot: () => boot });
    const again = async (): Promise<Session> => {
      await (await channel.client.connect(call())).session.close();
      return (await channel.client.connect(call())).session;
    };
    const release = channel.client.lease();
    const first = (await channel.client.connect(call())).session;
    expect(first.hostSession?.session).to.match(/^[0-9a-f]{32}$/);
    const told = new Promise<number>((resolve) => {
      void first
        .watch("k", ({ rev }) => rev === 3 && resolve(rev), call())
        .then(async () => {
          for (const value of ["1", "2", "3"]) await administration.set("a", "k", bytes(value));
        });
    });
    expect(await told).to.equal(3);
    expect(first.hostSession?.revision).to.equal(3);
    await administration.set("a", "j", bytes("4"));
    const second = await again();
    expect(second.hostSession).to.deep.equal({ ...first.hostSession, revision: 4 });
    await again();
    expect(introductions).to.have.length(3);
    for (const [at, revision] of [0, 3, 4].entries())
      expect(introductions[at]).to.deep.include({ command: "SESSION", boot, revision });
    expect(
      new Set(introductions.map((each) => typeof each === "object" && JSON.stringify(each))).size,
    ).to.equal(3);
    release();
  });

  it("begins a session on a connection of its own too, and sends nothing again there", async () => {
    const boot = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";
    machine = await KvmMachine.start();
    await using folder = new HostFolder();
    await folder.serve(["a"]);
    const sent: string[] = [];
    const open: Transport["open"] = async (events, during) => {
      const stream = await UnixStream.connect(
        () => LIVE.holdSocket(folder.socket("a")),
        { name: "unix:test", ...events },
        during,
      );
      const write: typeof stream.write = (data, within) => {
        sent.push(...Buffer.from(data).toString("latin1").trim().split(" ").slice(4, 5));
        return stream.write(data, within);
      };
      return { write, ref: () => stream.ref(), unref: () => stream.unref(), close: () => stream.close() };
    };
    const channel = channelAt({ open, boot: () => boot });
    await channel.put("k", bytes("v"), call());
    expect(sent).to.deep.equal(["CAPS", "SESSION", "PUT"]);
    const { session } = await channel.client.connect(call());
    expect(session.hostSession).to.deep.include({ revision: 0 });
    expect(session.doesTwice).to.equal(false);
  });

  it("takes a host that says nothing at all for gone, and begins anew", async () => {
    const channel = await channelTo();
    await channel.get("k", call());
    machine.host.fail("lost");
    await rejects(channel.get("k", call(1_100)), "ERR_TIMEOUT");
    await channel.get("k", call());
    expect(machine.host.commands).to.deep.equal(["CAPS", "GET", "GET", "CAPS", "GET"]);
  });

  it("refuses a listing of more keys than any host has", async () => {
    machine = await KvmMachine.start();
    const answer = { kind: "success", value: Buffer.alloc(MAX_KEYS + 1, "\n") } as const;
    const client = { request: async () => answer } as unknown as ChannelClient;
    await rejects(new MetadataChannel(client, 1).keys(call()), "ERR_PROTOCOL");
  });

  it("keeps other requests going when one is aborted", async () => {
    const channel = await channelTo();
    machine.host.set("k", "value");
    await channel.get("k", call());
    const abort = new AbortController();
    machine.host.fail("lost");
    const given = channel.get("k", new Call({ signal: abort.signal }));
    while (machine.host.commands.filter((each) => each === "GET").length < 2) await turn();
    const others = Promise.all([1, 2, 3].map(() => channel.get("k", call())));
    abort.abort(new Error("enough"));
    const error = await rejects(given, "ERR_ABORTED");
    expect(error.cause).to.be.instanceOf(Error).with.property("message", "enough");
    expect((await others).map(text)).to.deep.equal(["value", "value", "value"]);
    expect(machine.host.connections).to.equal(1);
  });

  it("rejects what waits when it is closed, and everything after", async () => {
    const channel = await channelTo();
    await channel.get("k", call());
    machine.host.fail("lost");
    const waiting = rejects(channel.get("k", call()), "ERR_DISCONNECTED");
    await channel.client.close();
    await waiting;
    await rejects(channel.get("k", call()), "ERR_DISCONNECTED");
    const opening = channelAt().get("k", call());
    const rejected = rejects(opening, "ERR_DISCONNECTED");
    for (const client of clients) await client.close();
    await rejected;
  });

  describe("with a host as SmartOS has it", () => {
    it("asks for one thing at a time, and never for what it does not know but once", async () => {
      const channel = await channelTo({ dialect: "smartos" });
      for (let n = 0; n < 20; n++) machine.host.set(`k${n}`, `v${n}`);
      const values = await Promise.all(Array.from({ length: 20 }, (_, n) => channel.get(`k${n}`, call())));
      expect(values.map(text)).to.deep.equal(Array.from({ length: 20 }, (_, n) => `v${n}`));
      expect(machine.host.commands.filter((each) => each !== "GET")).to.deep.equal(["CAPS"]);
    });

    it("refuses what this host would damage before anything is sent", async () => {
      const channel = await channelTo({ dialect: "smartos" });
      await rejects(channel.put("k", bytes("\xff"), call()), "ERR_VALUE_INVALID");
      await rejects(channel.put("k", bytes(""), call()), "ERR_VALUE_INVALID");
      await rejects(channel.put("k", Buffer.alloc(60_000), call()), "ERR_VALUE_TOO_LONG");
      expect(machine.host.commands).to.not.include("PUT");
      await rejects(channel.put("sdc:uuid", bytes("mine"), call()), "ERR_READ_ONLY");
      await rejects(channel.delete("sdc:uuid", call()), "ERR_READ_ONLY");
    });

    it("lets the turn go when a call ends before it", async () => {
      const channel = await channelTo({ dialect: "smartos" });
      await channel.get("k", call());
      machine.host.fail("lost");
      const first = rejects(channel.get("k", call(100)), "ERR_TIMEOUT");
      await rejects(channel.get("k", call(20)), "ERR_TIMEOUT");
      await first;
      expect(await channel.get("k", call())).to.equal(undefined);
    });
  });

  describe("with a host of ours", () => {
    it("takes any bytes, and keeps to the limits that it tells", async () => {
      const channel = await channelTo({ maxValueBytes: 1000 });
      for (const value of ["", "\xff\0\n", "x".repeat(1000)]) {
        await channel.put("k", bytes(value), call());
        expect(text(await channel.get("k", call()))).to.equal(value);
      }
      await rejects(channel.put("k", Buffer.alloc(1001), call()), "ERR_VALUE_TOO_LONG");
      expect(machine.host.commands.filter((each) => each === "PUT")).to.have.length(3);
    });

    it("has many requests under way at once", async () => {
      const channel = await channelTo();
      const values = Array.from({ length: 200 }, (_, n) => `value ${n}`);
      await Promise.all(values.map((value, n) => channel.put(`k${n}`, bytes(value), call())));
      const read = await Promise.all(values.map((_, n) => channel.get(`k${n}`, call())));
      expect(read.map(text)).to.deep.equal(values);
      expect(machine.host.connections).to.equal(1);
    });
  });

  describe("with a host of the first version", () => {
    it("reads and lists, values with dots and empty ones too, and does not write", async () => {
      const channel = await channelTo({ dialect: "version-1" });
      const values = { dots: ".a\n..b\n.\nc", one: ".", lines: "a\n\nb", empty: "", end: "a\n" };
      for (const [key, value] of Object.entries(values)) machine.host.set(key, value);
      for (const [key, value] of Object.entries(values))
        expect(text(await channel.get(key, call())), key).to.equal(value);
      expect(await channel.get("absent", call())).to.equal(undefined);
      expect(await channel.keys(call())).to.deep.equal(Object.keys(values));
      await rejects(channel.put("k", bytes("v"), call()), "ERR_NOT_SUPPORTED");
      await rejects(channel.delete("one", call()), "ERR_NOT_SUPPORTED");
      machine.host.set("long", "x".repeat(70_000));
      await rejects(channel.get("long", call()), "ERR_PROTOCOL");
      machine.host.set("long", "x\n".repeat(50_000));
      await rejects(channel.get("long", call()), "ERR_UNAVAILABLE");
      expect(text(await channel.get("one", call()))).to.equal(".");
    });
  });

  it("settles on the first version on a shared line when nobody grants the second", async () => {
    const channel = await channelTo({ dialect: "version-1" }, { isShared: true });
    machine.host.set("k", ".value");
    expect(text(await channel.get("k", call()))).to.equal(".value");
    await rejects(channel.put("k", bytes("v"), call()), "ERR_NOT_SUPPORTED");
  });

  it("lets the process end by itself, used or not", async () => {
    machine = await KvmMachine.start();
    machine.host.set("k", "value");
    const script = `
      const { openPvbus } = await import(${JSON.stringify(`${ROOT}/dist/src/index.js`)});
      const bus = await openPvbus({ sysroot: ${JSON.stringify(machine.sysroot)}, interfaces: [{ type: "KVM", channel: "unix:/meta.sock" }] });
      console.log(await bus.byType("KVM").read("meta/k"));`;
    const { code, stdout, stderr } = await start(process.execPath, ["--input-type=module", "-e", script])
      .done;
    expect([code, stdout.toString().trim()], `${stderr}`).to.deep.equal([0, "value"]);
  });
});
