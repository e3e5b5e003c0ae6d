import { expect } from "chai";
import { Call, PvbusError } from "../../src/index.js";
import { type Koffi, loadKoffi } from "../../src/native/ffi/koffi.js";
import type { DeviceStream, DeviceStreamOptions } from "../../src/native/posix/device-stream.js";
import {
  connectVsock,
  listenVsock,
  VMADDR_CID_LOCAL,
  VMADDR_PORT_ANY,
  type VsockListener,
} from "../../src/native/posix/vsock.js";
import { openDescriptors } from "../support/descriptors.js";
import { pending } from "../support/pending.js";
import { rejects } from "../support/rejects.js";

const isLinux = process.platform === "linux";
const silent: DeviceStreamOptions = { bufferBytes: 64, onData: () => undefined, onEnd: () => undefined };

/** A koffi whose named libc call fails with an errno. */
function failing(call: string, errno: string): () => Koffi {
  const real = loadKoffi();
  const number = real.os.errno[errno] as number;
  return () =>
    ({
      ...real,
      errno: () => number,
      load: (name: string | null) => {
        const library = real.load(name);
        const func = (declaration: string) =>
          declaration.includes(` ${call}(`) ? () => -1 : library.func(declaration);
        return { ...library, func };
      },
    }) as unknown as Koffi;
}

describe(`vsock${isLinux ? "" : " [pending: Linux only]"}`, () => {
  before(function () {
    if (!isLinux) this.skip();
  });

  it("refuses numbers that are none", async () => {
    for (const bad of [-1, 1.5, 2 ** 32, Number.NaN, "2" as never]) {
      for (const address of [
        { cid: bad, port: 1 },
        { cid: 1, port: bad },
      ]) {
        const error = await connectVsock({ ...silent, ...address }).catch((error) => error);
        expect(error).to.be.instanceOf(RangeError);
        expect(() => listenVsock(address)).to.throw(RangeError);
      }
    }
  });

  for (const [call, errno, code, advice] of [
    ["socket", "EAFNOSUPPORT", "ERR_UNAVAILABLE", "modprobe"],
    ["connect", "ENODEV", "ERR_UNAVAILABLE", "modprobe"],
    ["connect", "ECONNRESET", "ERR_UNAVAILABLE", "nobody listens"],
    ["connect", "EACCES", "ERR_PERMISSION", "root"],
    ["connect", "ETIMEDOUT", "ERR_TIMEOUT", ""],
  ] as const) {
    it(`explains ${errno} of ${call}, and leaves nothing open`, async function () {
      if (call === "connect" && !hasVsock()) return pending(this, "this kernel makes no vsock");
      const koffi = failing(call, errno);
      const before = openDescriptors();
      const error = await rejects(connectVsock({ ...silent, cid: 2, port: 5, koffi }), code);
      expect(error.message).to.contain(`cannot connect to vsock:2:5 (${errno})`).and.contain(advice);
      expect(error.cause).to.include({ code: errno, syscall: call });
      expect(openDescriptors()).to.equal(before);
    });
  }

  it("is not begun for a call that is over", async () => {
    const address = { ...silent, cid: 1, port: 5 };
    await rejects(connectVsock({ ...address, signal: AbortSignal.abort() }), "ERR_ABORTED");
    await rejects(connectVsock({ ...address, timeoutMs: 0 }), "ERR_TIMEOUT");
  });

  describe("with itself", () => {
    let listener: VsockListener;
    let streams: DeviceStream[];
    before(async function () {
      if (!hasVsock()) return pending(this, "this kernel makes no vsock");
      const probe = listenVsock({ port: VMADDR_PORT_ANY });
      try {
        const { cid, port } = { cid: VMADDR_CID_LOCAL, port: probe.port };
        await (await connectVsock({ ...silent, cid, port, timeoutMs: 5_000 })).close();
      } catch (error) {
        pending(this, `no loopback (modprobe vsock_loopback): ${(error as Error).message}`);
      } finally {
        probe.close();
      }
    });
    beforeEach(() => {
      streams = [];
      listener = listenVsock({ port: VMADDR_PORT_ANY });
    });
    afterEach(async () => {
      listener.close();
      listener.close();
      for (const stream of streams) await stream.close();
    });
    const address = () => ({ cid: VMADDR_CID_LOCAL, port: listener.port });

    it("carries a megabyte there and back, and tells the end", async () => {
      const accepted = listener.accept({
        ...silent,
        bufferBytes: 65_536,
        onData: (data) => void accepted.then((peer) => peer.write(data)),
      });
      const all = Buffer.alloc(1 << 20, "0123456789");
      let got = Buffer.alloc(0);
      let complete = (): void => undefined;
      const back = new Promise<void>((resolve) => (complete = resolve));
      let ended = (): void => undefined;
      const end = new Promise<void>((resolve) => (ended = resolve));
      const stream = await connectVsock({
        ...address(),
        bufferBytes: 65_536,
        onData: (data) => {
          got = Buffer.concat([got, data]);
          if (got.length >= all.length) complete();
        },
        onEnd: () => ended(),
      });
      streams.push(stream, await accepted);
      await stream.write(all);
      await back;
      expect(got.equals(all)).to.equal(true);
      await (await accepted).close();
      await end;
    });

    it("comes from a privileged port", async () => {
      for (const localPort of [1023, 1022]) {
        streams.push(await connectVsock({ ...silent, ...address(), localPort }));
        streams.push(await listener.accept(silent));
      }
    });

    it("says that a local port is taken, and that nobody listens", async () => {
      const { cid, port } = address();
      await rejects(connectVsock({ ...silent, cid, port, localPort: port }), "ERR_BUSY");
      expect(catching(() => listenVsock({ port }))).to.include({ code: "ERR_BUSY" });
      listener.close();
      await rejects(connectVsock({ ...silent, cid, port }), "ERR_UNAVAILABLE");
    });

    it("stops to wait for a peer at the deadline and when closed", async () => {
      await rejects(listener.accept(silent, new Call({ timeoutMs: 5 })), "ERR_TIMEOUT");
      const waiting = listener.accept(silent);
      listener.close();
      await rejects(waiting, "ERR_DISCONNECTED");
    });
  });
});

function hasVsock(): boolean {
  return !PvbusError.is(catching(() => listenVsock({ port: VMADDR_PORT_ANY }).close()));
}

function catching<T>(call: () => T): unknown {
  try {
    return call();
  } catch (error) {
    return error;
  }
}
