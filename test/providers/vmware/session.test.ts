import { expect } from "chai";
import { command, infoGet, type RpciRequest } from "../../../providers/vmware/protocol/rpci.js";
import { RpciSession } from "../../../providers/vmware/session.js";
import { ExchangeFailure, type RpcTransport } from "../../../providers/vmware/transport/rpc-transport.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { Call } from "../../../src/index.js";
import { rejects } from "../../support/rejects.js";

type Behaviour = (request: string, count: number) => string | Error | Promise<string>;

/** A way that does what the test says. */
class Scripted implements RpcTransport {
  readonly name: string;
  privileged: boolean | undefined;
  readonly sent: string[] = [];
  behaviour: Behaviour;
  prepared = 0;
  closed = 0;
  refusesToConnect: Error | undefined;

  constructor(name: string, privileged: boolean | undefined, behaviour: Behaviour) {
    this.name = name;
    this.privileged = privileged;
    this.behaviour = behaviour;
  }

  async prepare(): Promise<void> {
    this.prepared++;
    if (this.refusesToConnect) throw this.refusesToConnect;
  }

  async exchange(request: Uint8Array): Promise<Uint8Array> {
    const text = Buffer.from(request).toString();
    this.sent.push(text);
    const outcome = await this.behaviour(text, this.sent.length - 1);
    if (outcome instanceof Error) throw outcome;
    return Buffer.from(outcome);
  }

  async close(): Promise<void> {
    this.closed++;
  }
}

const GET = infoGet("guestinfo.a");
const ONCE = command("log", "x");
const SECRET = command("namespace-priv-get-values", "ns\0k\0", { privileged: true, repeatable: true });
const broken = (executed: boolean, stale = false): ExchangeFailure =>
  new ExchangeFailure("ERR_DISCONNECTED", "it broke", { executed, stale });
const absent = (): ExchangeFailure =>
  new ExchangeFailure("ERR_UNAVAILABLE", "nobody listens", { executed: false, connecting: true });
const call = (timeoutMs = 5000): Call => new Call({ timeoutMs });
const value = async (session: RpciSession, request: RpciRequest, during = call()): Promise<string> =>
  Buffer.from(await session.value(request, during)).toString();

describe("VMware RPCI session", () => {
  it("gives one command at a time, in the order of the calls", async () => {
    const pending: (() => void)[] = [];
    const way = new Scripted("way", true, async (_, count) => {
      await new Promise<void>((resolve) => pending.push(resolve));
      return `1 ${count}`;
    });
    const session = new RpciSession({ first: way, logger: SILENT });
    const all = [value(session, GET), value(session, ONCE), value(session, GET)];
    for (let round = 0; round < 3; round++) {
      while (pending.length === 0) await new Promise((done) => setImmediate(done));
      expect([way.sent.length, pending.length]).to.deep.equal([round + 1, 1]);
      pending.shift()?.();
    }
    expect(await Promise.all(all)).to.deep.equal(["0", "1", "2"]);
  });

  it("lets one who waits leave, and keeps the way busy until its command is done", async () => {
    let release = (): void => undefined;
    const way = new Scripted("way", true, async () => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return "1 ";
    });
    const session = new RpciSession({ first: way, logger: SILENT });
    const user = new AbortController();
    const first = value(session, GET, new Call({ signal: user.signal }));
    const impatient = value(session, GET, call(5));
    const last = value(session, ONCE);
    await rejects(impatient, "ERR_TIMEOUT");
    user.abort();
    await rejects(first, "ERR_ABORTED");
    expect(way.sent).to.have.length(1);
    release();
    while (way.sent.length < 2) await new Promise((done) => setImmediate(done));
    release();
    expect(await last).to.equal("");
    expect(way.sent).to.deep.equal(["info-get guestinfo.a", "log x"]);
  });

  it("repeats once what may be repeated", async () => {
    const way = new Scripted("way", true, (_, count) => (count === 0 ? broken(true) : "1 v"));
    const session = new RpciSession({ first: way, logger: SILENT });
    expect(await value(session, GET)).to.equal("v");
    way.behaviour = () => broken(true);
    way.sent.length = 0;
    await rejects(value(session, GET), "ERR_DISCONNECTED");
    expect(way.sent).to.have.length(2);
  });

  it("never repeats what the host may have carried out and must not do twice", async () => {
    const way = new Scripted("way", true, () => broken(true));
    const session = new RpciSession({ first: way, logger: SILENT });
    const error = await rejects(value(session, ONCE), "ERR_DISCONNECTED");
    expect(error.message).to.include("may have carried it out");
    expect(way.sent).to.have.length(1);
    way.behaviour = () => broken(false);
    way.sent.length = 0;
    await rejects(value(session, ONCE), "ERR_DISCONNECTED");
    expect(way.sent, "not carried out").to.have.length(2);
  });

  it("does not count a kept connection that the host had dropped", async () => {
    const way = new Scripted(
      "way",
      true,
      (_, count) => [broken(false, true), broken(false), "1 v"][count] ?? "1 v",
    );
    const session = new RpciSession({ first: way, logger: SILENT });
    expect(await value(session, GET)).to.equal("v");
    expect(way.sent).to.have.length(3);
  });

  it("takes the second way while nobody listens on the first, and looks again after 4 s, then 8 s", async () => {
    const vsock = new Scripted("vsock", true, () => "1 vsock");
    vsock.refusesToConnect = absent();
    const backdoor = new Scripted("backdoor", false, () => "1 backdoor");
    const warnings: string[] = [];
    let now = 0;
    const logger = { ...SILENT, warn: (message: string) => void warnings.push(message) };
    const session = new RpciSession({ first: vsock, second: async () => backdoor, logger, now: () => now });
    const prepared = async (at: number): Promise<number> => {
      now = at;
      await value(session, GET);
      return vsock.prepared;
    };
    expect(await prepared(0)).to.equal(1);
    expect(session.over).to.equal("backdoor");
    expect(await prepared(3_999)).to.equal(1);
    expect(await prepared(4_000)).to.equal(2);
    expect(await prepared(11_999)).to.equal(2);
    expect(await prepared(12_000)).to.equal(3);
    expect(warnings).to.have.length(3);
    vsock.refusesToConnect = undefined;
    expect(await prepared(28_000)).to.equal(4);
    expect(session.over).to.equal("vsock");
  });

  it("starts a way that worked before two more times at once", async () => {
    const vsock = new Scripted("vsock", true, () => "1 vsock");
    const backdoor = new Scripted("backdoor", false, () => "1 backdoor");
    const session = new RpciSession({ first: vsock, second: async () => backdoor, logger: SILENT });
    await value(session, GET);
    vsock.refusesToConnect = absent();
    expect(await value(session, GET)).to.equal("backdoor");
    expect(vsock.prepared).to.equal(1 + 3);
  });

  it("names the way and the failed one in a refusal, so that no downgrade is silent", async () => {
    const vsock = new Scripted("vsock", true, () => "1 ");
    vsock.refusesToConnect = absent();
    const backdoor = new Scripted("the backdoor", false, () => "0 Permission denied");
    const session = new RpciSession({ first: vsock, second: async () => backdoor, logger: SILENT });
    const error = await rejects(value(session, GET), "ERR_PERMISSION");
    expect(error.message).to.include("over the backdoor, since nobody listens");
  });

  describe("a command that needs privilege", () => {
    it("goes over a privileged way, or one where that is not to be told", async () => {
      for (const privileged of [true, undefined]) {
        const way = new Scripted("way", privileged, () => "1 v");
        expect(await value(new RpciSession({ first: way, logger: SILENT }), SECRET)).to.equal("v");
      }
    });

    it("is not sent over an unprivileged connection", async () => {
      const way = new Scripted("way", false, () => "1 v");
      const session = new RpciSession({ first: way, logger: SILENT });
      await rejects(value(session, SECRET), "ERR_PERMISSION");
      expect(way.sent).to.deep.equal([]);
    });

    it("is not sent over the second way", async () => {
      const vsock = new Scripted("vsock", true, () => "1 v");
      vsock.refusesToConnect = absent();
      const backdoor = new Scripted("backdoor", false, () => "1 v");
      const session = new RpciSession({ first: vsock, second: async () => backdoor, logger: SILENT });
      const error = await rejects(value(session, SECRET), "ERR_PERMISSION");
      expect(error.message).to.include("nothing was sent").and.include("nobody listens");
      const without = new RpciSession({ second: async () => backdoor, logger: SILENT });
      await rejects(value(without, SECRET), "ERR_PERMISSION");
      expect(backdoor.sent).to.deep.equal([]);
    });

    it("does not wait for the end of the first way's rest", async () => {
      const vsock = new Scripted("vsock", true, () => "1 v");
      vsock.refusesToConnect = absent();
      const session = new RpciSession({
        first: vsock,
        second: async () => new Scripted("backdoor", false, () => "1 b"),
        logger: SILENT,
      });
      expect(await value(session, GET)).to.equal("b");
      vsock.refusesToConnect = undefined;
      expect(await value(session, SECRET)).to.equal("v");
    });

    it("is every command, when the caller demands it", async () => {
      const way = new Scripted("way", false, () => "1 v");
      const session = new RpciSession({ first: way, logger: SILENT, requirePrivilege: true });
      await rejects(value(session, GET), "ERR_PERMISSION");
      expect(way.sent).to.deep.equal([]);
    });
  });

  it("tells both reasons when there is no way at all", async () => {
    const vsock = new Scripted("vsock", true, () => "1 ");
    vsock.refusesToConnect = absent();
    const { pvbusError } = await import("../../../src/index.js");
    const second = () => Promise.reject(pvbusError("ERR_UNAVAILABLE", "the port faults"));
    const error = await rejects(
      value(new RpciSession({ first: vsock, second, logger: SILENT }), GET),
      "ERR_UNAVAILABLE",
    );
    expect(error.message).to.equal("the port faults; and before that nobody listens");
  });

  it("closes its ways behind the command that is under way, and takes none after that", async () => {
    let release = (): void => undefined;
    const way = new Scripted("second", false, async () => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return "1 v";
    });
    const session = new RpciSession({ second: async () => way, logger: SILENT });
    const running = value(session, GET);
    while (way.sent.length === 0) await new Promise((done) => setImmediate(done));
    const waiting = rejects(value(session, GET), "ERR_DISCONNECTED");
    const closing = session.close();
    release();
    expect(await running).to.equal("v");
    await Promise.all([closing, waiting]);
    expect([way.sent.length, way.closed]).to.deep.equal([1, 1]);
    await rejects(value(session, GET), "ERR_DISCONNECTED");
    await session.close();
  });
});
