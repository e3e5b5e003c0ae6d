import { expect } from "chai";
import { type Guest, LxdMachine, type Told, whyNoDaemon } from "../../support/lxd/machine.js";
import { pending } from "../../support/pending.js";

const BURSTS = 20;
const KEYS_OF_A_BURST = 50;

interface Seen {
  readonly state: Readonly<Record<string, string | null>>;
  readonly changes: number;
  readonly error: string | null;
}

/** Asks until the answer is as it should be. */
async function until<T>(ask: () => Promise<T>, fits: (found: T) => boolean, what: string): Promise<T> {
  const end = Date.now() + 60_000;
  for (;;) {
    const found = await ask();
    if (fits(found)) return found;
    if (Date.now() > end) expect.fail(`${what}: ${JSON.stringify(found).slice(0, 500)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Debian's daemons, unmodified, each with a container in which the provider runs. */
for (const product of ["incus", "lxd"] as const)
  describe(`LXD on the real ${product}`, function () {
    this.timeout(180_000);
    let machine: LxdMachine;
    let guest: Guest;
    let opened: Readonly<Record<string, unknown>>;
    const option = product === "incus" ? "security.guestapi" : "security.devlxd";
    const seen = async (prefix: string): Promise<Seen> => (await guest.ask("seen", prefix)) as Seen;
    const sees = (prefix: string, key: string, value: string | null): Promise<Seen> =>
      until(
        () => seen(prefix),
        ({ state }) => (state[key] ?? null) === value,
        `${key} in the watch`,
      );

    before(async function () {
      const why = whyNoDaemon(product);
      if (why !== undefined) return pending(this, why);
      machine = await LxdMachine.start(product);
      expect(machine.version).to.match(product === "incus" ? /^6\./ : /^5\.0\./);
      machine.set({
        "user.a": "blah",
        "user.b/c?d#e %41": "slash",
        "user.com.example.config": "given",
        "user.note": "grüß€",
      });
      guest = await machine.guest();
      opened = (await guest.ask("open")) as Record<string, unknown>;
    });
    after(() => machine?.[Symbol.asyncDispose]());

    it("is located on a container of a machine that is none of its own: never primary, no virtual machine", () => {
      const path = `/dev/${product}/sock is a socket`;
      expect(opened).to.include({ role: "guest-api", primary: false });
      expect(opened["busPrimary"]).not.to.equal("LXD");
      expect(opened["evidence"]).to.deep.include({ source: "path", detail: path });
      expect(opened["details"]).to.deep.equal({ product, instanceType: "container" });
    });

    it("reads, lists, tells facts and finds portable values and boot data", async () => {
      expect(await guest.ask("read", "user.a")).to.equal("blah");
      expect(await guest.ask("read", "user.b/c?d#e %41")).to.equal("slash");
      expect(await guest.ask("read", "user.absent")).to.equal(null);
      expect(await guest.ask("get", "com.example", "config")).to.equal("given");
      expect(await guest.ask("list", "user")).to.deep.equal({
        "user.a": "blah",
        "user.b/c?d#e %41": "slash",
        "user.com.example.config": "given",
        "user.note": "grüß€",
      });
      expect(await guest.ask("facts")).to.deep.include({ vmName: "c1" });
      expect(await guest.ask("read", "meta-data")).to.match(/local-hostname: c1/);
      const checks = (await guest.ask("diagnose")) as { works: boolean }[];
      expect(
        checks.every(({ works }) => works),
        JSON.stringify(checks),
      ).to.equal(true);
    });

    it("refuses what is the host's, and keys that no guest sees", async () => {
      expect((await guest.tell("write", "user.a")).code).to.equal("ERR_NOT_SUPPORTED");
      expect((await guest.tell("read", "limits.memory")).code).to.equal("ERR_KEY_INVALID");
      expect(machine.client("config", "get", "c1", "user.a").trim()).to.equal("blah");
    });

    it("tells the host that it is ready, where the daemon takes that", async () => {
      const signals = (await guest.ask("ready")) as { signal: string; sent: boolean; detail: string }[];
      const state = signals.find(({ signal }) => signal === "instance state");
      if (product === "lxd")
        expect(state)
          .to.include({ sent: false })
          .and.property("detail")
          .to.match(/too old/);
      else {
        expect(state).to.deep.equal({ signal: "instance state", sent: true, detail: "Ready" });
        expect(machine.client("list", "c1", "--format", "csv", "-c", "s").trim()).to.equal("READY");
      }
    });

    it("ends 1,000 settings in bursts with the right state in the watch", async () => {
      expect(await guest.ask("watch", "user.burst")).to.equal(null);
      const last: Record<string, string> = {};
      for (let burst = 0; burst < BURSTS; burst++) {
        const pairs: Record<string, string> = {};
        for (let at = 0; at < KEYS_OF_A_BURST; at++)
          pairs[`user.burst.k${(burst * 7 + at) % 60}`] =
            burst % 2 === 1 && at % 10 === 0 ? "" : `${burst}-${at}`;
        machine.set(pairs);
        Object.assign(last, pairs);
      }
      const expected = Object.fromEntries(
        Object.entries(last).map(([key, value]) => [key, value === "" ? null : value]),
      );
      const { changes, error } = await until(
        () => seen("user.burst"),
        ({ state }) => Object.entries(expected).every(([key, value]) => (state[key] ?? null) === value),
        "the state behind the bursts",
      );
      expect(error).to.equal(null);
      expect(changes).to.be.greaterThan(60);
    });

    it("keeps its watch while the API is off and on again, and says why reads fail", async () => {
      expect(await guest.ask("watch", "user.off")).to.equal(null);
      machine.enable(false);
      const refused = (await until(
        () => guest.tell("read", "user.a"),
        ({ code }: Told) => code !== undefined,
        "a read while it is off",
      )) as Told;
      expect(refused.code).to.equal("ERR_UNAVAILABLE");
      expect(refused.message).to.include(option);
      machine.set({ "user.off.while": "1" });
      machine.enable(true);
      machine.set({ "user.off.after": "2" });
      await sees("user.off", "user.off.while", "1");
      await sees("user.off", "user.off.after", "2");
      expect(await guest.ask("read", "user.a")).to.equal("blah");
    });

    it("keeps its watch and its reads through a kill of the daemon", async () => {
      expect(await guest.ask("watch", "user.kill")).to.equal(null);
      machine.kill();
      const reading = guest.ask("read", "user.a");
      machine.restart();
      expect(await reading).to.equal("blah");
      machine.set({ "user.kill.after": "1" });
      expect((await sees("user.kill", "user.kill.after", "1")).error).to.equal(null);
    });

    it("is up to date when its instance was paused", async () => {
      expect(await guest.ask("watch", "user.pause")).to.equal(null);
      machine.client("pause", "c1");
      for (let at = 0; at < 5; at++) machine.set({ "user.pause.now": `${at}` });
      machine.client("start", "c1");
      expect((await sees("user.pause", "user.pause.now", "4")).error).to.equal(null);
    });

    it("is for the container's root alone", async () => {
      const other = await machine.guest(1000);
      await other.ask("open");
      const { code, message } = await other.tell("read", "user.a");
      expect(code).to.equal("ERR_PERMISSION");
      expect(message).to.include("only root of this container").and.include("uid 1000");
      await other.ask("end");
    });
  });
