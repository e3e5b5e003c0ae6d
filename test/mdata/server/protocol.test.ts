import { expect } from "chai";
import { openAdministration } from "../../../providers/kvm/host/index.js";
import { decodeAnswer, decodeCapabilities } from "../../../src/mdata/answer.js";
import { decodeFrame, encodeFrame, type Frame } from "../../../src/mdata/frame.js";
import { encodeRequest } from "../../../src/mdata/request.js";
import { turn } from "../../support/descriptors.js";
import { HostFolder, TestGuest } from "../../support/kvm-guest.js";
import { ANSWER_VECTORS, REQUEST_VECTORS } from "../vectors.js";

const idOf = (line: string): string => line.split(" ")[3] as string;
/** Where ours goes further than the reference server: watches, and values that are empty. */
const OURS = ["94398520", "aea80e16"];
/** Its keys come in the order of their making, ours sorted. */
const LISTING = "3c9f90c9";

async function withKeys(keys: Readonly<Record<string, string>>, work: (guest: TestGuest) => Promise<void>) {
  await using folder = new HostFolder();
  await folder.serve(["web-1"]);
  await using administration = await openAdministration(folder.state);
  for (const [key, value] of Object.entries(keys)) await administration.set("web-1", key, Buffer.from(value));
  await using guest = await TestGuest.connect(folder.socket("web-1"));
  await work(guest);
}

describe("KVM host's protocol", () => {
  it("answers a change that is sent again as before, within one session, and does it once", async () => {
    const session = "0123456789abcdef".repeat(2);
    const begin = { command: "SESSION", session, boot: undefined, revision: 0 } as const;
    const put = (value: string): Buffer =>
      encodeRequest("0000abcd", { command: "PUT", key: "k", value: Buffer.from(value) });
    await withKeys({}, async (guest) => {
      const told = await guest.ask(begin);
      expect(told?.kind === "success" && told.value.toString()).to.match(/^[0-9a-f]{32} 0$/);
      const answer = await guest.say(put("guest"));
      expect(answer).to.include("SUCCESS");
      expect(await guest.put("k", "other")).to.equal("OK");
      expect(await guest.say(put("guest"))).to.equal(answer);
      expect(await guest.get("k")).to.equal("other");
      // The id of something else: a machine that was loaded goes on where it was saved.
      await guest.say(put("new"));
      expect(await guest.get("k")).to.equal("new");
      expect(await guest.put("k", "other")).to.equal("OK");
      // More changes than are remembered cost no more, and the same session goes on.
      await Promise.all(Array.from({ length: 1100 }, (_, i) => guest.put("j", `${i}`)));
      await guest.ask(begin);
      await guest.say(put("late"));
      await guest.put("k", "other");
      await guest.say(put("late"));
      expect(await guest.get("k")).to.equal("other");
      // Another client, and one that has no session.
      await guest.ask({ ...begin, session: session.replace("0", "1") });
      await guest.say(put("late"));
      expect(await guest.get("k")).to.equal("late");
      for (const line of ["\n", "NEGOTIATE V2\n"]) {
        await guest.put("k", "other");
        await guest.say(line);
        await guest.say(put("late"));
        expect(await guest.get("k")).to.equal("late");
      }
      const boot = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";
      const right = [`${session} ${boot} 7`, `${session} ${session} 0`, `${session} - ${"9".repeat(15)}`];
      for (const payload of right.map((each) => Buffer.from(each).toString("base64"))) {
        const line = await guest.say(encodeFrame({ id: "0000abcf", word: "SESSION", payload }));
        expect(decodeAnswer(decodeFrame(Buffer.from(line ?? "")) as Frame)?.kind).to.equal("success");
      }
      const wrong = [
        ...[
          `${session} - -1`,
          "short - 0",
          `${session} 0`,
          `${session} - ${"9".repeat(16)}`,
          `${session}  0`,
        ],
        ...[boot.slice(1), `${boot}0`, boot.toUpperCase(), "abcdef01", `${session}00`, "-".repeat(36)].map(
          (each) => `${session} ${each} 0`,
        ),
      ];
      for (const payload of wrong.map((each) => Buffer.from(each).toString("base64"))) {
        const line = await guest.say(encodeFrame({ id: "0000abce", word: "SESSION", payload }));
        expect(decodeAnswer(decodeFrame(Buffer.from(line ?? "")) as Frame)?.kind).to.equal("failure");
      }
    });
  });

  it("answers recorded requests with the bytes that were recorded", async () => {
    const recorded = new Map(ANSWER_VECTORS.map(({ line }) => [idOf(line), line]));
    const keys = { hostname: "guest1", empty: "", dots: ".a\n..b\nc", utf8: "grüße", "sdc:uuid": "x" };
    await withKeys(keys, async (guest) => {
      expect(await guest.say("NEGOTIATE V2\n")).to.equal("V2_OK");
      let compared = 0;
      for (const { line } of REQUEST_VECTORS) {
        const answer = await guest.say(`${line}\n`);
        expect(answer?.split(" ")[3]).to.equal(idOf(line));
        const expected = recorded.get(idOf(line));
        if (expected === undefined || [...OURS, LISTING].includes(idOf(line))) continue;
        expect(answer).to.equal(expected);
        compared++;
      }
      expect(compared).to.be.greaterThan(7);
    });
  });

  it("answers a GET that is sent again with what is there now, whoever changed it", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web-1"]);
    await using administration = await openAdministration(folder.state);
    await using guest = await TestGuest.connect(folder.socket("web-1"));
    await using other = await TestGuest.connect(folder.socket("web-1"));
    const long = "x".repeat(5_000);
    const steps: readonly (readonly [value: string | undefined, change: () => Promise<unknown>])[] = [
      [undefined, async () => undefined],
      ["one", () => administration.set("web-1", "k", Buffer.from("one"))],
      ["two", () => other.put("k", "two")],
      ["two", () => other.put("j", "of another key")],
      [long, () => other.put("k", long)],
      ["", () => guest.put("k", "")],
      [undefined, () => guest.ask({ command: "DELETE", key: "k" })],
      ["three", () => administration.set("web-1", "k", Buffer.from("three"))],
      [undefined, () => administration.delete("web-1", "k")],
    ];
    const same = encodeRequest("0000abcd", { command: "GET", key: "k" });
    const valueIn = (line: string | undefined): string | undefined => {
      expect(idOf(line ?? "")).to.equal("0000abcd");
      const answer = decodeAnswer(decodeFrame(Buffer.from(line ?? "")) as Frame);
      return answer?.kind === "success" ? answer.value.toString() : undefined;
    };
    for (const [value, change] of steps) {
      await change();
      // Byte for byte the same one, and under other ids.
      for (let time = 0; time < 3; time++) {
        expect(valueIn(await guest.say(same))).to.equal(value);
        expect(await guest.get("k")).to.equal(value);
        expect(valueIn(await guest.say(same))).to.equal(value);
        expect(valueIn(await guest.say(same))).to.equal(value);
      }
      expect(await guest.say("NEGOTIATE V2\n")).to.equal("V2_OK");
      expect(valueIn(await guest.say(same))).to.equal(value);
    }
  });

  it("takes a GET that is sent again for the end of the line that it ends, and one with other bytes for what it is", async () => {
    await withKeys({ k: "one", j: "other" }, async (guest) => {
      const get = (key: string): Buffer => encodeRequest("0000abcd", { command: "GET", key });
      const [same, near] = [get("k"), get("j")];
      const answer = await guest.say(same);
      expect(await guest.say(same)).to.equal(answer);
      expect(await guest.say(near)).not.to.equal(answer);
      expect(await guest.say(same)).to.equal(answer);
      const broken = Buffer.from(same);
      broken[same.length - 2] = 0x41;
      guest.socket.write(broken);
      expect(await guest.say(same)).to.equal(answer);
      guest.socket.write("GET k");
      // The beginning is read by itself.
      for (let turns = 0; turns < 4; turns++) await turn();
      expect(await guest.say(same)).to.equal("NOTFOUND");
      expect(await guest.say(same)).to.equal(answer);
    });
  });

  it("serves version 1: reading and listing, dots doubled", async () => {
    await withKeys({ dots: ".a\n..b\nc", empty: "", "sdc:uuid": "7" }, async (guest) => {
      const block = async (request: string): Promise<string[]> => {
        const lines = [await guest.say(request)];
        while (lines.at(-1) !== "." && lines[0] === "SUCCESS") lines.push(await guest.line());
        return lines as string[];
      };
      expect(await block("GET dots\n")).to.deep.equal(["SUCCESS", "..a", "...b", "c", "."]);
      expect(await block("GET empty\r\n")).to.deep.equal(["SUCCESS", "", "."]);
      expect(await block("GET sdc:uuid\n")).to.deep.equal(["SUCCESS", "7", "."]);
      expect(await block("GET nope\n")).to.deep.equal(["NOTFOUND"]);
      expect(await block("KEYS\n")).to.deep.equal(["SUCCESS", "dots", "empty", "."]);
      expect(await block("\n")).to.deep.equal(["invalid command"]);
      expect(await block("GET\n")).to.deep.equal(["invalid command"]);
      expect(await block("NEGOTIATE\n")).to.deep.equal(["invalid command"]);
      expect(await block("NEGOTIATE V3\n")).to.deep.equal(["FAILURE"]);
      expect(await block("PUT a b\n")).to.deep.equal(["FAILURE"]);
      expect(await block("constructor\n")).to.deep.equal(["FAILURE"]);
    });
  });

  it("says nothing to frames that are broken, and serves the next one", async () => {
    await withKeys({ hostname: "guest1" }, async (guest) => {
      for (const broken of [
        "V2 25 1AB652AA 70d3da1f GET aG9zdG5hbWU=",
        "V2 24 1ab652aa 70d3da1f GET aG9zdG5hbWU=",
        "V2 25 00000000 70d3da1f GET aG9zdG5hbWU=",
        "V2 25 1ab652aa 70d3da1f PUT aG9zdG5hbWU=",
        "V2",
        "V2 ",
        `V2 ${"9".repeat(400)} 1ab652aa 70d3da1f GET`,
      ])
        guest.socket.write(`${broken}\n`);
      const line = "V2 25 1ab652aa 70d3da1f GET aG9zdG5hbWU=";
      expect(await guest.say(`${line}\n`)).to.equal("V2 25 9e1d8d9e 70d3da1f SUCCESS Z3Vlc3Qx");
      // The same, cut into bytes, with the line end of a terminal.
      for (const char of `${line}\r\n`) guest.socket.write(char);
      expect(await guest.line()).to.equal("V2 25 9e1d8d9e 70d3da1f SUCCESS Z3Vlc3Qx");
    });
  });

  it("does not answer its own words that a terminal sends back: that would never end", async () => {
    await withKeys({ hostname: "guest1" }, async (guest) => {
      // A guest whose terminal echoes, as it does until somebody sets it up.
      let echoed = 0;
      guest.socket.on("data", (text: string) => {
        echoed += text.length;
        guest.socket.write(text.replaceAll("\n", "\r\n"), "latin1");
      });
      guest.socket.write("login:\n\nGET hostname\nGET nope\nKEYS\nNEGOTIATE V2\n");
      guest.socket.write("V2 25 1ab652aa 70d3da1f GET aG9zdG5hbWU=\nV2 21 67666d76 01eaf614 GET bm9wZQ==\n");
      await guest.ask({ command: "WATCH", prefix: "" });
      await guest.put("a", "1");
      for (let round = 0; round < 5; round++) expect(await guest.get("a")).to.equal("1");
      expect(echoed, "bytes to and fro").to.be.lessThan(2_000);
    });
  });

  it("keeps any bytes and empty values, and tells so", async () => {
    await withKeys({}, async (guest) => {
      const bytes = Buffer.from([0, 0xff, 0x0a, 0xc3, 0x28, 0x2e]);
      expect(await guest.put("blob", bytes)).to.equal("OK");
      expect(await guest.put("empty", "")).to.equal("OK");
      const answer = await guest.ask({ command: "GET", key: "blob" });
      expect(answer?.kind === "success" && Buffer.from(answer.value)).to.deep.equal(bytes);
      expect(await guest.get("empty")).to.equal("");
      const caps = await guest.ask({ command: "CAPS" });
      const told = caps?.kind === "success" ? decodeCapabilities(caps.value) : undefined;
      expect(told).to.deep.include({ server: "pvbus", binary: true, emptyValues: true, maxKey: 512 });
      expect(told?.commands).to.include.members(["GET", "PUT", "DELETE", "KEYS", "WATCH", "UNWATCH"]);
    });
  });

  it("tells a watch of its keys' changes, the administrator's and the guest's, and of no others", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web-1", "db-1"]);
    await using administration = await openAdministration(folder.state);
    await using guest = await TestGuest.connect(folder.socket("web-1"));
    await using other = await TestGuest.connect(folder.socket("web-1"));
    expect((await guest.ask({ command: "WATCH", prefix: "app/" }))?.kind).to.equal("success");
    await administration.set("web-1", "unrelated", Buffer.from("1"));
    await administration.set("db-1", "app/a", Buffer.from("1"));
    await administration.set("web-1", "app/a", Buffer.from("1"));
    expect(await guest.event()).to.deep.include({ kind: "event" });
    await other.put("app/b", "2");
    const second = await guest.event();
    expect(second?.kind === "event" && second.event).to.include({ key: "app/b", op: "put" });
    await administration.delete("web-1", "app/a");
    const third = await guest.event();
    expect(third?.kind === "event" && third.event).to.include({ key: "app/a", op: "delete" });
    // The watch has the id of the request that began it.
    expect((await guest.ask({ command: "UNWATCH", watch: "00000001" }))?.kind).to.equal("success");
    await administration.set("web-1", "app/a", Buffer.from("2"));
    expect(await guest.get("app/a")).to.equal("2");
    expect(await guest.say("\n"), "nothing came but the answer to this line").to.equal("invalid command");
  });

  it("forgets the watches of a line on which a client begins anew", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web-1"]);
    for (const [beginning, answer] of [
      ["\n", "invalid command"],
      ["NEGOTIATE V2\n", "V2_OK"],
    ] as const) {
      await using guest = await TestGuest.connect(folder.socket("web-1"));
      await guest.ask({ command: "WATCH", prefix: "" });
      expect(await guest.say(beginning)).to.equal(answer);
      await guest.put("a", beginning);
      expect(await guest.get("a")).to.equal(beginning);
      expect(await guest.say("\n")).to.equal("invalid command");
    }
  });

  it("refuses what the guest may not change, in words that clients know", async () => {
    await using folder = new HostFolder();
    await folder.serve([
      { name: "a", namespaces: { readOnly: ["config/"], writable: ["status/", "config/"] } },
    ]);
    await using administration = await openAdministration(folder.state);
    await administration.set("a", "config/x", Buffer.from("host's"));
    await administration.set("a", "sdc:uuid", Buffer.from("host's"));
    await using guest = await TestGuest.connect(folder.socket("a"));
    expect(await guest.put("sdc:uuid", "mine")).to.equal('Cannot update the "sdc" Namespace.');
    expect(await guest.put("config/x", "mine")).to.equal('Cannot update the "config" Namespace.');
    expect(await guest.put("other", "mine")).to.equal('Cannot update the "other" Namespace.');
    expect(await guest.ask({ command: "DELETE", key: " config/x" })).to.include({ kind: "failure" });
    expect(await guest.put("status/x", "mine")).to.equal("OK");
    expect(await guest.get("config/x")).to.equal("host's");
  });
});
