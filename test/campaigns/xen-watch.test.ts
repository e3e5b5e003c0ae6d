import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { XenProvider, type XenStore, XenStoreClient } from "../../providers/xen/index.js";
import { SocketTransport } from "../../providers/xen/transport/socket.js";
import { Call } from "../../src/base/flow/call.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { PvbusError } from "../../src/index.js";
import { budget, patience, type Random, random, repeat, report } from "../support/campaign.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import {
  type Daemon,
  startOxenstored,
  startXenstored,
  whyNoOxenstored,
  whyNoXenstored,
} from "../support/xen/daemons.js";
import { Replica } from "../support/xen/replica.js";
import { compiled, environmentOf } from "../support/xen/tools.js";

/*
 * Watches against the real tree: several replicas of our watches and one of the C library's beside them, while a writer
 * changes the tree and the daemon is restarted in the midst of it, without its data. When the writer rests, all are what the
 * C library finds when it walks the tree, and no watch has ended. PVBUS_COUNT counts restarts.
 */

const SECONDS = budget(2, 30);
const TOP = "/camp";
const TOPS = [TOP, `${TOP}/a`, `${TOP}/b/c`, "/"] as const;
/** Mutations between two rests: so many rests, the last one with a restart before it. */
const BURST = 300;
const BURSTS = 3;
const NAMES = ["a", "b", "c", "d", "e"] as const;
const DEPTH = 4;
const UNTOLD_MS = 30_000;

/** What a follower believes: values in hexadecimal digits by path. */
type Tree = ReadonlyMap<string, string>;

/** The C library's follower. */
class Watcher {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  }

  static async start(program: string, daemon: Daemon): Promise<Watcher> {
    const watcher = new Watcher(
      spawn(program, [TOP], { env: environmentOf(daemon), stdio: ["pipe", "pipe", "inherit"] }),
    );
    expect(await watcher.#line()).to.equal("ready");
    return watcher;
  }

  /** Returns the tree as it walks it, and as its watch told. */
  async rest(): Promise<{ readonly tree: Tree; readonly told: Tree }> {
    const tree = new Map<string, string>();
    const told = new Map<string, string>();
    this.#child.stdin?.write("rest\n");
    for (let line = await this.#line(); line !== "."; line = await this.#line()) {
      const [, kind, path = "", value = ""] = /^(.) (.*)=(.*)$/.exec(line) ?? [];
      (kind === "T" ? tree : told).set(path, value);
    }
    return { tree, told };
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, "close");
    this.#child.kill("SIGKILL");
    await closed;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("the C library's watcher ended");
    return value;
  }
}

function pathBy(chance: Random): string {
  const length = 1 + chance.below(DEPTH);
  return [TOP, ...Array.from({ length }, () => chance.pick(NAMES))].join("/");
}

/** Makes one change, alone or some of them in a transaction; what a restart breaks is no matter. */
async function change(xs: XenStoreClient, chance: Random): Promise<void> {
  const path = pathBy(chance);
  const value = Buffer.from(chance.bytes(chance.pick([0, 1, 8, 100])));
  const kind = chance.below(20);
  if (kind < 11) await xs.write(path, value);
  else if (kind < 13) await xs.mkdir(path);
  else if (kind < 15) await xs.rm(path);
  // Removed and made again at once, on the way to something else too.
  else if (kind < 17) await Promise.all([xs.rm(path), xs.write(`${path}/a/b`, value)]);
  else if (kind < 18) await Promise.all([xs.rm(path), xs.write(path, value)]);
  else if (kind < 19) await xs.write(TOP, value);
  else
    await xs.transaction(async (transaction) => {
      // oxenstored tells nobody of a removal whose node others made after the transaction had begun; what was read conflicts.
      await transaction.read(path);
      await transaction.rm(path);
      await transaction.write(`${path}/c`, value);
    });
}

/** Returns how many changes were made. */
async function burst(xs: XenStoreClient, chance: Random, count: number): Promise<number> {
  let left = count;
  let made = 0;
  const writer = async (): Promise<void> => {
    while (left-- > 0) {
      try {
        await change(xs, chance);
        made++;
      } catch (error) {
        // The C daemon answers an RM beside others with EINVAL once in ten thousand times; the change is not made then.
        const codes = ["ERR_DISCONNECTED", "ERR_UNAVAILABLE", "ERR_CONFLICT", "ERR_KEY_INVALID"];
        if (!PvbusError.is(error) || !codes.includes(error.code)) throw error;
      }
    }
  };
  await Promise.all([writer(), writer(), writer(), writer()]);
  return made;
}

/** What a replica of ours should have told of the tree. */
function below(tree: Tree, top: string): Map<string, string> {
  const isBelow = (path: string): boolean => path === top || path.startsWith(top === "/" ? TOP : `${top}/`);
  return new Map([...tree].filter(([path]) => isBelow(path)).sort());
}

function told({ values }: Replica): Map<string, string> {
  return new Map(
    [...values]
      .filter(([key]) => key === TOP || key.startsWith(`${TOP}/`))
      .map(([key, value]): [string, string] => [key, Buffer.from(value, "latin1").toString("hex")])
      .sort(),
  );
}

function equal(one: Tree, other: Tree): boolean {
  return one.size === other.size && [...one].every(([path, value]) => other.get(path) === value);
}

function campaign(title: string, why: string | undefined, start: () => Promise<Daemon>): void {
  describe(`XenStore watches and the real tree, on ${title}`, function () {
    this.timeout(patience(SECONDS));

    it("agree at every rest, through restarts of the daemon", async function () {
      if (why !== undefined) return pending(this, why);
      await using daemon = await start();
      const program = compiled(daemon.packages, join(ROOT, "test/support/xen/watcher.c"));
      if (program === undefined) return pending(this, "no C compiler");
      const chance = random();
      const provider = new XenProvider(nodeHost({ platform: "linux", env: {} }));
      const target = { channel: `unix:${daemon.path}` };
      const stores: XenStore[] = [];
      const replicas: Replica[] = [];
      await using xs = new XenStoreClient(new SocketTransport(daemon.path));
      let rests = 0;
      let mutations = 0;
      let watcher = await Watcher.start(program, daemon);
      try {
        for (const top of TOPS) {
          const store = (await provider.open(target, new Call())) as XenStore;
          stores.push(store);
          replicas.push(await Replica.of(store, top));
        }
        const rest = async (): Promise<void> => {
          const { tree, told: library } = await watcher.rest();
          expect(below(library, TOP)).to.deep.equal(below(tree, TOP));
          for (const [at, top] of TOPS.entries()) {
            const replica = replicas[at] as Replica;
            const wanted = below(tree, top);
            await replica
              .until(() => equal(told(replica), wanted), UNTOLD_MS)
              .catch((error: unknown) => {
                if (!equal(told(replica), wanted))
                  expect(told(replica), `${top}: ${error}`).to.deep.equal(wanted);
              });
          }
          rests++;
        };
        const restarts = await repeat(SECONDS, async () => {
          for (let round = 0; round < BURSTS; round++) {
            mutations += await burst(xs, chance, BURST);
            await rest();
          }
          const writing = burst(xs, chance, BURST);
          await new Promise((resolve) => setTimeout(resolve, chance.below(20)));
          await Promise.all([daemon.restart(), watcher.stop()]);
          mutations += await writing;
          watcher = await Watcher.start(program, daemon);
          mutations += await burst(xs, chance, 20);
          await rest();
        });
        report(title, {
          mutations,
          restarts,
          rests,
          "changes told": replicas.reduce((sum, replica) => sum + replica.told, 0),
        });
      } finally {
        await watcher.stop();
        for (const replica of replicas) await replica[Symbol.asyncDispose]();
        for (const store of stores) await store.close();
      }
      for (const replica of replicas) await replica.ended;
    });
  });
}

campaign("Debian's oxenstored", whyNoOxenstored(), startOxenstored);
campaign("Debian's C xenstored", whyNoXenstored(), startXenstored);
