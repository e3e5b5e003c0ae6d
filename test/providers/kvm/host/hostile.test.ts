import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { expect } from "chai";
import { encodeFrame } from "../../../../src/mdata/frame.js";
import { encodeRequest } from "../../../../src/mdata/request.js";
import { PROGRAM } from "../../../support/command-line.js";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";
import { pending } from "../../../support/pending.js";
import { start } from "../../../support/processes.js";

const MIB = 1024 * 1024;

/** Sends a buffer as often as is wanted, no faster than it is taken; ends early when the host hangs up. */
async function pour(guest: TestGuest, bytes: Buffer, times: number): Promise<void> {
  for (let i = 0; i < times && !guest.socket.destroyed; i++)
    await new Promise<void>((resolve) => guest.socket.write(bytes, () => resolve()));
}

/** Works as an honest guest does; every answer must be right. */
async function honest(guest: TestGuest, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    expect(await guest.put("honest", `${round}`)).to.equal("OK");
    expect(await guest.get("honest")).to.equal(`${round}`);
  }
}

describe("KVM host beside hostile guests", function () {
  this.timeout(120_000);

  it("takes any bytes without harm", async () => {
    await using folder = new HostFolder();
    await folder.serve(["bad", "good"]);
    await using good = await TestGuest.connect(folder.socket("good"));
    for (let round = 0; round < 40; round++) {
      await using bad = await TestGuest.connect(folder.socket("bad"));
      const bytes = randomBytes(32 * 1024);
      // Half of the rounds look like frames.
      if (round % 2 === 0)
        for (let at = 0; at + 8 < bytes.length; at += 97) bytes.write("\nV2 12 ", at, "latin1");
      await pour(bad, bytes, 4);
      await honest(good, 1);
    }
    await using again = await TestGuest.connect(folder.socket("bad"));
    expect(await again.put("works", "still")).to.equal("OK");
    expect(folder.events.filter(({ level }) => level === "error")).to.deep.equal([]);
  });

  it("treats keys that look like paths as keys, of that guest alone", async () => {
    await using folder = new HostFolder();
    await folder.serve(["bad", "good"]);
    await using bad = await TestGuest.connect(folder.socket("bad"));
    await using good = await TestGuest.connect(folder.socket("good"));
    await good.put("secret", "mine");
    const before = readdirSync(folder.path, { recursive: true }).sort();
    for (const key of [
      "../good/log",
      "/etc/passwd",
      "../../guests/good/log",
      "good/secret",
      "__proto__",
      "lock",
    ]) {
      expect(await bad.put(key, key)).to.equal("OK");
      expect(await bad.get(key)).to.equal(key);
      expect(await good.get(key)).to.equal(undefined);
    }
    for (const key of ["a\nb", "a\0b", "a\u0085b", " a", "a ", "\ud800", "k".repeat(513)]) {
      const answer = await bad.put(key, "x");
      // A lone surrogate becomes U+FFFD on the wire, which is a key like others.
      expect(answer, JSON.stringify(key)).to.match(
        key === "\ud800" ? /^OK$/ : /^ERR_KEY_(INVALID|TOO_LONG): /,
      );
    }
    expect(await bad.get("secret")).to.equal(undefined);
    expect(await good.get("secret")).to.equal("mine");
    expect(readdirSync(folder.path, { recursive: true }).sort()).to.deep.equal(before);
  });

  it("keeps each guest to its quota, and the others have theirs", async () => {
    await using folder = new HostFolder();
    await folder.serve(["bad", "good"], {
      limits: { maxKeys: 10, maxTotalBytes: 10_000, maxValueBytes: 4_000, maxWatches: 3 },
    });
    await using bad = await TestGuest.connect(folder.socket("bad"));
    await using good = await TestGuest.connect(folder.socket("good"));
    for (let i = 0; i < 10; i++) expect(await bad.put(`key-${i}`, "x")).to.equal("OK");
    expect(await bad.put("one-more", "x")).to.match(/^ERR_NO_SPACE: /);
    expect(await bad.put("key-0", "x".repeat(4_001))).to.match(/^ERR_VALUE_TOO_LONG: /);
    expect(await bad.put("key-0", "x".repeat(4_000))).to.equal("OK");
    expect(await bad.put("key-1", "x".repeat(4_000))).to.equal("OK");
    expect(await bad.put("key-2", "x".repeat(4_000))).to.match(/^ERR_NO_SPACE: /);
    // What is full can be emptied.
    await bad.ask({ command: "DELETE", key: "key-0" });
    expect(await bad.put("key-2", "x".repeat(4_000))).to.equal("OK");
    for (let i = 0; i < 3; i++)
      expect((await bad.ask({ command: "WATCH", prefix: `${i}` }))?.kind).to.equal("success");
    expect(await bad.ask({ command: "WATCH", prefix: "4" })).to.include({ kind: "failure" });
    expect(await bad.ask({ command: "WATCH", prefix: "p".repeat(513) })).to.include({ kind: "failure" });
    await honest(good, 3);
  });

  it("refuses connections over the limit, and takes new ones when others have gone", async () => {
    await using folder = new HostFolder();
    await folder.serve(["bad", "good"], { limits: { maxConnections: 3 } });
    const held: TestGuest[] = [];
    for (let i = 0; i < 3; i++) held.push(await TestGuest.connect(folder.socket("bad")));
    for (const each of held) expect(await each.say("NEGOTIATE V2\n")).to.equal("V2_OK");
    await using refused = await TestGuest.connect(folder.socket("bad"));
    expect(await refused.say("NEGOTIATE V2\n")).to.equal(undefined);
    await using good = await TestGuest.connect(folder.socket("good"));
    await honest(good, 1);
    for (const each of held) await each[Symbol.asyncDispose]();
    for (let isServed = false; !isServed; ) {
      await using again = await TestGuest.connect(folder.socket("bad"));
      isServed = (await again.say("NEGOTIATE V2\n")) === "V2_OK";
    }
  });

  it("answers a request that is too long by its id, and serves on", async () => {
    await using folder = new HostFolder();
    await folder.serve(["bad"], { limits: { maxValueBytes: 1_000 } });
    await using bad = await TestGuest.connect(folder.socket("bad"));
    for (const size of [10_000, 1_000_000])
      expect(await bad.put("big", "x".repeat(size))).to.match(/^ERR_VALUE_TOO_LONG: .* 1000/);
    expect(await bad.say(`${"x".repeat(100_000)}\n`)).to.equal("FAILURE");
    expect(await bad.put("small", "x")).to.equal("OK");
  });

  it("tells a guest that was slow the last change of each key, and drops one for which too many wait", async () => {
    await using folder = new HostFolder();
    const host = await folder.serve(["bad", "good"], { limits: { maxKeys: 5_000 } });
    await using watcher = await TestGuest.connect(folder.socket("bad"));
    await using writer = await TestGuest.connect(folder.socket("bad"));
    await using good = await TestGuest.connect(folder.socket("good"));
    const name = (i: number): string => `${i}-${"k".repeat(500)}`;
    const write = (count: number, value: string): Promise<unknown> =>
      Promise.all(Array.from({ length: count }, (_, i) => writer.put(name(i), value)));
    await watcher.ask({ command: "WATCH", prefix: "" });
    watcher.socket.pause();
    for (let round = 0; round < 3; round++) await write(900, `${round}`);
    watcher.socket.resume();
    const last = new Map<string, number>();
    let told = 0;
    while (last.size < 900 || Math.min(...last.values()) <= 2 * 900) {
      const answer = await watcher.event();
      if (answer?.kind !== "event") throw new Error("no event");
      last.set(answer.event.key, answer.event.rev);
      told++;
    }
    expect(told, "events of 2700 changes").to.be.lessThan(2_400);

    watcher.socket.pause();
    expect(host.connections).to.equal(3);
    for (let round = 0; host.connections === 3; round++) await write(3_000, `${round}`);
    expect(folder.events.map(({ event }) => event)).to.include(
      "connection dropped: the guest does not take its events",
    );
    expect(await writer.get(name(0))).to.be.a("string");
    await honest(good, 3);
  });

  describe("in a process of its own", () => {
    let folder: HostFolder;
    let host: ReturnType<typeof start>;
    const peakMiB = (): number => {
      const status = readFileSync(`/proc/${host.child.pid}/status`, "utf8");
      return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
    };

    before(async function () {
      if (process.platform !== "linux") pending(this, "/proc, which is Linux's");
      folder = new HostFolder();
      const args = ["host", "serve", "--state", folder.state];
      for (const name of ["bad", "good"]) args.push("--guest", `${name}=unix:${folder.socket(name)}`);
      host = start(process.execPath, [PROGRAM, ...args]);
      await new Promise<void>((resolve, reject) => {
        host.child.stderr?.on("data", (text: string) => text.includes('"serving"') && resolve());
        void host.done.then(({ stderr }) => reject(new Error(stderr)));
      });
    });
    after(async () => {
      host?.child.kill("SIGTERM");
      await host?.done;
      await folder?.[Symbol.asyncDispose]();
    });

    it("holds little of a line without an end, of answers nobody reads and of floods, and serves the others", async () => {
      await using good = await TestGuest.connect(folder.socket("good"));
      await honest(good, 20);
      const before = peakMiB();

      // Lines without an end: a quarter of a gigabyte through four connections.
      const endless = await Promise.all([1, 2, 3, 4].map(() => TestGuest.connect(folder.socket("bad"))));
      const pouring = endless.map((guest) => pour(guest, Buffer.alloc(MIB, 0x41), 64));
      await honest(good, 50);
      await Promise.all(pouring);
      for (const guest of endless) await guest[Symbol.asyncDispose]();

      // A large value, asked for again and again by somebody who takes no answer: the host stops reading.
      await using deaf = await TestGuest.connect(folder.socket("bad"));
      expect(await deaf.put("large", Buffer.alloc(MIB, 0x42))).to.equal("OK");
      deaf.socket.pause();
      const request = encodeRequest("00000001", { command: "GET", key: "large" });
      const asking = pour(deaf, Buffer.concat(Array.from({ length: 1_000 }, () => request)), 200);
      await honest(good, 50);
      await deaf[Symbol.asyncDispose]();
      await asking;

      // Requests as fast as they go, broken ones among them, while an honest guest works.
      const flood = Buffer.concat(
        Array.from({ length: 500 }, (_, i) =>
          i % 3 === 0
            ? encodeFrame({ id: "0000000g", word: "GET", payload: "YQ==" })
            : encodeRequest("00000002", { command: "KEYS" }),
        ),
      );
      const floods = await Promise.all([1, 2, 3, 4].map(() => TestGuest.connect(folder.socket("bad"))));
      let isOver = false;
      const flooding = floods.map(async (guest) => {
        guest.socket.removeAllListeners("data").resume();
        while (!isOver) await pour(guest, flood, 1);
      });
      await honest(good, 200);
      isOver = true;
      for (const guest of floods) await guest[Symbol.asyncDispose]();
      await Promise.all(flooding);

      expect(peakMiB() - before, "MiB more at its peak").to.be.lessThan(120);
      await honest(good, 1);
    });

    it("waits for one that sends byte by byte without keeping others waiting", async () => {
      await using good = await TestGuest.connect(folder.socket("good"));
      const slow = await Promise.all([1, 2, 3, 4, 5].map(() => TestGuest.connect(folder.socket("bad"))));
      const line = encodeRequest("00000003", { command: "PUT", key: "slow", value: Buffer.from("done") });
      for (const byte of line) {
        for (const guest of slow) guest.socket.write(Buffer.of(byte));
        await honest(good, 1);
      }
      for (const guest of slow) {
        expect(await guest.line()).to.match(/^V2 21 \w{8} 00000003 SUCCESS T0s=$/);
        await guest[Symbol.asyncDispose]();
      }
    });

    it("wrote a log whose length is no guest's to decide", async () => {
      host.child.kill("SIGTERM");
      const { stderr, code } = await host.done;
      expect(code).to.equal(0);
      const events = stderr.trimEnd().split("\n");
      for (const line of events) expect(JSON.parse(line)).to.include.keys("time", "level", "event");
      expect(events.length).to.be.lessThan(100);
      expect(JSON.parse(events.at(-1) as string)).to.include({ event: "stopped" });
      // Its sockets are gone with it.
      expect(readdirSync(folder.path)).to.deep.equal(["state"]);
      expect(readdirSync(folder.state)).to.have.members(["guests", "lock"]);
    });
  });
});
