import { expect } from "chai";
import { GuestState } from "../../../providers/kvm/host/guest-state.js";
import { ADMINISTRATOR_LIMITS } from "../../../providers/kvm/host/limits.js";
import { Turns } from "../../../src/base/flow/turn.js";
import { decodeAnswer, encodeAnswer } from "../../../src/mdata/answer.js";
import { decodeBase64, encodeBase64 } from "../../../src/mdata/base64.js";
import { decodeFrame } from "../../../src/mdata/frame.js";
import { longAnswer, longPlainAnswer } from "../../../src/mdata/long-answer.js";
import { encodePlainValue } from "../../../src/mdata/plain.js";
import { RememberedAnswers } from "../../../src/mdata/repeats.js";
import { decodeRequestInSteps, encodeRequest } from "../../../src/mdata/request.js";
import { answerFrame, answerLine, PVBUS_DIALECT, type Reply } from "../../../src/mdata/server/requests.js";
import { GuestTurns, HostTurns } from "../../../src/mdata/server/turns.js";
import { random } from "../../support/campaign.js";
import { HostFolder, keysOf, TestGuest } from "../../support/kvm-guest.js";

const MIB = 1024 * 1024;
const ID = "0000000a";

/** Turns whose time is that of the steps alone. */
function turnsBySteps(): { turns: HostTurns; work: (ms: number) => void } {
  let now = 0;
  const turns = new Turns({ budgetMs: 1, sliceMs: 0.5, now: () => now });
  return {
    turns: new HostTurns(turns),
    work: (ms) => {
      now += ms;
    },
  };
}

describe("turns of guests", () => {
  it("go from guest to guest, not from connection to connection", async () => {
    const { turns, work } = turnsBySteps();
    const steps = { flood: 0, other: 0 };
    let isOver = false;
    const loop = async (who: keyof typeof steps, guest: GuestTurns): Promise<void> => {
      for (; !isOver; steps[who]++) {
        await guest.next();
        work(0.5);
        isOver ||= steps.other === 200;
      }
    };
    const [flood, other] = [new GuestTurns(turns), new GuestTurns(turns)];
    await Promise.all([...Array.from({ length: 8 }, () => loop("flood", flood)), loop("other", other)]);
    expect(steps.flood).to.be.within(150, 250);
  });

  it("come to each connection of a guest in the order in which they asked", async () => {
    const { turns, work } = turnsBySteps();
    const guest = new GuestTurns(turns);
    const order: number[] = [];
    const loop = async (at: number): Promise<void> => {
      for (let round = 0; round < 3; round++) {
        await guest.next();
        order.push(at);
        work(1);
      }
    };
    await Promise.all([0, 1, 2].map(loop));
    expect(order).to.deep.equal([0, 1, 2, 0, 1, 2, 0, 1, 2]);
  });

  it("come to who asks now and then before all who ask without pause, and to the event loop in between", async () => {
    const { turns, work } = turnsBySteps();
    let isOver = false;
    const steps = Array.from({ length: 20 }, () => 0);
    const sum = (): number => steps.reduce((total, each) => total + each, 0);
    const busy = steps.map(async (_, at) => {
      const guest = new GuestTurns(turns);
      while (!isOver) {
        await guest.next();
        work(0.5);
        steps[at] = (steps[at] ?? 0) + 1;
      }
    });
    const newcomer = new GuestTurns(turns);
    for (let round = 1; round <= 30; round++) {
      // Seldom: the others have had more turns since.
      while (Math.min(...steps) < 3 * round) {
        const before = sum();
        await new Promise(setImmediate);
        expect(
          sum() - before,
          "steps in one turn of the loop, the very first of each among them",
        ).to.be.at.most(25);
      }
      const asked = sum();
      await newcomer.next();
      expect(sum() - asked, "steps of others before its own").to.be.at.most(4);
      work(0.5);
    }
    isOver = true;
    await Promise.all(busy);
    expect(Math.max(...steps) - Math.min(...steps)).to.be.at.most(3);
  });

  it("are not saved up by who is silent", async () => {
    const { turns, work } = turnsBySteps();
    const order: string[] = [];
    const loop = async (name: string, count: number): Promise<void> => {
      const guest = new GuestTurns(turns);
      for (let i = 0; i < count; i++) {
        await guest.next();
        order.push(name);
        work(1);
      }
    };
    const busy = loop("busy", 100);
    while (order.length < 50) await new Promise(setImmediate);
    const since = order.length;
    await loop("silent", 20);
    const meanwhile = order.slice(since).filter((name) => name === "busy");
    expect(meanwhile.length).to.be.within(17, 23);
    await busy;
  });
});

describe("long requests and answers", () => {
  const chance = random();

  function parts(reply: Reply | undefined): (Buffer | undefined)[] {
    if (reply === undefined || typeof reply === "string" || Buffer.isBuffer(reply))
      throw new Error("an answer in one piece");
    return [...reply];
  }

  async function withKeys(count: number, work: (state: GuestState) => unknown): Promise<void> {
    await using folder = new HostFolder();
    const state = await GuestState.open(`${folder.path}/log`, ADMINISTRATOR_LIMITS);
    const key = (i: number): string => `${i}`.padStart(100, "k");
    await Promise.all(Array.from({ length: count }, (_, i) => state.put(key(i), Buffer.from("v"))));
    await state.put("sdc:secret", Buffer.from("v"));
    await state.put("large", Buffer.alloc(4 * MIB, ".\n"), ADMINISTRATOR_LIMITS);
    try {
      await work(state);
    } finally {
      await state.close();
    }
  }

  it("are the same in parts as in one piece, wherever they are cut", () => {
    for (let round = 0; round < 200; round++) {
      const value = chance
        .bytes(chance.below(40))
        .map((byte) => (byte < 100 ? 0x2e : byte < 150 ? 10 : byte));
      const cut = (): Uint8Array[] => {
        const pieces: Uint8Array[] = [];
        for (let at = 0; at < value.length; ) {
          const end = at + chance.below(6);
          pieces.push(value.subarray(at, end));
          at = end;
        }
        return pieces;
      };
      const joined = (all: Iterable<Buffer | undefined>): string =>
        Buffer.concat([...all].filter((part) => part !== undefined)).toString("latin1");
      const pieces = cut();
      expect(joined(longAnswer(ID, () => pieces))).to.equal(
        encodeAnswer(ID, { kind: "success", value }).toString("latin1"),
      );
      expect(joined(longPlainAnswer(cut()))).to.equal(encodePlainValue(value).toString("latin1"));
    }
  });

  it("take many short steps: of KEYS, of GET, in both versions of the protocol", async () => {
    await withKeys(10_000, (state) => {
      const served = {
        keys: state,
        dialect: PVBUS_DIALECT,
        watches: { add: () => true, remove: () => true },
        answers: new RememberedAnswers(),
      };
      const frame = { id: ID, word: "", payload: undefined };
      const ask = (command: "KEYS" | "GET"): (Buffer | undefined)[] => {
        const request = command === "KEYS" ? { command } : { command, key: "large" };
        const reply = answerFrame(served, frame, request, () => undefined);
        if (reply instanceof Promise) throw new Error("a promise");
        return parts(reply);
      };
      for (const all of [
        ask("KEYS"),
        ask("GET"),
        parts(answerLine(served, "KEYS")),
        parts(answerLine(served, "GET large")),
      ]) {
        expect(all.length).to.be.greaterThan(40);
        expect(Math.max(...all.map((part) => part?.length ?? 0))).to.be.lessThan(200 * 1024);
      }
      const whole = Buffer.concat(ask("KEYS").filter((part) => part !== undefined));
      const answer = decodeAnswer(decodeFrame(whole.subarray(0, -1)) ?? { ...frame, word: "broken" });
      const names = Buffer.from(answer?.kind === "success" ? answer.value : [])
        .toString()
        .split("\n");
      expect(names).to.deep.equal(keysOf(state).filter((key) => key !== "sdc:secret"));
    });
  });

  it("list what was there when the answer began", async () => {
    await withKeys(1_000, async (state) => {
      const before = keysOf(state).filter((key) => key !== "sdc:secret");
      const all = answerLine({ keys: state, dialect: PVBUS_DIALECT }, "KEYS");
      if (all === undefined || typeof all === "string" || Buffer.isBuffer(all)) throw new Error("one piece");
      const text: string[] = [];
      all.next();
      text.push(String(all.next().value));
      await Promise.all(
        before.map((key, i) => (i % 2 === 0 ? state.delete(key) : state.put(`${key}+`, Buffer.of(1)))),
      );
      for (const part of all) text.push(String(part));
      expect(text.join("").split("\n").slice(0, -2)).to.deep.equal(before);
    });
  });

  it("take many short steps where a value comes in, and nothing but padded base64 is taken", () => {
    const value = chance.bytes(MIB + 1);
    const frame = decodeFrame(encodeRequest(ID, { command: "PUT", key: "k", value }).subarray(0, -1));
    let steps = 0;
    const decoding = decodeRequestInSteps(frame ?? { id: ID, word: "", payload: undefined });
    let step = decoding.next();
    for (; step.done !== true; step = decoding.next()) steps++;
    expect(steps).to.be.greaterThan(20);
    expect(typeof step.value === "object" && "value" in step.value && step.value.value).to.deep.equal(
      Buffer.from(value),
    );
    const text = encodeBase64(value.subarray(0, MIB));
    for (const at of [10, 65_534, 65_535, 65_536, 600_000])
      for (const bad of ["=", "-", "_", "\n"])
        expect(decodeBase64(text.slice(0, at) + bad + text.slice(at + 1)), `${bad} at ${at}`).to.equal(
          undefined,
        );
  });

  it("are not broken by the events of a watch", async () => {
    await using folder = new HostFolder();
    const limits = { maxKeys: 20_000, maxTotalBytes: 64 * MIB };
    await folder.serve([{ name: "a", limits }]);
    await using writer = await TestGuest.connect(folder.socket("a"));
    await using watcher = await TestGuest.connect(folder.socket("a"));
    await writer.put("large", Buffer.alloc(MIB, "x"));
    await watcher.ask({ command: "WATCH", prefix: "" });
    let isOver = false;
    let puts = 0;
    const writing = (async () => {
      for (; !isOver; puts++) expect(await writer.put(`key-${puts % 50}`, "x")).to.equal("OK");
    })();
    for (let round = 0; round < 30; round++) expect((await watcher.get("large"))?.length).to.equal(MIB);
    isOver = true;
    await writing;
    expect(puts).to.be.greaterThan(0);
    for (let last = ""; last !== `key-${(puts - 1) % 50}`; ) {
      const answer = await watcher.event();
      if (answer?.kind !== "event") throw new Error("no event");
      last = answer.event.key;
    }
  });
});
