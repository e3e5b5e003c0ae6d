import { expect } from "chai";
import { XenStoreSimulator } from "../../../../providers/testing.js";
import { type Access, XenStoreClient, XenStoreRefusal } from "../../../../providers/xen/index.js";
import { SocketTransport } from "../../../../providers/xen/transport/socket.js";
import { PvbusError } from "../../../../src/index.js";
import { pending } from "../../../support/pending.js";
import { type CDaemon, startXenstored, whyNoXenstored } from "../../../support/xen/daemons.js";

const GUEST = 7;
const STEPS = 3000;
const SOON = { timeoutMs: 10_000 };

/** Repeatable random numbers. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

type Step = (xs: Side) => Promise<unknown>;

/** One daemon, as its guest and as dom0 see it. */
interface Side {
  readonly guest: XenStoreClient;
  readonly host: XenStoreClient;
}

/** What a step came to, in words that both daemons share. */
async function outcome(step: Promise<unknown>): Promise<unknown> {
  try {
    const value = await step;
    if (Buffer.isBuffer(value)) return value.toString("latin1");
    return Array.isArray(value) && typeof value[0] === "string" ? [...value].sort() : value;
  } catch (error) {
    if (PvbusError.is(error)) return error.cause instanceof XenStoreRefusal ? error.cause.code : error.code;
    throw error;
  }
}

const NAMES = ["a", "b", "c"];
const ACCESS: readonly Access[] = ["none", "read", "write", "both"];

function randomStep(random: (below: number) => number): { readonly text: string; readonly run: Step } {
  const pick = <T>(of: readonly T[]): T => of[random(of.length)] as T;
  const below = (top: string): string =>
    [top, ...Array.from({ length: random(4) }, () => pick(NAMES))].join("/");
  const own = below("data");
  const path = pick([
    own,
    own,
    own,
    below(`/local/domain/${GUEST}/data`),
    "name",
    "x",
    "/local/domain/9/a",
    below("/tool"),
  ]);
  const value = "v".repeat(random(5));
  const who = random(4) === 0 ? "host" : "guest";
  const at = who === "host" && !path.startsWith("/") ? `/local/domain/${GUEST}/${path}` : path;
  const permissions = [
    { domain: pick([GUEST, GUEST, 0]), access: pick(ACCESS) },
    ...(random(2) === 0 ? [{ domain: pick([GUEST, 8]), access: pick(ACCESS) }] : []),
  ];
  // The node that every test needs stays, and stays the guest's.
  const spoils = /^(?:name|\/local\/domain\/7)(?:\/data)?$|^data$|^\/tool$/.test(at);
  const steps: readonly (readonly [string, Step])[] = [
    ["read", (xs) => xs[who].read(at, SOON)],
    ["directory", (xs) => xs[who].directory(at, SOON)],
    ["permissions", (xs) => xs[who].permissions(at, SOON)],
    ["write", (xs) => xs[who].write(at, value, SOON)],
    ["write", (xs) => xs[who].write(at, value, SOON)],
    ["mkdir", (xs) => xs[who].mkdir(at, SOON)],
    ["rm", (xs) => (spoils ? Promise.resolve() : xs[who].rm(at, SOON))],
    [
      `set ${JSON.stringify(permissions)}`,
      (xs) => (spoils ? Promise.resolve() : xs[who].setPermissions(at, permissions, SOON)),
    ],
    [
      "transaction with a change from outside",
      async ({ guest, host }) => {
        const transaction = await guest.begin(SOON);
        const seen = await outcome(transaction.read(path, SOON));
        const wrote = await outcome(transaction.write(own, value, SOON));
        if (random(2) === 0) await host.write(`/local/domain/${GUEST}/data/elsewhere`, "1", SOON);
        else await host.write(`/local/domain/${GUEST}/${own}`, "from the host", SOON);
        return [seen, wrote, await outcome(transaction.commit(SOON))];
      },
    ],
  ];
  const [what, run] = pick(steps);
  return { text: `${who}: ${what} ${at}`, run };
}

describe("XenStore simulator beside Debian's C xenstored", function () {
  this.timeout(60_000);
  let daemon: CDaemon;
  let simulator: XenStoreSimulator;

  let sides: readonly [Side, Side];

  before(async function () {
    const why = whyNoXenstored();
    if (why !== undefined) return pending(this, why);
    daemon = await startXenstored();
    simulator = await XenStoreSimulator.listen();
    simulator.createDomain(GUEST, { name: `guest-${GUEST}` });
    simulator.write("/tool", "");
    simulator.setPermissions("/tool", "n0");
    simulator.write("/tool/xenstored", "");
    const client = (path: string): XenStoreClient => new XenStoreClient(new SocketTransport(path));
    sides = [
      { guest: client(await daemon.guest(GUEST)), host: client(daemon.path) },
      { guest: client(await simulator.listenFor(GUEST)), host: client(simulator.path) },
    ];
  });
  after(async () => {
    for (const { guest, host } of sides ?? []) await Promise.all([guest.close(), host.close()]);
    await simulator?.close();
    await daemon?.stop();
  });

  it(`answers ${STEPS} random requests of a guest and of dom0 as the real one`, async () => {
    const differences: string[] = [];
    for (let step = 0; step < STEPS; step++) {
      // The same dice for both.
      const [real, simulated] = await Promise.all(
        sides.map((side) => outcome(randomStep(randomFrom(step * 7919)).run(side))),
      );
      const { text } = randomStep(randomFrom(step * 7919));
      if (JSON.stringify(real) !== JSON.stringify(simulated))
        differences.push(`${step} ${text}: ${JSON.stringify(real)}, simulated ${JSON.stringify(simulated)}`);
    }
    expect(differences.slice(0, 20)).to.deep.equal([]);
  });

  it("fires the watches of a guest as the real one", async () => {
    const abort = new AbortController();
    const following: Promise<void>[] = [];
    const followers = await Promise.all(
      sides.map(async (side) => {
        const seen = new Set<string>();
        for (const top of ["data", "data/a/b", `/local/domain/${GUEST}/data/c`]) {
          const watch = side.guest.watch(top, { signal: abort.signal });
          await watch.next();
          const follow = async (): Promise<void> => {
            for await (const { path } of watch) seen.add(`${top}: ${path}`);
          };
          following.push(follow());
        }
        return { side, seen };
      }),
    );
    const differences: string[] = [];
    for (let step = 0; step < 1000; step++) {
      const dice = (STEPS + step) * 7919;
      const [real, simulated] = await Promise.all(
        followers.map(async ({ side, seen }) => {
          await outcome(randomStep(randomFrom(dice)).run(side));
          // Whatever fired comes before a later answer.
          await side.guest.read("domid", SOON);
          await new Promise((resolve) => setImmediate(resolve));
          const paths = [...seen].sort();
          seen.clear();
          return paths;
        }),
      );
      if (JSON.stringify(real) !== JSON.stringify(simulated))
        differences.push(
          `${step} ${randomStep(randomFrom(dice)).text}: ${JSON.stringify(real)}, simulated ${JSON.stringify(simulated)}`,
        );
    }
    abort.abort();
    await Promise.all(following);
    expect(differences.slice(0, 20)).to.deep.equal([]);
  });
});
