import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { expect } from "chai";
import {
  VmxHost,
  VmxListener,
  type VmxListenerOptions,
  type VmxStreamFault,
} from "../../../providers/testing.js";
import { command, infoGet } from "../../../providers/vmware/protocol/rpci.js";
import { RpciSession } from "../../../providers/vmware/session.js";
import { ExchangeFailure } from "../../../providers/vmware/transport/rpc-transport.js";
import { UnixSource, VsockSource } from "../../../providers/vmware/transport/sources.js";
import { StreamTransport } from "../../../providers/vmware/transport/stream.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { Call, pvbusError } from "../../../src/index.js";
import type { DeviceStream } from "../../../src/native/posix/device-stream.js";
import type { VsockOptions } from "../../../src/native/posix/vsock.js";
import { pending } from "../../support/pending.js";
import { ROOT } from "../../support/pools.js";
import { start } from "../../support/processes.js";
import { rejects } from "../../support/rejects.js";
import { SimulatedVmx } from "../../support/vmware.js";

const GET = infoGet("guestinfo.foo").bytes;
const bar = (): VmxHost => new VmxHost({ variables: { "guestinfo.foo": "bar" } });
const call = (timeoutMs = 5000): Call => new Call({ timeoutMs });

async function failure(work: Promise<unknown>): Promise<ExchangeFailure> {
  const outcome: unknown = await work.catch((error) => error);
  if (!(outcome instanceof ExchangeFailure)) expect.fail(`expected a failed exchange, got ${outcome}`);
  return outcome;
}

async function withVmx(
  options: VmxListenerOptions,
  action: (transport: StreamTransport, vmx: SimulatedVmx) => Promise<void>,
): Promise<void> {
  await using vmx = await SimulatedVmx.start(bar(), options);
  const transport = new StreamTransport(new UnixSource(vmx.channel, vmx.path));
  try {
    await action(transport, vmx);
  } finally {
    await transport.close();
  }
}

const ask = async (transport: StreamTransport, request = GET, during = call()): Promise<string> =>
  Buffer.from(await transport.exchange(request, during)).toString();

describe("VMware stream transport", () => {
  it("keeps one connection for all commands", async () => {
    await withVmx({}, async (transport, vmx) => {
      for (let round = 0; round < 50; round++) expect(await ask(transport)).to.equal("1 bar");
      expect([vmx.listener.connections, vmx.listener.commands]).to.deep.equal([1, 50]);
    });
  });

  it("takes replies byte by byte, and a mebibyte", async () => {
    await withVmx({ pieceBytes: 1 }, async (transport) => {
      expect(await ask(transport)).to.equal("1 bar");
    });
    await withVmx({ pieceBytes: 1000 }, async (transport, vmx) => {
      vmx.host.set("guestinfo.foo", "x".repeat(1024 * 1024));
      expect((await ask(transport)).length).to.equal(1024 * 1024 + 2);
    });
  });

  it("connects anew when the host dropped the connection while nothing was under way", async () => {
    await withVmx({}, async (transport, vmx) => {
      const session = new RpciSession({ first: transport, logger: SILENT });
      for (let round = 0; round < 20; round++) {
        const value = await session.value(infoGet("guestinfo.foo"), call());
        expect(Buffer.from(value).toString()).to.equal("bar");
        vmx.listener.dropAll();
        // Sometimes the end is seen before the next command, sometimes only by it.
        if (round % 2 === 0) await new Promise((done) => setImmediate(done));
      }
      expect(vmx.listener.connections).to.equal(20);
    });
  });

  describe("tells what broke", () => {
    const cases: readonly (readonly [VmxStreamFault, string])[] = [
      ["drop", "the end in place of a reply"],
      ["drop-unread", "the end before the command was carried out"],
      ["half", "the end inside a reply"],
    ];
    for (const [fault, what] of cases) {
      it(what, async () => {
        await withVmx({ fault: (count) => (count === 0 ? fault : undefined) }, async (transport) => {
          const error = await failure(transport.exchange(GET, call()));
          expect([error.code, error.executed, error.stale]).to.deep.equal(["ERR_DISCONNECTED", true, false]);
          expect(await ask(transport), "the next command").to.equal("1 bar");
        });
      });
    }

    it("a malformed frame, and goes on with a new connection", async () => {
      const frames = [
        "00000000",
        "00000010 00000001 00000001 00000001 00000000",
        "7fffffff",
        "00000004 00000005",
      ];
      const fault = (count: number): Buffer | undefined =>
        count < frames.length ? Buffer.from(frames[count]?.replace(/ /g, "") ?? "", "hex") : undefined;
      await withVmx({ fault }, async (transport) => {
        for (const _ of frames) await rejects(transport.exchange(GET, call()), "ERR_PROTOCOL");
        expect(await ask(transport)).to.equal("1 bar");
      });
    });

    it("a host that is not there, before anything is sent", async () => {
      const transport = new StreamTransport(new UnixSource("unix:/nowhere/x", "/nowhere/x"));
      const error = await failure(transport.exchange(GET, call()));
      expect([error.code, error.executed, error.connecting]).to.deep.equal(["ERR_UNAVAILABLE", false, true]);
    });
  });

  it("leaves at the deadline and when aborted, and then connects anew", async () => {
    await withVmx({ fault: (count) => (count < 2 ? "silence" : undefined) }, async (transport, vmx) => {
      await rejects(transport.exchange(GET, call(20)), "ERR_TIMEOUT");
      const user = new AbortController();
      const waiting = rejects(transport.exchange(GET, new Call({ signal: user.signal })), "ERR_ABORTED");
      setTimeout(() => user.abort(new Error("enough")), 10);
      expect((await waiting).cause).to.have.property("message", "enough");
      expect(await ask(transport)).to.equal("1 bar");
      expect(vmx.listener.connections).to.equal(3);
    });
  });

  it("ends the command that is under way when it is closed, and sends nothing more", async () => {
    await using vmx = await SimulatedVmx.start(bar(), { fault: () => "silence" });
    const transport = new StreamTransport(new UnixSource(vmx.channel, vmx.path));
    const session = new RpciSession({ first: transport, logger: SILENT });
    const running = [
      session.value(infoGet("guestinfo.foo"), call()),
      session.value(infoGet("guestinfo.a"), call()),
    ];
    const outcomes = Promise.all(running.map((each) => rejects(each, "ERR_DISCONNECTED")));
    while (vmx.listener.commands === 0) await new Promise((done) => setImmediate(done));
    await session.close();
    await outcomes;
    expect([vmx.listener.commands, vmx.listener.connections]).to.deep.equal([1, 1]);
  });

  it("takes bytes that nobody asked for as the end of the connection", async () => {
    const server = createServer();
    await using vmx = await SimulatedVmx.start();
    const path = `${vmx.folder}/odd.sock`;
    server.listen(path);
    await once(server, "listening");
    const transport = new StreamTransport(new UnixSource("unix:odd", path));
    const connected = once(server, "connection") as Promise<[Socket]>;
    await transport.prepare(call());
    const [first] = await connected;
    first.resume();
    first.write("hello");
    await once(first, "close");
    const again = once(server, "connection") as Promise<[Socket]>;
    const answer = transport.exchange(GET, call());
    const [second] = await again;
    second.once("data", () =>
      second.write(Buffer.from("0000002100000001000000010000000100000000000000020000000200000005", "hex")),
    );
    second.once("data", () => second.end("1 bar"));
    expect(Buffer.from(await answer).toString()).to.equal("1 bar");
    await transport.close();
    server.close();
  });

  it("lets the process end while the connection is idle", async () => {
    await using vmx = await SimulatedVmx.start(bar());
    const script = `
      const { openPvbus } = await import(${JSON.stringify(`${ROOT}/dist/src/index.js`)});
      const bus = await openPvbus({ interfaces: [{ type: "VMware", channel: ${JSON.stringify(vmx.channel)} }] });
      console.log(await bus.primary.read("guestinfo.foo"));`;
    const { code, stdout, stderr } = await start(process.execPath, ["--input-type=module", "-e", script])
      .done;
    expect([code, stdout], stderr).to.deep.equal([0, "bar\n"]);
  });
});

describe("VMware vsock connection", () => {
  const LINK = {} as DeviceStream;
  const errno = (syscall: string, code: string): Error =>
    pvbusError(code === "EACCES" ? "ERR_PERMISSION" : "ERR_UNAVAILABLE", `${syscall} ${code}`, {
      cause: Object.assign(new Error(code), { syscall, code }),
    });
  const events = { onData: () => undefined, onEnd: () => undefined };

  /** Connects with a kernel that answers by the local port and the number of the attempt. */
  async function dial(
    privilege: "prefer" | "require" | "never",
    kernel: (port: number | undefined, count: number) => Error | undefined,
  ): Promise<{
    ports: (number | undefined)[];
    privileged: boolean | undefined;
    error: unknown;
    seen: VsockOptions[];
  }> {
    const seen: VsockOptions[] = [];
    const source = new VsockSource(0, 976, privilege, async (options) => {
      seen.push(options);
      const error = kernel(options.localPort as number | undefined, seen.length - 1);
      if (error !== undefined) throw error;
      return LINK;
    });
    const error = await source.connect(events, call()).then(
      () => undefined,
      (reason) => reason,
    );
    const ports = seen.map(({ localPort }) => localPort as number | undefined);
    return { ports, privileged: source.privileged, error, seen };
  }

  it("comes from a random port of 512 to 1023, to CID 0 and port 976, within half a second", async () => {
    const starts = new Set<number | undefined>();
    for (let round = 0; round < 40; round++) {
      const { ports, privileged, seen } = await dial("prefer", () => undefined);
      expect(privileged).to.equal(true);
      expect(ports[0]).to.be.within(512, 1023);
      expect(seen[0]).to.include({ cid: 0, port: 976, timeoutMs: 500 });
      starts.add(ports[0]);
    }
    expect(starts.size).to.be.above(20);
  });

  it("goes down port by port while they are taken", async () => {
    const { ports, privileged } = await dial("prefer", (_, count) =>
      count < 300 ? errno("bind", "EADDRINUSE") : undefined,
    );
    expect(privileged).to.equal(true);
    expect(ports).to.have.length(301);
    for (const [at, port] of ports.slice(1).entries()) {
      const before = ports[at] ?? 0;
      expect(port).to.equal(before === 512 ? 1023 : before - 1);
    }
  });

  it("ends when all of them are taken", async () => {
    const { ports, error } = await dial("require", () => errno("bind", "EADDRINUSE"));
    expect([ports.length, (error as Error).message]).to.deep.equal([512, "bind EADDRINUSE"]);
  });

  it("does without privilege where this user may have no such port, unless it is demanded", async () => {
    const denied = (port: number | undefined): Error | undefined =>
      port === undefined ? undefined : errno("bind", "EACCES");
    const { ports, privileged } = await dial("prefer", denied);
    expect([ports.length, ports[1], privileged]).to.deep.equal([2, undefined, false]);
    const demanded = await dial("require", denied);
    expect(demanded.error).to.have.property("code", "ERR_PERMISSION");
    expect(demanded.ports).to.have.length(1);
    expect((await dial("never", denied)).ports).to.deep.equal([undefined]);
  });

  it("does not take any other failure for a lack of privilege", async () => {
    for (const [syscall, code] of [
      ["connect", "EACCES"],
      ["socket", "EAFNOSUPPORT"],
      ["connect", "ENODEV"],
    ] as const) {
      const { ports, error } = await dial("prefer", () => errno(syscall, code));
      expect(ports).to.have.length(1);
      expect((error as Error).message).to.equal(`${syscall} ${code}`);
    }
  });

  it("tries another port behind a reset, eight times at most, and waits for buffers five times", async () => {
    const late = await dial("prefer", (_, count) => (count < 7 ? errno("connect", "ECONNRESET") : undefined));
    expect(late.ports).to.have.length(8);
    expect(new Set(late.ports).size).to.equal(8);
    const off = await dial("prefer", () => errno("connect", "ECONNRESET"));
    expect([off.ports.length, (off.error as Error).message]).to.deep.equal([8, "connect ECONNRESET"]);
    const full = await dial("prefer", () => errno("connect", "ENOBUFS"));
    expect(full.ports).to.have.length(6);
  });

  it("speaks with a simulated host over this machine's own vsock, which sees where it comes from", async function () {
    await using listener = new VmxListener(bar());
    let port: number;
    try {
      port = listener.listenVsock(0xffff_ffff);
      await new StreamTransport(new VsockSource(1, port, "never")).prepare(call(1000));
    } catch (error) {
      return pending(this, `no vsock loopback (modprobe vsock_loopback): ${(error as Error).message}`);
    }
    const transport = new StreamTransport(new VsockSource(1, port, "prefer"));
    const secret = command("namespace-priv-get-values", "ns\0k\0").bytes;
    const reply = await ask(transport, secret);
    expect(reply).to.equal(process.geteuid?.() === 0 ? "0 Namespace not found" : "0 Permission denied");
    await transport.close();
  });
});
