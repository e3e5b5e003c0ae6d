import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { openPollWaiter } from "../../src/native/posix/poll-source.js";
import { openPollable, type Pollable, type PollableOptions } from "../../src/native/posix/pollable.js";
import { pollMechanism } from "../../src/native/posix/ready.js";
import { closeIfOpen, collectGarbage, openDescriptors, socketPair, turn } from "../support/descriptors.js";
import { ROOT } from "../support/pools.js";
import { start } from "../support/processes.js";
import { watchedKoffi } from "../support/watched-koffi.js";

const isLinux = process.platform === "linux";

/** What a pollable handed over, awaited one by one. */
class Received {
  readonly items: (string | Error | undefined)[] = [];
  #wake: (() => void) | undefined;
  readonly options: Pick<PollableOptions, "bufferBytes" | "onData" | "onEnd"> = {
    bufferBytes: 64,
    onData: (data) => this.#add(data.toString()),
    onEnd: (error) => this.#add(error),
  };

  /** Resolves when that many items came. */
  async atLeast(count: number): Promise<typeof this.items> {
    while (this.items.length < count) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.items;
  }

  #add(item: string | Error | undefined): void {
    this.items.push(item);
    this.#wake?.();
  }
}

/** Runs a script that has `openPollable`, two connected `ends` and `fs`; gives how it ended and what it printed. */
async function run(script: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const module = (path: string): string => JSON.stringify(`${ROOT}/dist/${path}.js`);
  const { code, signal, stdout, stderr } = await start(process.execPath, [
    "--input-type=module",
    "-e",
    `import fs from "node:fs";
     import { openPollable } from ${module("src/native/posix/pollable")};
     import { socketPair } from ${module("test/support/descriptors")};
     const ends = socketPair("stream");
     ${script}`,
  ]).done;
  expect(signal, stderr).to.equal(null);
  return { code, stdout, stderr };
}

describe(`pollable descriptors${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let opened: Pollable[];
  let fds: number[];
  let folder: string;
  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    opened = [];
    fds = [];
    folder = mkdtempSync(join(tmpdir(), "pvbus-poll-"));
  });
  afterEach(async () => {
    for (const pollable of opened) await pollable.close();
    for (const fd of fds) closeIfOpen(fd);
    rmSync(folder, { recursive: true });
  });
  const pair = (kind: "stream" | "message"): [number, number] => {
    const ends = socketPair(kind);
    fds.push(...ends);
    return ends;
  };
  const open = (fd: number, options: PollableOptions): Pollable => {
    const pollable = openPollable(fd, options);
    opened.push(pollable);
    return pollable;
  };

  describe("lingering", () => {
    it("take the next message without a turn of the event loop", async () => {
      const [mine, peer] = pair("message");
      let turned = false;
      const took = new Promise<boolean[]>((resolve) => {
        const turns: boolean[] = [];
        open(mine, {
          ...new Received().options,
          lingerMs: 1_000,
          onRead: () => {
            if (turns.length === 0) setImmediate(() => (turned = true));
            turns.push(turned);
            if (turns.length === 5) {
              resolve(turns);
              return true;
            }
            writeSync(peer, "next");
            return "next";
          },
        });
      });
      writeSync(peer, "first");
      expect(await took).to.deep.equal([false, false, false, false, false]);
    });

    it("let everything else have its turn while messages come without end", async () => {
      const [mine, peer] = pair("message");
      const turned = new Promise<void>((resolve) => {
        let isFirst = true;
        open(mine, {
          ...new Received().options,
          lingerMs: 1_000,
          onRead: () => {
            if (isFirst) setTimeout(resolve, 1);
            isFirst = false;
            writeSync(peer, "next");
            return "next";
          },
        });
      });
      writeSync(peer, "first");
      await turned;
    });

    it("see the end of the peer while they wait", async () => {
      const [mine, peer] = pair("message");
      const received = new Received();
      open(mine, {
        ...received.options,
        lingerMs: 1_000,
        onRead: () => {
          closeIfOpen(peer);
          return "next";
        },
      });
      writeSync(peer, "first");
      expect(await received.atLeast(1)).to.deep.equal([undefined]);
    });
  });

  for (const mechanism of ["handle", "call"] as const) {
    describe(`waiting by ${mechanism}`, () => {
      it("hand over one message per read, in order, its borders kept", async () => {
        const [mine, peer] = pair("message");
        const received = new Received();
        for (const text of ["one", "two", "three"]) writeSync(peer, text);
        expect(open(mine, { ...received.options, mechanism }).mechanism).to.equal(mechanism);
        expect(received.items).to.deep.equal([]);
        expect(await received.atLeast(3)).to.deep.equal(["one", "two", "three"]);
        writeSync(peer, "four");
        expect(await received.atLeast(4)).to.deep.equal(["one", "two", "three", "four"]);
      });

      it("read a stream in pieces of the buffer's size", async () => {
        const [mine, peer] = pair("stream");
        const received = new Received();
        open(mine, { ...received.options, bufferBytes: 4, mechanism, soleReader: true });
        writeSync(peer, "abcdefghij");
        expect(await received.atLeast(3)).to.deep.equal(["abcd", "efgh", "ij"]);
      });

      it("give bytes that a later read does not change", async () => {
        const [mine, peer] = pair("message");
        const got: Buffer[] = [];
        const received = new Received();
        const onData = (data: Buffer): void => {
          got.push(data);
          received.options.onData(data);
        };
        open(mine, { ...received.options, onData, mechanism });
        writeSync(peer, "first");
        await received.atLeast(1);
        writeSync(peer, "other");
        await received.atLeast(2);
        expect(got.map(String)).to.deep.equal(["first", "other"]);
      });

      it("tell the end once, after all data", async () => {
        const [mine, peer] = pair("stream");
        const received = new Received();
        const pollable = open(mine, { ...received.options, mechanism });
        writeSync(peer, "last");
        closeSync(peer);
        await received.atLeast(2);
        for (let i = 0; i < 5; i++) await turn();
        expect(received.items).to.deep.equal(["last", undefined]);
        pollable.ref();
        pollable.unref();
        await pollable.close();
      });

      it("tell a failed read as the end", async () => {
        const [mine, peer] = pair("stream");
        const received = new Received();
        // Unread bytes make the closing a reset.
        writeSync(mine, "never read");
        open(mine, { ...received.options, mechanism });
        closeSync(peer);
        const [error] = await received.atLeast(1);
        expect(error).to.include({ code: "ECONNRESET", syscall: "read" });
      });

      it("serve a second one of the same descriptor, and one of a duplicate", async () => {
        const [mine, peer] = pair("message");
        const received = new Received();
        open(mine, { ...received.options, mechanism });
        open(mine, { ...received.options, mechanism });
        for (const text of ["a", "b", "c"]) writeSync(peer, text);
        expect([...(await received.atLeast(3))].sort()).to.deep.equal(["a", "b", "c"]);
      });

      it("survive that the caller closes his descriptor first, and his number's next use", async () => {
        const [mine, peer] = pair("message");
        const received = new Received();
        const pollable = open(mine, { ...received.options, mechanism });
        closeSync(mine);
        const [other] = pair("message");
        expect(other).to.equal(mine);
        writeSync(peer, "still here");
        expect(await received.atLeast(1)).to.deep.equal(["still here"]);
        await pollable.close();
      });

      it("close twice, take ref and unref afterwards, and call nobody any more", async () => {
        const [mine, peer] = pair("message");
        const received = new Received();
        const pollable = open(mine, { ...received.options, mechanism });
        writeSync(peer, "unheard");
        const closed = pollable.close();
        expect(pollable.close()).to.equal(closed);
        pollable.ref();
        pollable.unref();
        await closed;
        for (let i = 0; i < 5; i++) await turn();
        expect(received.items).to.deep.equal([]);
      });

      it("close from within a listener, the rest unheard", async () => {
        const [mine, peer] = pair("message");
        const received = new Received();
        for (const text of ["a", "b", "c"]) writeSync(peer, text);
        const pollable = open(mine, {
          ...received.options,
          mechanism,
          onData: (data) => {
            received.options.onData(data);
            void pollable.close();
          },
        });
        await received.atLeast(1);
        await pollable.close();
        for (let i = 0; i < 5; i++) await turn();
        expect(received.items).to.deep.equal(["a"]);
      });

      it("live on without a reference of the caller's", async () => {
        const [mine, peer] = pair("message");
        const received = new Received();
        (() => void openPollable(mine, { ...received.options, mechanism }))();
        for (let i = 0; i < 5; i++) {
          collectGarbage();
          await turn();
        }
        writeSync(peer, "x");
        await received.atLeast(1);
        closeSync(peer);
        expect(await received.atLeast(2)).to.deep.equal(["x", undefined]);
      });

      it("close in each state of waiting, nothing left open", async () => {
        const cycle = async (prepare: (pollable: Pollable, peer: number) => Promise<void> | void) => {
          const [mine, peer] = socketPair("message");
          const received = new Received();
          const pollable = openPollable(mine, { ...received.options, mechanism });
          await prepare(pollable, peer);
          await pollable.close();
          closeSync(mine);
          closeIfOpen(peer);
        };
        const states: Parameters<typeof cycle>[0][] = [
          () => undefined, // a call in flight
          () => turn(),
          (pollable) => pollable.unref(), // in flight, to be a timer
          async (pollable, peer) => {
            pollable.unref();
            writeSync(peer, "x"); // ends the call: a timer is pending
            await turn();
            await turn();
          },
          (pollable) => {
            pollable.unref();
            pollable.ref();
          },
          async (_, peer) => {
            closeSync(peer); // at the end: stopped, idle
            for (let i = 0; i < 10; i++) await turn();
          },
        ];
        for (const state of states) await cycle(state);
        const before = openDescriptors();
        for (let i = 0; i < 200; i++) await cycle(states[i % states.length] as never);
        expect(openDescriptors()).to.equal(before);
      });

      it("go on when a listener throws", async () => {
        const { code, stdout, stderr } = await run(`
          process.on("uncaughtException", (error) => console.log(error.message));
          const pollable = openPollable(ends[0], {
            bufferBytes: 1, mechanism: "${mechanism}",
            onData: (data) => { throw new Error(String(data)); },
            onEnd: () => pollable.close(),
          });
          fs.writeSync(ends[1], "abc");
          fs.closeSync(ends[1]);`);
        expect({ code, stdout }, stderr).to.deep.equal({ code: 0, stdout: "a\nb\nc\n" });
      });

      it("let the process end when unreferenced, also after data", async () => {
        const { code, stdout, stderr } = await run(`
          const pollable = openPollable(ends[0], {
            bufferBytes: 8, mechanism: "${mechanism}",
            onData: (data) => { console.log(String(data)); pollable.unref(); }, onEnd: () => undefined,
          });
          fs.writeSync(ends[1], "data");`);
        expect({ code, stdout }, stderr).to.deep.equal({ code: 0, stdout: "data\n" });
      });

      it("keep the process alive while referenced", async () => {
        const { stdout } = await run(`
          openPollable(ends[0], {
            bufferBytes: 8, mechanism: "${mechanism}",
            onData: (data) => { console.log(String(data)); process.exit(3); }, onEnd: () => undefined,
          });
          setTimeout(() => fs.writeSync(ends[1], "late"), 50).unref();`);
        expect(stdout).to.equal("late\n");
      });

      it("do not hold up process.exit() while waiting", async () => {
        const { code } = await run(`
          openPollable(ends[0], {
            bufferBytes: 8, mechanism: "${mechanism}", onData: () => undefined, onEnd: () => undefined,
          });
          setTimeout(() => process.exit(3), 5);`);
        expect(code).to.equal(3);
      });
    });
  }

  it("use the event loop's own handles where they can, and poll(2) on Bun", () => {
    const [mine] = pair("stream");
    const libc = openLibc();
    expect(pollMechanism(libc, mine, "linux", {})).to.equal("handle");
    expect(pollMechanism(libc, mine, "linux", { bun: "1.4.0" })).to.equal("call");
  });

  it("refuse what has no events, and what is no descriptor, instead of aborting the process", () => {
    const { options } = new Received();
    for (const path of ["/dev/null", "/dev/zero", "/proc/self/status", `${ROOT}/package.json`]) {
      const fd = openSync(path, "r");
      fds.push(fd);
      expect(() => openPollable(fd, options), path)
        .to.throw()
        .with.property("code", "ERR_NOT_SUPPORTED");
    }
    for (const fd of [-1, 1_000_000]) {
      expect(() => openPollable(fd, options))
        .to.throw()
        .with.property("code", "EBADF");
    }
    const libc = openLibc();
    expect(() => pollMechanism(libc, fds[0] as number, "win32"))
      .to.throw()
      .with.property("code", "ERR_NOT_SUPPORTED");
  });

  it("refuse a buffer without room", () => {
    const { options } = new Received();
    for (const bufferBytes of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
      expect(() => openPollable(0, { ...options, bufferBytes })).to.throw(RangeError);
    }
  });

  it("leave nothing open when the opening fails", () => {
    const fd = openSync("/dev/null", "r");
    fds.push(fd);
    const before = openDescriptors();
    for (let i = 0; i < 20; i++) expect(() => openPollable(fd, new Received().options)).to.throw();
    expect(openDescriptors()).to.equal(before);
  });

  it("end by the error of a poll(2) that cannot be made", async () => {
    const [mine] = pair("stream");
    const failing = watchedKoffi((declaration, declare) => {
      const declared = declare(declaration);
      if (!declaration.startsWith("int poll(")) return declared;
      return Object.assign((...args: unknown[]) => declared(...args), {
        async: () => {
          throw new Error("Too many asynchronous calls are running");
        },
      });
    });
    const received = new Received();
    open(mine, { ...received.options, mechanism: "call", koffi: () => failing });
    const [error] = await received.atLeast(1);
    expect(error).to.be.instanceOf(Error);
  });

  it("serve many descriptors by one poll(2)", async () => {
    const waiter = openPollWaiter(openLibc());
    expect(waiter).to.equal(openPollWaiter(openLibc()));
    const received = new Received();
    const pairs = Array.from({ length: 30 }, () => pair("message"));
    for (const [mine] of pairs) open(mine, { ...received.options, mechanism: "call" });
    pairs.forEach(([, peer], index) => {
      writeSync(peer, String(index));
    });
    const numbers = (await received.atLeast(30)).map(Number).sort((a, b) => a - b);
    expect(numbers).to.deep.equal(pairs.map((_, index) => index));
  });
});
