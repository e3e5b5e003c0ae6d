import { expect } from "chai";
import { VirtualBoxSimulator } from "../../../providers/testing.js";
import { type Answer, type Given, PropertyClient } from "../../../providers/virtualbox/client.js";

/*
 * What the genuine service was recorded to answer (the reference's vectors), asked of the simulator through the driver's structures.
 * Its clock stands where a vector needs equal times.
 */

const shown = (bytes: Buffer): string => bytes.toString("latin1").replaceAll("\0", "·");
const text = (value: string): Buffer => Buffer.from(`${value}\0`);

class Caller {
  readonly simulator: VirtualBoxSimulator;
  readonly client: PropertyClient;
  time = 1_795_770_116_803_000_000n;

  constructor() {
    this.simulator = new VirtualBoxSimulator({
      clock: () => {
        this.time += 1_000n;
        return this.time;
      },
    });
    this.client = new PropertyClient(() => this.simulator.openFile());
  }

  async ask(fn: number, ...given: Given[]): Promise<Exclude<Answer, { errno: string }>> {
    await this.client.connect();
    const answer = await this.client.call(fn, given, 60_000);
    if ("errno" in answer) throw new Error(answer.errno);
    return answer;
  }

  async set(name: string, value: string, flags?: string): Promise<number> {
    const texts = [text(name), text(value)];
    const answer =
      flags === undefined ? await this.ask(3, ...texts) : await this.ask(2, ...texts, text(flags));
    return answer.status;
  }

  async delete(name: string): Promise<number> {
    return (await this.ask(4, text(name))).status;
  }

  /** The status, the text where it is one, and the size. */
  async get(name: string, room = 2048): Promise<readonly [number, string, number]> {
    const answer = await this.ask(1, text(name), { room }, { u64: 0n }, { u32: 0 });
    const size = Number(answer.number(3));
    return [answer.status, answer.status === 0 ? shown(answer.filled(1, size)) : "", size];
  }

  async enumerate(pattern: string, room = 16_384): Promise<readonly [number, string, number]> {
    const answer = await this.ask(5, text(pattern.replaceAll("·", "\0")), { room }, { u32: 0 });
    const size = Number(answer.number(2));
    return [answer.status, answer.status === 0 ? shown(answer.filled(1, size)) : "", size];
  }

  /** What a wait is told: status, text, and the event's time. */
  async wait(pattern: string, after: bigint, room = 2048): Promise<readonly [number, string, bigint]> {
    await this.client.connect();
    const given = [text(pattern), { u64: after }, { room }, { u32: 0 }];
    const answer = await this.client.wait(6, given, 60_000);
    if ("errno" in answer) throw new Error(answer.errno);
    const { status } = answer;
    const isFilled = status === 0 || status === 78;
    return [status, isFilled ? shown(answer.filled(2, Number(answer.number(3)))) : "", answer.number(1)];
  }

  at(name: string): bigint {
    return this.simulator.service.get(name)?.timestamp ?? 0n;
  }
}

describe("the simulated service of guest properties answers as the genuine one was recorded", () => {
  let host: Caller;
  beforeEach(() => {
    host = new Caller();
  });
  afterEach(() => host.client.drop());

  it("GET, SET and SET_VALUE (1 to 4)", async () => {
    expect(await host.set("/a", "v1", "")).to.equal(0);
    for (const room of [1, 3]) expect(await host.get("/a", room)).to.deep.equal([-41, "", 4]);
    expect(await host.get("/a", 4)).to.deep.equal([0, "v1··", 4]);
    expect(await host.set("/a", "v2")).to.equal(0);
    expect(await host.set("/a", "", "")).to.equal(0);
    expect(await host.get("/a")).to.deep.equal([0, "··", 2]);
    expect(await host.get("/none")).to.deep.equal([-78, "", 0]);
    expect([await host.delete("/a"), await host.delete("/a")]).to.deep.equal([0, 0]);
  });

  it("flags (5 to 7)", async () => {
    const kept = async (flags: string): Promise<unknown> => {
      const status = await host.set(`/f/${flags}`.slice(0, 9), "x", flags);
      return status === 0 ? (await host.get(`/f/${flags}`.slice(0, 9))).slice(1) : status;
    };
    expect(await kept("TRANSRESET")).to.deep.equal(["x·TRANSIENT, TRANSRESET·", 24]);
    expect(await kept("  TRANSIENT , RDONLYHOST  ")).to.deep.equal(["x·TRANSIENT, RDONLYHOST·", 24]);
    expect(await kept("RDONLYGUEST,RDONLYHOST")).to.deep.equal(["x·READONLY·", 11]);
    for (const flags of ["bogus", "TRANSIENTX", "NILFLAG"]) expect(await kept(flags)).to.equal(-53);
    expect(await kept("transient,")).to.deep.equal(["x·TRANSIENT·", 12]);
  });

  it("what is whose (8 to 10)", async () => {
    await host.set("/g", "x", "RDONLYGUEST");
    expect([await host.set("/g", "y", ""), await host.set("/g", "y"), await host.delete("/g")]).to.deep.equal(
      [-10, -10, -10],
    );
    expect(host.simulator.delete("/g")).to.equal(0);
    await host.set("/o", "x", "RDONLYHOST");
    expect([host.simulator.set("/o", "y"), host.simulator.delete("/o")]).to.deep.equal([-10, -10]);
    expect(await host.set("/o", "y")).to.equal(0);
    host.simulator.set("/h/t", "1", "TRANSIENT");
    await host.set("/h/t", "2");
    expect(await host.get("/h/t")).to.deep.equal([0, "2··", 3]);
    host.simulator.set("/VirtualBox/HostInfo/y", "v");
    expect(await host.get("/VirtualBox/HostInfo/y")).to.deep.equal([0, "v·RDONLYGUEST·", 14]);
    expect(await host.set("/VirtualBox/HostInfo/x", "v")).to.equal(-10);
    for (const free of ["/VirtualBox/GuestInfo/x", "/VirtualBox/GuestAdd/Revision", "/virtualbox/HostInfo/x"])
      expect(await host.set(free, "v"), free).to.equal(0);
  });

  it("sizes and names (11, 12)", async () => {
    expect(await host.set("n".repeat(63), "v")).to.equal(0);
    for (const name of ["n".repeat(64), "", "/s*", "/s?", "/s|"])
      expect(await host.set(name, "v"), name).to.equal(-2);
    const raw = async (...given: Buffer[]): Promise<number> => (await host.ask(3, ...given)).status;
    expect(await raw(Buffer.from("/bad\xff\0", "latin1"), text("v"))).to.equal(-2);
    expect(await raw(Buffer.from("/no-end"), text("v"))).to.equal(-2);
    expect(await raw(text("/a"), Buffer.from("no end"))).to.equal(-2);
    expect(await raw(text("/emb\0x"), text("v\0w"))).to.equal(0);
    expect(await host.get("/emb")).to.deep.equal([0, "v··", 3]);
    expect(await raw(text("/long"), text("v".repeat(1023)))).to.equal(0);
    expect((await host.get("/long"))[2]).to.equal(1025);
    expect(await raw(text("/long"), text("v".repeat(1024)))).to.equal(-42);
    for (const fn of [0, 7, 99]) expect((await host.ask(fn, text("/a"))).status).to.equal(-12);
    expect((await host.ask(1, text("/a"))).status).to.equal(-2);
  });

  it("ENUM (13 to 15)", async () => {
    for (const [name, value, flags] of [
      ["/e/1", "one", ""],
      ["/e/2", "two", "TRANSIENT"],
      ["/e/x/3", "three", ""],
    ] as const)
      await host.set(name, value, flags);
    const [status, listing, size] = await host.enumerate("/e/*");
    const one = (name: string, value: string, flags: string): string =>
      `${name}·${value}·${host.at(name)}·${flags}·`;
    expect([status, size]).to.deep.equal([0, 107]);
    expect(listing.endsWith("·····")).to.equal(true);
    for (const part of [one("/e/1", "one", ""), one("/e/2", "two", "TRANSIENT"), one("/e/x/3", "three", "")])
      expect(listing).to.contain(part);
    expect(await host.enumerate("/e/*", 10)).to.deep.equal([-41, "", 107]);
    for (const pattern of ["/e/1·/e/2·", "/e/?", "/e/1|/e/2"])
      expect((await host.enumerate(pattern))[2], pattern).to.equal(73);
    expect(await host.enumerate("/zzz*", 3)).to.deep.equal([-41, "", 4]);
    expect(await host.enumerate("/zzz*", 4)).to.deep.equal([0, "····", 4]);
    expect((await host.enumerate("p".repeat(1024)))[0]).to.equal(-42);
    expect((await host.enumerate(""))[1]).to.contain("/VirtualBox/VMInfo/ResetCounter·0·");
  });

  it("WAIT by live events and by history (16 to 20)", async () => {
    const first = host.wait("/n/*", 0n);
    await new Promise(setImmediate);
    host.simulator.set("/n/a", "1");
    const t1 = host.at("/n/a");
    expect(await first).to.deep.equal([0, "/n/a·1··0·", t1]);
    host.simulator.set("/n/b", "2", "TRANSIENT");
    const t2 = host.at("/n/b");
    host.simulator.set("/n/a", "3");
    const t3 = host.at("/n/a");
    host.simulator.delete("/n/b");
    expect(await host.wait("/n/*", t1)).to.deep.equal([0, "/n/b·2·TRANSIENT·1·", t2]);
    expect(await host.wait("/n/*", t2)).to.deep.equal([0, "/n/a·3··0·", t3]);
    const [status, told, t4] = await host.wait("/n/*", t3);
    expect([status, told]).to.deep.equal([0, "/n/b···1·"]);
    host.simulator.delete("/n/a");
    host.simulator.set("/n/a", "new");
    const [, gone, t5] = await host.wait("/n/*", t4);
    expect(gone).to.equal("/n/a···0·");
    expect((await host.wait("/n/*", t5))[1]).to.equal("/n/a·new··0·");
    expect(await host.wait("/n/*", 12345n)).to.deep.equal([78, "/n/a·1··0·", t1]);
  });

  it("WAIT with too small a room, twice, too often, and for what is deleted (21 to 23)", async () => {
    const small = host.wait("/sb*", 0n, 8);
    await new Promise(setImmediate);
    host.simulator.set("/sb", "value");
    expect(await small).to.deep.equal([-41, "", host.at("/sb")]);
    const same = host.wait("/same*", 0n);
    await new Promise(setImmediate);
    const again = host.wait("/same*", 0n);
    expect((await same)[0]).to.equal(-39);
    const others = Array.from({ length: 15 }, (_, n) => host.wait(`/other${n}`, 0n));
    await new Promise(setImmediate);
    expect((await host.wait("/one too many", 0n))[0]).to.equal(-80);
    await host.client.disconnect();
    for (const ended of [again, ...others]) expect((await ended)[0]).to.equal(-39);
    await host.set("/eq", "x");
    const gone = host.wait("/eq", 0n);
    await new Promise(setImmediate);
    await host.delete("/eq");
    expect((await gone)[1]).to.equal("/eq···1·");
  });

  it("equal times and a history of 256 (24)", async () => {
    await host.set("/l", "0");
    const before = host.at("/l");
    for (let n = 1; n <= 300; n++) await host.set("/l", `${n}`);
    const [status, told, time] = await host.wait("/l", before);
    expect([status, told]).to.deep.equal([78, "/l·45··0·"]);
    expect((await host.wait("/l", time))[1]).to.equal("/l·46··0·");
    // A clock that stands still still tells two events apart.
    const still = new VirtualBoxSimulator({ clock: () => 5_000_000n });
    const times = ["1", "2"].map((value) => {
      still.set("/l", value);
      return still.service.get("/l")?.timestamp ?? 0n;
    });
    expect((times[1] ?? 0n) - (times[0] ?? 0n)).to.equal(1n);
  });

  it("a store that is read-only, and one that is full (25, 26)", async () => {
    await host.set("/a", "v");
    host.simulator.service.faults.readOnly = true;
    expect([await host.set("/a", "w"), await host.delete("/a")]).to.deep.equal([10, 10]);
    expect((await host.get("/a"))[1]).to.equal("v··");
    host.simulator.service.faults.readOnly = false;
    const { length } = host.simulator.service.names();
    for (let n = length; n < 256; n++) await host.set(`/fill/${n}`, "v");
    expect(await host.set("/a", "again")).to.equal(0);
    const full = host.wait("/full/x", 0n);
    await new Promise(setImmediate);
    expect(await host.set("/full/x", "v")).to.equal(-42);
    expect((await full)[1]).to.equal("/full/x···1·");
  });

  it("what is dropped when", async () => {
    await host.set("/t", "1", "TRANSIENT");
    await host.set("/r", "1", "TRANSRESET");
    await host.set("/k", "1");
    host.simulator.service.reset();
    expect(["/t", "/r", "/k"].map((name) => host.simulator.get(name))).to.deep.equal(["1", undefined, "1"]);
    expect(host.simulator.get("/VirtualBox/VMInfo/ResetCounter")).to.equal("1");
    host.simulator.service.powerCycle();
    expect(["/t", "/k"].map((name) => host.simulator.get(name))).to.deep.equal([undefined, "1"]);
    expect(host.simulator.get("/VirtualBox/VMInfo/ResetCounter")).to.equal("0");
  });
});
