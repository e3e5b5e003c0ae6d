import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Call, PvbusError } from "../../src/index.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { DeviceStream, type DeviceStreamOptions, openDevice } from "../../src/native/posix/device-stream.js";
import { closeIfOpen, makeFifo, openDescriptors, socketPair, turn } from "../support/descriptors.js";
import { pending } from "../support/pending.js";
import { rejects } from "../support/rejects.js";
import { countingKoffi, watchedKoffi } from "../support/watched-koffi.js";

const isLinux = process.platform === "linux";

/** A stream's reading side, kept as one buffer. */
class Sink {
  #bytes = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  ended = false;
  readonly options: DeviceStreamOptions = {
    bufferBytes: 65_536,
    onData: (data) => {
      this.#bytes = Buffer.concat([this.#bytes, data]);
      this.#wake?.();
    },
    onEnd: () => {
      this.ended = true;
      this.#wake?.();
    },
  };

  async bytes(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#bytes;
  }

  async end(): Promise<void> {
    while (!this.ended) await new Promise<void>((resolve) => (this.#wake = resolve));
  }
}

function pattern(length: number, seed = 0): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) + seed) & 0xff;
  return bytes;
}

/** Writes to a non-blocking descriptor until there is no room. */
function fill(fd: number): void {
  const libc = openLibc();
  const write = libc.function("intptr_t write(int, const void *, size_t)");
  while (write(fd, Buffer.alloc(1024), 1024) > 0);
  expect(libc.errnoName(libc.koffi.errno())).to.equal("EAGAIN");
}

describe(`device streams${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let opened: DeviceStream[];
  let fds: number[];
  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    opened = [];
    fds = [];
  });
  afterEach(async () => {
    for (const stream of opened) await stream.close();
    for (const fd of fds) closeIfOpen(fd);
  });

  const open = (fd: number, options: Partial<DeviceStreamOptions> = {}, sink = new Sink()): DeviceStream => {
    const stream = new DeviceStream(fd, { ...sink.options, ...options });
    opened.push(stream);
    return stream;
  };
  /** A stream, the bare descriptor of its peer, and its own. */
  const pair = (
    kind: "stream" | "message",
    options: Partial<DeviceStreamOptions> = {},
  ): [DeviceStream, number, number] => {
    const [mine, peer] = socketPair(kind);
    fds.push(peer);
    return [open(mine, options), peer, mine];
  };
  const read = (fd: number, length = 65_536): Buffer => {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, readSync(fd, buffer));
  };
  for (const writes of ["direct", "thread"] as const) {
    for (const mechanism of ["handle", "call"] as const) {
      describe(`writing ${writes === "direct" ? "directly" : "on a thread"}, waiting by ${mechanism}`, () => {
        const how = { writes, mechanism };

        it("carry a megabyte both ways through a peer's small buffer", async () => {
          const [one, other] = socketPair("stream");
          const sinks = [new Sink(), new Sink()] as const;
          const [left, right] = [open(one, how, sinks[0]), open(other, how, sinks[1])];
          const [there, back] = [pattern(1 << 20), pattern(1 << 20, 7)];
          const got = Promise.all([sinks[0].bytes(back.length), sinks[1].bytes(there.length)]);
          await Promise.all([left.write(there), right.write(back)]);
          const [atLeft, atRight] = await got;
          expect(atLeft.equals(back)).to.equal(true);
          expect(atRight.equals(there)).to.equal(true);
        });

        it("keep the order of the calls", async () => {
          const [one, other] = socketPair("stream");
          const sink = new Sink();
          open(other, how, sink);
          const left = open(one, how);
          const parts = Array.from({ length: 50 }, (_, i) => pattern(i * 997 + 1, i));
          await Promise.all(parts.map((part) => left.write(part)));
          const all = Buffer.concat(parts);
          expect((await sink.bytes(all.length)).equals(all)).to.equal(true);
        });

        it("write a message at once, from the middle of a buffer too", async () => {
          const [stream, peer] = pair("message", { ...how, framing: "message" });
          const large = Buffer.from("0123456789");
          await Promise.all([
            stream.write(large.subarray(3, 6)),
            stream.write(large),
            stream.write(Buffer.of()),
          ]);
          await stream.write(new Uint8Array(large.buffer, large.byteOffset + 9, 1));
          expect([read(peer), read(peer), read(peer)].map(String)).to.deep.equal(["345", "0123456789", "9"]);
        });

        it("give up at the deadline and on abort while there is no room, a message left unwritten", async () => {
          const [stream, peer, fd] = pair("message", { ...how, framing: "message" });
          fill(fd);
          const abort = new AbortController();
          const aborted = stream.write(Buffer.from("aborted"), new Call({ signal: abort.signal }));
          const late = stream.write(Buffer.from("late"), new Call({ timeoutMs: 5 }));
          const waiting = stream.write(Buffer.from("in the end"));
          await rejects(late, "ERR_TIMEOUT");
          abort.abort(new Error("enough"));
          expect((await rejects(aborted, "ERR_ABORTED")).cause).to.have.property("message", "enough");
          const messages: string[] = [];
          const heard = new Promise<void>((resolve) => {
            const onData = (data: Buffer): void => {
              if (data.length < 1024) messages.push(String(data));
              if (messages.length === 2) resolve();
            };
            fds.splice(fds.indexOf(peer), 1);
            open(peer, { mechanism, onData });
          });
          await waiting;
          await stream.write(Buffer.from("after"));
          await heard;
          expect(messages).to.deep.equal(["in the end", "after"]);
        });

        it("take nothing more after a stream's bytes were written in part", async () => {
          const [stream, peer] = pair("stream", how);
          const abort = new AbortController();
          const writing = stream.write(pattern(1 << 22), new Call({ signal: abort.signal }));
          // Its first byte is there: a part is written.
          read(peer, 1);
          abort.abort();
          await rejects(writing, "ERR_ABORTED");
          await rejects(stream.write(Buffer.from("x")), "ERR_DISCONNECTED");
        });

        it("reject waiting writes when they are closed, and later ones", async () => {
          const [stream, , fd] = pair("message", { ...how, framing: "message" });
          fill(fd);
          const waiting = [stream.write(Buffer.from("a")), stream.write(Buffer.from("b"))];
          await turn();
          const closing = stream.close();
          for (const each of waiting) await rejects(each, "ERR_DISCONNECTED");
          expect(stream.close()).to.equal(closing);
          await closing;
          await rejects(stream.write(Buffer.from("c")), "ERR_DISCONNECTED");
        });

        it("reject when the peer is gone", async () => {
          const [stream, peer] = pair("stream", how);
          closeSync(peer);
          const error = await rejects(stream.write(Buffer.from("x")), "ERR_DISCONNECTED");
          expect(error.cause).to.include({ code: "EPIPE", syscall: "write" });
          expect(error.message).to.match(/^cannot write to descriptor \d+ \(EPIPE\)/);
        });

        it("leave nothing open, however they are closed", async () => {
          const cycle = async (prepare: (stream: DeviceStream) => Promise<void> | void): Promise<void> => {
            const [mine, peer] = socketPair("stream");
            const stream = new DeviceStream(mine, { ...new Sink().options, ...how });
            await prepare(stream);
            await stream.close();
            closeSync(peer);
          };
          const states: Parameters<typeof cycle>[0][] = [
            () => undefined,
            (stream) => stream.write(Buffer.from("x")),
            (stream) => void stream.write(pattern(1 << 20)).catch(() => undefined),
            async (stream) => {
              stream.write(pattern(1 << 20)).catch(() => undefined);
              for (let i = 0; i < 5; i++) await turn();
            },
          ];
          for (const state of states) await cycle(state);
          await settle();
          const before = openDescriptors();
          for (let i = 0; i < 100; i++) await cycle(states[i % states.length] as never);
          await settle();
          expect(openDescriptors()).to.equal(before);
        });
      });
    }
  }

  it("write directly before the call returns", () => {
    const [stream, peer] = pair("stream");
    void stream.write(Buffer.from("now"));
    expect(String(read(peer))).to.equal("now");
  });

  it("never write on this thread when told to use another", async () => {
    let direct = 0;
    const watched = countingKoffi(/ write\(/, () => direct++);
    const [stream, peer] = pair("stream", { writes: "thread", koffi: () => watched, mechanism: "handle" });
    await stream.write(Buffer.from("threaded"));
    expect([String(read(peer)), direct]).to.deep.equal(["threaded", 0]);
  });

  it("say that a message is too long, and still take the next", async () => {
    const [stream, peer] = pair("message", { framing: "message" });
    await rejects(stream.write(Buffer.alloc(1 << 24)), "ERR_VALUE_TOO_LONG");
    await stream.write(Buffer.from("short"));
    expect(String(read(peer))).to.equal("short");
  });

  it("say that a device took a message in part", async () => {
    const [stream] = pair("stream", { framing: "message", name: "the port" });
    const error = await rejects(stream.write(Buffer.alloc(1 << 24)), "ERR_PROTOCOL");
    expect(error.message).to.match(/^the port took \d+ of the 16777216 bytes of a message/);
  });

  it("do not spin at a peer that is ready for nothing", async () => {
    // A virtio port whose host end is closed says so: ready by its hang-up, and EAGAIN.
    let calls = 0;
    const full = watchedKoffi((declaration, declare) => {
      if (!declaration.includes(" write(")) return declare(declaration);
      const read = declare("int read(int, void *, size_t)");
      // An empty non-blocking socket makes the same errno.
      return (fd) => {
        calls++;
        return read(fd, Buffer.alloc(1), 1);
      };
    });
    const [stream] = pair("stream", { koffi: () => full });
    await rejects(stream.write(Buffer.from("x"), new Call({ timeoutMs: 300 })), "ERR_TIMEOUT");
    expect(calls).to.be.within(2, 20);
  });

  it("refuse a descriptor without events, and close it", () => {
    const fd = openSync("/dev/null", "r+");
    expect(() => open(fd))
      .to.throw()
      .with.property("code", "ERR_NOT_SUPPORTED");
    expect(() => closeSync(fd)).to.throw("EBADF");
  });

  describe("opened by path", () => {
    let folder: string;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), "pvbus-device-"));
    });
    afterEach(() => rmSync(folder, { recursive: true }));

    it("talk through a terminal", async function () {
      const sink = new Sink();
      let stream: DeviceStream;
      try {
        stream = openDevice("/dev/ptmx", sink.options);
      } catch (error) {
        return pending(this, `no pseudo terminals: ${(error as Error).message}`);
      }
      opened.push(stream);
      // Unread input is echoed by the terminal's line discipline once somebody has it open: none here, so it is kept.
      await stream.write(Buffer.from("hello\n"));
      expect(String(await sink.bytes(7))).to.equal("hello\r\n");
    });

    it("do not wait for a pipe's writer, and read it when it comes", async () => {
      const path = join(folder, "fifo");
      makeFifo(path);
      const sink = new Sink();
      const stream = openDevice(path, { ...sink.options, flags: constants.O_RDONLY });
      opened.push(stream);
      const writer = openSync(path, "w");
      writeSync(writer, "came");
      expect(String(await sink.bytes(4))).to.equal("came");
      closeSync(writer);
    });

    it("explain a failed open", () => {
      const { options } = new Sink();
      const failure = (path: string, more = {}): PvbusError => {
        try {
          opened.push(openDevice(path, { ...options, ...more }));
        } catch (error) {
          if (PvbusError.is(error)) return error;
        }
        return expect.fail(`${path} opened`);
      };
      const absent = failure(join(folder, "none"), { advice: { ENOENT: "load the module" } });
      expect([absent.code, absent.message]).to.deep.equal([
        "ERR_UNAVAILABLE",
        `cannot open ${join(folder, "none")} (ENOENT); load the module`,
      ]);
      expect(failure(join(folder, "none"), { codes: { ENOENT: "ERR_BUSY" } }).code).to.equal("ERR_BUSY");
      const file = join(folder, "file");
      writeFileSync(file, "");
      expect(failure(file).code).to.equal("ERR_NOT_SUPPORTED");
    });
  });
});

/** Lets threads of the pool finish, which close their descriptors themselves. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 10));
}
