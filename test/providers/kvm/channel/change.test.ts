import { join } from "node:path";
import { expect } from "chai";
import { ChannelClient } from "../../../../providers/kvm/channel/client.js";
import type { Endpoint } from "../../../../providers/kvm/channel/link.js";
import { MetadataChannel } from "../../../../providers/kvm/channel/metadata.js";
import { openUnix } from "../../../../providers/kvm/channel/unix-link.js";
import type { KvmHostSettings } from "../../../../providers/testing.js";
import { hostFiles } from "../../../../src/base/host/files.js";
import { Call, PvbusError } from "../../../../src/index.js";
import { KvmMachine } from "../../../support/kvm-store.js";

const LIVE = hostFiles(undefined);
const OPTIONS = { maxLineBytes: 64 * 1024, connectTimeoutMs: 30_000, idleMs: 60_000 };
const call = (): Call => new Call({ timeoutMs: 60_000 });

/** What happens to the first change that is sent. */
type Loss = "request lost" | "answer lost" | "line reset before" | "line reset after";

interface Scenario {
  readonly change: "PUT" | "DELETE";
  readonly loss: Loss;
  /** What the administrator does meanwhile; undefined for nothing. */
  readonly meanwhile?: "writes" | "removes" | "writes the same";
  /** What comes of it: the change is done, or refused. */
  readonly outcome: "done" | "ERR_CONFLICT";
  /** How often the host gets it. */
  readonly arrivals: number;
}

const SCENARIOS: readonly Scenario[] = [
  { change: "PUT", loss: "request lost", outcome: "done", arrivals: 1 },
  { change: "PUT", loss: "request lost", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 0 },
  { change: "PUT", loss: "request lost", meanwhile: "removes", outcome: "ERR_CONFLICT", arrivals: 0 },
  { change: "PUT", loss: "request lost", meanwhile: "writes the same", outcome: "done", arrivals: 0 },
  { change: "PUT", loss: "answer lost", outcome: "done", arrivals: 1 },
  { change: "PUT", loss: "answer lost", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 1 },
  { change: "PUT", loss: "answer lost", meanwhile: "removes", outcome: "ERR_CONFLICT", arrivals: 1 },
  { change: "PUT", loss: "line reset before", outcome: "done", arrivals: 1 },
  { change: "PUT", loss: "line reset before", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 0 },
  { change: "PUT", loss: "line reset after", outcome: "done", arrivals: 1 },
  { change: "PUT", loss: "line reset after", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 1 },
  { change: "DELETE", loss: "request lost", outcome: "done", arrivals: 1 },
  { change: "DELETE", loss: "request lost", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 0 },
  { change: "DELETE", loss: "request lost", meanwhile: "removes", outcome: "done", arrivals: 0 },
  { change: "DELETE", loss: "answer lost", outcome: "done", arrivals: 1 },
  { change: "DELETE", loss: "answer lost", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 1 },
  { change: "DELETE", loss: "line reset before", outcome: "done", arrivals: 1 },
  { change: "DELETE", loss: "line reset before", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 0 },
  { change: "DELETE", loss: "line reset after", meanwhile: "writes", outcome: "ERR_CONFLICT", arrivals: 1 },
];

const BEFORE = "before";
const WANTED = "wanted";
const THEIRS = "administrator";

/** A shared line to a simulated host on which one change meets with a loss. */
class TroubledLine implements AsyncDisposable {
  readonly machine: KvmMachine;
  readonly channel: MetadataChannel;
  /** Words of the frames that the guest wrote. */
  readonly written: string[] = [];
  #loss: { readonly kind: Loss; readonly word: string; readonly then: () => void } | undefined;
  #isDeaf = false;

  private constructor(machine: KvmMachine) {
    this.machine = machine;
    const endpoint = { name: "unix:test", isShared: true, open: this.#open };
    const client = new ChannelClient(endpoint, OPTIONS);
    this.channel = new MetadataChannel(client, OPTIONS.maxLineBytes);
  }

  static async to(settings: KvmHostSettings): Promise<TroubledLine> {
    return new TroubledLine(await KvmMachine.start(settings));
  }

  /** Has the next such request meet with a loss, and calls `then` when it did. */
  lose(kind: Loss, word: string, then: () => void): void {
    this.#loss = { kind, word, then };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.channel.client.close();
    await this.machine.end();
  }

  readonly #open: Endpoint["open"] = async (events, during) => {
    const { host, sysroot } = this.machine;
    const link = await openUnix(
      "unix:test",
      () => LIVE.holdSocket(join(sysroot, "meta.sock")),
      {
        ...events,
        onData: (data) => {
          if (!this.#isDeaf) events.onData(data);
          this.#isDeaf = false;
        },
      },
      during,
    );
    const write: typeof link.write = async (data, within) => {
      const word = Buffer.from(data).toString("latin1").split(" ")[4]?.trim() ?? "";
      this.written.push(word);
      const loss = word === this.#loss?.word ? this.#loss : undefined;
      if (loss === undefined) return link.write(data, within);
      this.#loss = undefined;
      if (loss.kind === "line reset before") {
        loss.then();
        host.disconnect();
        return;
      }
      if (loss.kind === "request lost") return loss.then();
      this.#isDeaf = true;
      await link.write(data, within);
      while (!host.commands.includes(word)) await new Promise((resolve) => setImmediate(resolve));
      loss.then();
      if (loss.kind === "line reset after") host.disconnect();
    };
    return { write, ref: () => link.ref(), unref: () => link.unref(), close: () => link.close() };
  };
}

async function play({ change, loss, meanwhile }: Scenario, settings: KvmHostSettings) {
  await using line = await TroubledLine.to(settings);
  const { host } = line.machine;
  host.set("k", BEFORE);
  await line.channel.get("other", call());
  line.lose(loss, change, () => {
    if (meanwhile === "removes") host.delete("k");
    else if (meanwhile !== undefined) host.set("k", meanwhile === "writes" ? THEIRS : WANTED);
  });
  let outcome = "done";
  try {
    if (change === "PUT") await line.channel.put("k", Buffer.from(WANTED), call());
    else expect(await line.channel.delete("k", call())).to.equal(true);
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    outcome = error.code;
    expect(error.message).to.include("somebody else").and.include("read it");
  }
  const arrivals = host.commands.filter((word) => word === change).length;
  return { outcome, arrivals, value: host.get("k")?.toString() };
}

/** What stands there in the end. */
function result({ change, meanwhile, outcome }: Scenario): string | undefined {
  if (outcome === "done") return change === "PUT" ? WANTED : undefined;
  return meanwhile === "writes" ? THEIRS : undefined;
}

describe("a change on a shared line", () => {
  for (const [kind, dialect] of [
    ["SmartOS' own host", "smartos"],
    ["a host with extensions, without sessions", "pvbus"],
  ] as const) {
    describe(`to ${kind}`, () => {
      let played: Awaited<ReturnType<typeof play>>[];
      // Each waits a second for its answer: together.
      before(async () => {
        played = await Promise.all(SCENARIOS.map((each) => play(each, { dialect })));
      });

      for (const [at, scenario] of SCENARIOS.entries()) {
        const { change, loss, meanwhile, outcome, arrivals } = scenario;
        const administrator = meanwhile === undefined ? "" : `, the administrator ${meanwhile} meanwhile`;
        it(`${change}, ${loss}${administrator}: ${outcome}`, () => {
          expect(played[at]).to.deep.equal({ outcome, arrivals, value: result(scenario) });
        });
      }
    });
  }

  it("costs one GET more where a host would do it twice; to remove a key it was read anyway", async () => {
    await using line = await TroubledLine.to({ dialect: "smartos" });
    await line.channel.put("k", Buffer.from(WANTED), call());
    await line.channel.delete("k", call());
    expect(line.written.filter((word) => word !== "")).to.deep.equal(["CAPS", "GET", "PUT", "GET", "DELETE"]);
  });

  it("is made where what stands there cannot be read: it is never sent again then", async () => {
    await using line = await TroubledLine.to({ dialect: "smartos" });
    line.machine.host.set("k", "x".repeat(OPTIONS.maxLineBytes));
    await line.channel.put("k", Buffer.from(WANTED), call());
    expect(line.machine.host.get("k")?.toString()).to.equal(WANTED);
    line.machine.host.set("k", "x".repeat(OPTIONS.maxLineBytes));
    line.lose("request lost", "PUT", () => undefined);
    const short = new Call({ timeoutMs: 1_500 });
    const error = await line.channel.put("k", Buffer.from(WANTED), short).catch((reason) => reason);
    expect(PvbusError.is(error) && error.code).to.equal("ERR_TIMEOUT");
    expect(line.written.filter((word) => word === "PUT")).to.have.length(2);
  });

  it("is refused with the host's reason, though that came late", async () => {
    await using line = await TroubledLine.to({ dialect: "smartos" });
    line.machine.host.set("sdc:x", BEFORE);
    line.lose("answer lost", "PUT", () => undefined);
    const error = await line.channel.put("sdc:x", Buffer.from(WANTED), call()).catch((reason) => reason);
    expect(PvbusError.is(error) && error.code).to.equal("ERR_READ_ONLY");
  });
});
