import { closeSync, promises, writeSync } from "node:fs";
import { expect } from "chai";
import { callAsync, MAX_ASYNC_CALLS } from "../../src/native/ffi/async-call.js";
import { type Koffi, loadKoffi } from "../../src/native/ffi/koffi.js";
import type { Libc, NativeFunction } from "../../src/native/ffi/libc.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { collectGarbage, socketPair, turn } from "../support/descriptors.js";

const isLinux = process.platform === "linux";

/** A libc whose asynchronous calls the test completes by hand. */
function manualLibc(): { libc: Libc; fn: NativeFunction; running: ((error: unknown, rc: number) => void)[] } {
  const real = loadKoffi();
  // The limiter is kept per koffi: an own one, so that nothing else counts.
  const libc = openLibc(() => ({ ...real }) as Koffi);
  const running: ((error: unknown, rc: number) => void)[] = [];
  const fn = Object.assign(() => 0, {
    async: (...args: unknown[]) => void running.push(args.at(-1) as never),
  }) as unknown as NativeFunction;
  return { libc, fn, running };
}

describe(`asynchronous calls${isLinux ? "" : " [pending: Linux only]"}`, () => {
  const libc = isLinux ? openLibc() : (undefined as never);
  let ends: [number, number];
  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    ends = socketPair("stream");
  });
  afterEach(() => {
    for (const fd of ends) closeSync(fd);
  });

  const read = (buffer: Buffer) =>
    callAsync(libc, libc.function("intptr_t read(int, void *, size_t)"), ends[0], buffer, buffer.length);

  it("keep their buffers alive until the thread is done with them", async () => {
    let collected = 0;
    const registry = new FinalizationRegistry<void>(() => collected++);
    const begin = (): ReturnType<typeof read> => {
      const buffer = Buffer.from(new ArrayBuffer(64));
      registry.register(buffer.buffer, undefined);
      return read(buffer);
    };
    const reading = begin();
    for (let i = 0; i < 20; i++) {
      collectGarbage();
      await turn();
    }
    expect(collected).to.equal(0);
    writeSync(ends[1], "x".repeat(64));
    expect((await reading).rc).to.equal(64);
    while (collected === 0) {
      collectGarbage();
      await turn();
    }
  });

  it("give errno as it was on the thread, whatever else fails meanwhile", async () => {
    const close = libc.function("int close(int)");
    const mkdir = libc.function("int rmdir(const char *)");
    const failing = [callAsync(libc, close, -1), callAsync(libc, mkdir, "/nowhere/at/all")];
    libc.call(close, -1);
    const names = (await Promise.all(failing)).map(({ rc, errno }) => [rc, libc.errnoName(errno)]);
    expect(names).to.deep.equal([
      [-1, "EBADF"],
      [-1, "ENOENT"],
    ]);
  });

  it("leave threads of the pool to the process's own file calls", async () => {
    const waiting = Array.from({ length: 8 }, () => read(Buffer.alloc(1)));
    expect((await promises.stat("/")).isDirectory()).to.equal(true);
    writeSync(ends[1], "12345678");
    expect((await Promise.all(waiting)).map(({ rc }) => rc)).to.deep.equal(Array(8).fill(1));
  });

  it("run two at a time, the others in their order", async () => {
    const { libc, fn, running } = manualLibc();
    const done: number[] = [];
    const all = Array.from({ length: 6 }, (_, i) => callAsync(libc, fn, i).then(({ rc }) => done.push(rc)));
    for (let i = 0; i < 6; i++) {
      await turn();
      expect(running.length).to.equal(Math.min(i + MAX_ASYNC_CALLS, 6));
      running[i]?.(null, i);
    }
    await Promise.all(all);
    expect(done).to.deep.equal([0, 1, 2, 3, 4, 5]);
  });

  it("reject when koffi refuses one at once, and go on with the next", async () => {
    const { libc, fn, running } = manualLibc();
    const refusing = Object.assign(() => 0, {
      async: () => {
        throw new Error("Too many asynchronous calls are running");
      },
    }) as unknown as NativeFunction;
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => callAsync(libc, refusing)));
    expect(outcomes.map(({ status }) => status)).to.deep.equal(Array(5).fill("rejected"));
    const next = callAsync(libc, fn);
    running[0]?.(null, 7);
    expect((await next).rc).to.equal(7);
  });

  it("reject when the call itself fails, and for arguments that do not fit", async () => {
    const { libc: own, fn, running } = manualLibc();
    const failing = callAsync(own, fn);
    running[0]?.(new Error("gone"), 0);
    expect(await failing.catch((error) => error.message)).to.equal("gone");
    const read = libc.function("intptr_t read(int, void *, size_t)");
    expect(await callAsync(libc, read, 0).catch((error) => error)).to.be.instanceOf(TypeError);
    expect((await callAsync(libc, libc.function("int close(int)"), -1)).rc).to.equal(-1);
  });
});
