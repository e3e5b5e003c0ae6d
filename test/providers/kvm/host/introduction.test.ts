import { once } from "node:events";
import { createServer } from "node:net";
import { expect } from "chai";
import { GuestSession } from "../../../../providers/kvm/host/guest-session.js";
import { GuestState } from "../../../../providers/kvm/host/guest-state.js";
import { GuestTurns, HostTurns } from "../../../../providers/kvm/host/guest-turns.js";
import { ADMINISTRATOR_LIMITS } from "../../../../providers/kvm/host/limits.js";
import { DEFAULT_NAMESPACES } from "../../../../providers/kvm/host/namespaces.js";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";

const BOOT = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";
const [FIRST, SECOND] = ["0", "1"].map((digit) => digit.repeat(32)) as [string, string];
const unexpected = (): void => expect.fail("nothing of this is reported here");

describe("KVM host's knowledge of a client", () => {
  it("is what it last said of itself on its line, until the next one begins", async () => {
    await using folder = new HostFolder();
    const state = await GuestState.open(`${folder.path}/log`, ADMINISTRATOR_LIMITS);
    const reports = {
      onBroken: unexpected,
      onOversize: unexpected,
      onOverrun: unexpected,
      onFault: unexpected,
    };
    const turns = new GuestTurns(new HostTurns());
    const sessions: GuestSession[] = [];
    const server = createServer((socket) => {
      sessions.push(new GuestSession(socket, { state, namespaces: DEFAULT_NAMESPACES, turns }, reports));
    });
    try {
      server.listen(folder.socket("a"));
      await once(server, "listening");
      await using one = await TestGuest.connect(folder.socket("a"));
      await using other = await TestGuest.connect(folder.socket("a"));
      const clients = (): unknown[] => sessions.map(({ client }) => client);
      await one.get("k");
      await other.get("k");
      expect(clients()).to.deep.equal([undefined, undefined]);

      const known = { session: FIRST, boot: BOOT, revision: 7 };
      await one.ask({ command: "SESSION", ...known });
      expect(clients()).to.deep.equal([known, undefined]);
      const unknown = { session: SECOND, boot: undefined, revision: 0 };
      await other.ask({ command: "SESSION", ...unknown });
      expect(clients()).to.deep.equal([known, unknown]);
      await one.ask({ command: "SESSION", ...known, revision: 9 });
      expect(clients()).to.deep.equal([{ ...known, revision: 9 }, unknown]);

      await one.say("NEGOTIATE V2\n");
      await other.say("\n");
      expect(clients()).to.deep.equal([undefined, undefined]);
    } finally {
      server.close();
      for (const session of sessions) session.close();
      await state.close();
    }
  });
});
