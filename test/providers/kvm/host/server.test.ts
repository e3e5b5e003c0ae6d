import { once } from "node:events";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { expect } from "chai";
import {
  MetadataHost,
  openAdministration,
  parseConfiguration,
  parseEndpoint,
} from "../../../../providers/kvm/host/index.js";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";
import { pending } from "../../../support/pending.js";
import { collect } from "../../../support/pools.js";
import { rejects } from "../../../support/rejects.js";

describe("MetadataHost", () => {
  it("lets nobody but its owner near the sockets and the keys", async () => {
    await using folder = new HostFolder();
    const mask = process.umask(0);
    try {
      await folder.serve(["a"]);
    } finally {
      process.umask(mask);
    }
    await using administration = await openAdministration(folder.state);
    await administration.set("a", "password", Buffer.from("secret"));
    const modes = readdirSync(folder.path, { recursive: true }).map((name) => {
      const { mode } = lstatSync(join(folder.path, name as string));
      return [name, (mode & 0o777).toString(8)];
    });
    expect(Object.fromEntries(modes)).to.deep.equal({
      "a.sock": "600",
      state: "700",
      "state/control.sock": "600",
      "state/guests": "700",
      "state/guests/a": "700",
      "state/guests/a/log": "600",
      "state/guests/a/log.reserve": "600",
      "state/lock": "600",
    });
  });

  it("refuses a state directory in which others may write", async () => {
    await using folder = new HostFolder();
    mkdirSync(folder.state);
    chmodSync(folder.state, 0o777);
    const error = await rejects(folder.serve(["a"]), "ERR_PERMISSION");
    expect(error.message).to.include(`chmod go-w ${folder.state}`);
  });

  it("gives a listening socket to the hypervisor's user", async function () {
    if (process.getuid?.() !== 0) {
      return pending(this, "only root can give a socket away");
    }
    await using folder = new HostFolder();
    await folder.serve([{ name: "a", socketOwner: { uid: 12345, gid: 23456 } }]);
    const { uid, gid, mode } = statSync(folder.socket("a"));
    expect([uid, gid, mode & 0o777]).to.deep.equal([12345, 23456, 0o600]);
  });

  it("is alone in its directory, and its sockets' place is nobody else's", async () => {
    await using folder = new HostFolder();
    await folder.serve(["a"]);
    await rejects(folder.serve(["b"]), "ERR_BUSY");
    await using other = new HostFolder();
    const guests = [{ name: "a", endpoints: [parseEndpoint(`unix:${folder.socket("a")}`)] }];
    const error = await rejects(MetadataHost.start({ directory: other.state, guests }), "ERR_BUSY");
    expect(error.message).to.include("connect:");
    await using guest = await TestGuest.connect(folder.socket("a"));
    expect(await guest.say("NEGOTIATE V2\n")).to.equal("V2_OK");
    // What failed to start left nothing behind.
    await other.serve(["a"]);
  });

  it("takes the place of a socket whose server is gone, never that of a file", async () => {
    await using folder = new HostFolder();
    const dead = createServer().listen(folder.socket("dead"));
    await once(dead, "listening");
    renameSync(folder.socket("dead"), folder.socket("a"));
    await new Promise((resolve) => dead.close(resolve));
    expect(lstatSync(folder.socket("a")).isSocket()).to.equal(true);
    const host = await folder.serve(["a"]);
    await using guest = await TestGuest.connect(folder.socket("a"));
    expect(await guest.say("NEGOTIATE V2\n")).to.equal("V2_OK");
    await host.close();
    writeFileSync(folder.socket("b"), "precious");
    const error = await rejects(folder.serve(["b"]), "ERR_UNAVAILABLE");
    expect(error.message).to.include("it is no socket");
    expect(statSync(folder.socket("b")).size).to.equal(8);
  });

  it("connects to the hypervisor's socket when it comes, and again after it went", async () => {
    await using folder = new HostFolder();
    const path = join(folder.path, "qemu.sock");
    await folder.serve([{ name: "vm", endpoints: [parseEndpoint(`connect:${path}`)] }]);
    await using administration = await openAdministration(folder.state);
    await administration.set("vm", "hostname", Buffer.from("guest1"));
    for (let start = 0; start < 3; start++) {
      const machine = createServer().listen(path);
      const [channel] = await once(machine, "connection");
      channel.write("NEGOTIATE V2\nGET hostname\n");
      let text = "";
      for await (const chunk of channel.setEncoding("latin1")) {
        text += chunk;
        if (text.endsWith(".\n")) break;
      }
      expect(text).to.equal("V2_OK\nSUCCESS\nguest1\n.\n");
      await new Promise((resolve) => machine.close(resolve));
    }
    expect(folder.events.map(({ event }) => event)).to.include.members([
      "waiting for the hypervisor's socket",
      "guest connected",
    ]);
  });

  it("serves a guest at several places at once: vsock mappings, sockets", async () => {
    await using folder = new HostFolder();
    const uds = join(folder.path, "v.sock");
    await folder.serve([
      {
        name: "vm",
        endpoints: [parseEndpoint(`vsock:${uds}:1024`), parseEndpoint(`unix:${folder.socket("vm")}`)],
      },
    ]);
    await using one = await TestGuest.connect(`${uds}_1024`);
    await using two = await TestGuest.connect(folder.socket("vm"));
    expect(await one.put("a", "1")).to.equal("OK");
    expect(await two.get("a")).to.equal("1");
  });

  it("takes no limit that a record cannot hold, and no directory of keys that is a link or everybody's", async () => {
    for (const maxKeyBytes of [65_536, 0, 1.5])
      expect(() => parseConfiguration({ limits: { maxKeyBytes } })).to.throw(RangeError, "maxKeyBytes");
    await using folder = new HostFolder();
    const limits = { maxKeyBytes: 65_535, maxValueBytes: 10 };
    const host = await folder.serve([{ name: "a", limits }]);
    {
      await using guest = await TestGuest.connect(folder.socket("a"));
      const key = "k".repeat(65_535);
      expect(await guest.put(key, "v")).to.equal("OK");
      expect(await guest.get(key)).to.equal("v");
      expect(await guest.put(`${key}k`, "v")).to.match(/^ERR_KEY_TOO_LONG/);
    }
    const guests = join(folder.state, "guests");
    symlinkSync("a", join(guests, "b"));
    await rejects(host.add({ name: "b", endpoints: [] }), "ERR_PERMISSION");
    await host.close();
    chmodSync(guests, 0o777);
    await rejects(folder.serve([]), "ERR_PERMISSION");
    chmodSync(guests, 0o700);
    renameSync(guests, join(folder.path, "elsewhere"));
    symlinkSync(join(folder.path, "elsewhere"), guests);
    await rejects(folder.serve([]), "ERR_PERMISSION");
  });

  it("serves what is left of a damaged log, says what is lost, and says what a kill left of a write", async () => {
    await using folder = new HostFolder();
    const log = join(folder.state, "guests/a/log");
    const host = await folder.serve(["a"]);
    {
      await using guest = await TestGuest.connect(folder.socket("a"));
      for (const key of ["one", "two", "three"]) await guest.put(key, "value");
    }
    await host.close();
    const bytes = readFileSync(log);
    const at = bytes.indexOf("two");
    bytes.write("tvo", at);
    writeFileSync(log, bytes);
    const again = await folder.serve(["a"]);
    const event = folder.events.find((each) => each.event === "log damaged");
    expect(event?.level).to.equal("error");
    expect(event?.fields).to.include({ guest: "a", lost: `39 bytes at offset ${at - 31} (change 2)` });
    expect(readFileSync(join(dirname(log), String(event?.fields["kept"])))).to.deep.equal(bytes);
    await using guest = await TestGuest.connect(folder.socket("a"));
    expect([await guest.get("one"), await guest.get("two"), await guest.get("three")]).to.deep.equal([
      "value",
      undefined,
      "value",
    ]);
    expect(await guest.put("four", "value")).to.equal("OK");
    await again.close();
    rmSync(`${log}.end`);
    writeFileSync(log, readFileSync(log).subarray(0, -3));
    await folder.serve(["a"]);
    const cut = folder.events.find((each) => each.event === "unfinished write cut off");
    expect([cut?.level, cut?.fields]).to.deep.equal(["info", { guest: "a", bytes: 37 }]);
  });

  it("serves the other guests when one's keys are damaged", async () => {
    await using folder = new HostFolder();
    mkdirSync(join(folder.state, "guests/bad"), { recursive: true, mode: 0o700 });
    chmodSync(folder.state, 0o700);
    writeFileSync(
      join(folder.state, "guests/bad/log"),
      "no log at all, but something that somebody put here",
    );
    const host = await folder.serve(["good"]);
    const bad = { name: "bad", endpoints: [parseEndpoint(`unix:${folder.socket("bad")}`)] };
    await rejects(host.add(bad), "ERR_CORRUPT");
    await using good = await TestGuest.connect(folder.socket("good"));
    expect(await good.put("a", "1")).to.equal("OK");
    expect(host.guests).to.deep.equal(["good"]);
    // The file was put away: it begins anew.
    rmSync(join(folder.state, "guests/bad/log"));
    await host.add(bad);
    await using again = await TestGuest.connect(folder.socket("bad"));
    expect(await again.put("a", "1")).to.equal("OK");
  });

  it("takes guests in and lets them go while it serves the others", async () => {
    await using folder = new HostFolder();
    const host = await folder.serve(["a"]);
    await using a = await TestGuest.connect(folder.socket("a"));
    await using administration = await openAdministration(folder.state);
    // Known to the administrator before it is served: its own limits hold all the same.
    await administration.set("b", "hostname", Buffer.from("b"));
    const b = {
      name: "b",
      endpoints: [parseEndpoint(`unix:${folder.socket("b")}`)],
      limits: { maxKeys: 1 },
    };
    await host.add(b);
    const again = await host.add(b).then(
      () => "added",
      (error) => error.constructor.name,
    );
    expect(again).to.equal("TypeError");
    await using first = await TestGuest.connect(folder.socket("b"));
    expect(await first.get("hostname")).to.equal("b");
    expect(await first.put("x", "1")).to.match(/^ERR_NO_SPACE/);
    expect([host.guests, host.connections]).to.deep.equal([["a", "b"], 2]);
    expect(await host.remove("b")).to.equal(true);
    expect(await host.remove("b")).to.equal(false);
    expect(await first.line()).to.equal(undefined);
    expect(await a.put("x", "1")).to.equal("OK");
    await host.add({ ...b, limits: { maxKeys: 2 } });
    await using second = await TestGuest.connect(folder.socket("b"));
    expect(await second.put("x", "1")).to.equal("OK");
    await host.close();
    await rejects(host.add({ ...b, name: "c" }), "ERR_DISCONNECTED");
  });

  it("says no key and no value in its log", async () => {
    await using folder = new HostFolder();
    await folder.serve(["a"]);
    await using guest = await TestGuest.connect(folder.socket("a"));
    await guest.put("my-key", "my-value");
    await guest.put("sdc:my-key", "my-value");
    await guest.say("GET my-key\n");
    expect(JSON.stringify(folder.events)).to.not.match(/my-key|my-value/);
  });

  it("ends with its connections, twice if asked, and gives everything back", async () => {
    await using folder = new HostFolder();
    const host = await folder.serve(["a"]);
    await using guest = await TestGuest.connect(folder.socket("a"));
    await guest.put("a", "1");
    await Promise.all([host.close(), host.close()]);
    expect(await guest.line()).to.equal(undefined);
    expect(host.connections).to.equal(0);
    await folder.serve(["a"]);
    await using again = await TestGuest.connect(folder.socket("a"));
    expect(await again.get("a")).to.equal("1");
  });

  it("refuses settings that make no sense", async () => {
    await using folder = new HostFolder();
    for (const name of ["", "..", "a/b", "-a", "a".repeat(65), "a\n"]) {
      const refused = await folder.serve([{ name }]).then(
        () => "served",
        (error) => error.constructor.name,
      );
      expect(refused, name).to.equal("TypeError");
    }
    for (const text of ["", "unix:", "tcp:1", "vsock:/x", "vsock:/x:4294967296", `unix:/${"x".repeat(120)}`])
      expect(() => parseEndpoint(text), text).to.throw(TypeError);
    expect(parseEndpoint("vsock:/run/v.sock:52")).to.deep.equal({
      kind: "listen",
      path: "/run/v.sock_52",
      vsock: { path: "/run/v.sock", port: 52 },
    });
  });
});

describe("openAdministration", () => {
  it("does the same through a host that serves and on the files", async () => {
    await using folder = new HostFolder();
    const outcomes: unknown[] = [];
    for (const isServed of [true, false]) {
      const host = isServed ? await folder.serve(["a"]) : undefined;
      await using administration = await openAdministration(folder.state);
      const bytes = Buffer.from([0, 0xff, 10]);
      await administration.set("a", "sdc:uuid", bytes);
      await administration.set("a", "b", Buffer.alloc(2 * 1024 * 1024, 0x61));
      await administration.set("a", "ü\u2028x", Buffer.alloc(0));
      const entries = await collect(administration.list("a"));
      outcomes.push([
        entries.map(({ key, value }) => [key, value.length]),
        await collect(administration.list("a", "sdc:")).then((found) => found.length),
        Buffer.from((await administration.get("a", "sdc:uuid")) ?? []).equals(bytes),
        await administration.get("a", "nope"),
        await administration.delete("a", "b"),
        await administration.delete("a", "b"),
        await administration.guests(),
        (await rejects(administration.get("nobody", "x"), "ERR_UNAVAILABLE")).message,
        (await rejects(administration.set("a", "x\n", bytes), "ERR_KEY_INVALID")).key,
        (await rejects(administration.set("a", "x", Buffer.alloc(9 * 1024 * 1024)), "ERR_VALUE_TOO_LONG"))
          .key,
      ]);
      await host?.close();
    }
    expect(outcomes[0]).to.deep.equal(outcomes[1]);
    expect(outcomes[0]).to.deep.include(true);
  });

  it("has administrators take turns on the files", async () => {
    await using folder = new HostFolder();
    await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        await using administration = await openAdministration(folder.state);
        await administration.set("a", `key-${i}`, Buffer.from("x"));
      }),
    );
    await using administration = await openAdministration(folder.state);
    expect(await collect(administration.list("a"))).to.have.length(8);
    await rejects(openAdministration(folder.state, { timeoutMs: 500 }), "ERR_BUSY");
    // On a busy machine the last look may come too late.
    const late = rejects(openAdministration(folder.state, { timeoutMs: 500 }), "ERR_BUSY");
    await new Promise((resolve) => setTimeout(resolve, 100));
    const end = performance.now() + 500;
    while (performance.now() < end);
    await late;
    await rejects(openAdministration(folder.state, { signal: AbortSignal.abort() }), "ERR_ABORTED");
  });

  it("goes on through rubbish at its socket", async () => {
    await using folder = new HostFolder();
    await folder.serve(["a"]);
    const path = join(folder.state, "control.sock");
    for (const rubbish of [
      "\n",
      "{}\n",
      "[1]\n",
      '{"do":"set","guest":1}\n',
      '{"do":"get","guest":"../a","key":"x"}\n',
    ]) {
      await using guest = await TestGuest.connect(path);
      expect(await guest.say(rubbish), rubbish).to.match(/^{"error":{"code":"ERR_|^{"error":{"message/);
    }
    await using administration = await openAdministration(folder.state);
    await administration.set("a", "b", Buffer.from("1"));
  });
});
