import { expect } from "chai";
import { budget, patience, random, repeat, report } from "../../../support/campaign.js";
import { PROGRAM } from "../../../support/command-line.js";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";
import { start } from "../../../support/processes.js";

const SECONDS = budget(2, 90);
const FEWEST = 6;
const GUESTS = ["a", "b", "c"];
const KEYS = 12;
/** Requests that one guest has under way at a time. */
const DEPTH = 6;
const LARGE_BYTES = 40_000;

/** What one key may hold: what was acknowledged last, and what was sent since. Undefined is a removed key. */
type Possible = (string | undefined)[];

const chance = random();

/** Changes one guest's keys until its host is gone, and notes what was sent and acknowledged. */
async function work(
  guest: TestGuest,
  known: Map<string, Possible>,
  onAcknowledged: () => void,
): Promise<void> {
  const run = async (key: string): Promise<void> => {
    for (;;) {
      const isDelete = chance.below(6) === 0;
      const value = isDelete
        ? undefined
        : `${key}:${chance.below(2 ** 32)}:${"x".repeat(chance.below(LARGE_BYTES))}`;
      const possible = known.get(key) as Possible;
      possible.push(value);
      const answer = await guest.ask(
        value === undefined ? { command: "DELETE", key } : { command: "PUT", key, value: Buffer.from(value) },
      );
      if (answer === undefined) return;
      expect(answer.kind).to.equal("success");
      // Changes of one key go one after the other: what was possible before is not any more.
      known.set(key, [value]);
      onAcknowledged();
    }
  };
  const keys = [...known.keys()].sort(() => chance.below(3) - 1);
  await Promise.all(keys.slice(0, DEPTH).map(run));
}

describe("KVM host when it is killed", function () {
  this.timeout(patience(SECONDS));

  it("keeps every acknowledged change of every guest through kills at any moment", async () => {
    await using folder = new HostFolder();
    const args = ["host", "serve", "--state", folder.state];
    for (const name of GUESTS) args.push("--guest", `${name}=unix:${folder.socket(name)}`);
    const known = new Map(
      GUESTS.map((name) => [
        name,
        new Map(Array.from({ length: KEYS }, (_, i): [string, Possible] => [`key-${i}`, [undefined]])),
      ]),
    );
    let acknowledged = 0;
    let unfinished = 0;
    const step = async (kill: number): Promise<void> => {
      const { child, done } = start(process.execPath, [PROGRAM, ...args]);
      await new Promise<void>((resolve, reject) => {
        child.stderr?.on("data", (text: string) => text.includes('"serving"') && resolve());
        void done.then(({ stderr }) => reject(new Error(stderr)));
      });
      const guests = await Promise.all(
        GUESTS.map(async (name) => [name, await TestGuest.connect(folder.socket(name))] as const),
      );
      for (const [name, guest] of guests) {
        for (const [key, possible] of known.get(name) as Map<string, Possible>) {
          const found = await guest.get(key);
          const where = `after kill ${kill}, guest ${name}, ${key}: ${found?.slice(0, 40)}`;
          expect(possible.includes(found), where).to.equal(true);
          if (possible.length > 1) unfinished++;
          known.get(name)?.set(key, [found]);
        }
      }
      let left = 1 + chance.below(59);
      const working = guests.map(([name, guest]) =>
        work(guest, known.get(name) as Map<string, Possible>, () => {
          acknowledged++;
          if (--left === 0) child.kill("SIGKILL");
        }),
      );
      await Promise.all(working);
      expect((await done).signal).to.equal("SIGKILL");
    };
    // What the last kill left is not looked at any more.
    const kills = (await repeat(SECONDS, step, FEWEST)) - 1;
    report("kills of a host", { kills, "changes acknowledged": acknowledged, "changes hit": unfinished });
    expect(acknowledged, "acknowledged changes").to.be.greaterThan(kills * 10);
    expect(unfinished, "changes that a kill hit").to.be.greaterThan(kills);
  });
});
