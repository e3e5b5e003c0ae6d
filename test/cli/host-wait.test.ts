import { expect } from "chai";
import { waitForValue } from "../../providers/kvm/host/index.js";
import { encodeReadyValue } from "../../src/base/ready-value.js";
import { run } from "../support/command-line.js";
import { HostFolder, TestGuest } from "../support/kvm-guest.js";

const [BOOT, OTHER] = ["11223344-5566-7788-99aa-bbccddeeff00", "00112233-4455-6677-8899-aabbccddeeff"];
const SESSION = "0".repeat(32);
const READY = "org.pvbus/ready";
const said = (ready: boolean, text?: string, boot = BOOT): string =>
  encodeReadyValue({ ready, time: "2026-11-28T00:00:00Z", boot, text });

describe("pvbus host wait", function () {
  this.timeout(20_000);

  const wait = (folder: HostFolder, ...args: readonly string[]) =>
    run(["host", "wait", "--state", folder.state, ...args]);
  it("ends when the guest says that it is ready, with what it says", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    await using guest = await TestGuest.connect(folder.socket("web"));
    const soon = wait(folder, "--guest", "web");
    await guest.put(READY, said(true, "up"));
    expect(await soon).to.deep.equal({ code: 0, stdout: "ready up\n", stderr: "" });
    const document = JSON.parse((await wait(folder, "--guest", "web", "--ready", "--json")).stdout);
    expect(document).to.deep.equal({
      guest: "web",
      state: "ready",
      time: "2026-11-28T00:00:00Z",
      boot: BOOT,
      text: "up",
    });
  });

  it("ends with 1 for a guest that has failed, with its text", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    await using guest = await TestGuest.connect(folder.socket("web"));
    await guest.put(READY, said(false, "no disk"));
    expect(await wait(folder, "--guest", "web")).to.deep.equal({
      code: 1,
      stdout: "",
      stderr: "pvbus: guest web has failed: no disk\n",
    });
  });

  it("tells who is late, who is gone and who was never seen", async () => {
    await using folder = new HostFolder();
    await folder.serve(["late", "gone", "never"]);
    await using late = await TestGuest.connect(folder.socket("late"));
    await using gone = await TestGuest.connect(folder.socket("gone"));
    await late.put("status", "booting");
    await gone.put("status", "booting");
    const all = ["late", "gone", "never"].flatMap((name) => ["--guest", name]);
    const pending = run(["host", "wait", "--state", folder.state, ...all, "--timeout", "2"], {
      onMessage: () => undefined,
    });
    await gone[Symbol.asyncDispose]();
    const { code, stderr } = await pending;
    expect(code).to.equal(1);
    expect(stderr).to.contain("guest late is not ready: it is connected and late");
    expect(stderr).to.contain("guest gone is not ready: it is gone");
    expect(stderr).to.contain("guest never is not ready: it was never seen");
    expect(stderr).to.contain("[ERR_TIMEOUT]");
  });

  it("says at once that a guest which was there is gone", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    const guest = await TestGuest.connect(folder.socket("web"));
    await guest.put("status", "booting");
    let tell = (_text: string): void => undefined;
    const heard = new Promise<string>((resolve) => {
      tell = resolve;
    });
    const args = ["host", "wait", "--state", folder.state, "--guest", "web", "--timeout", "15", "--json"];
    const ended = run(args, { onMessage: (text) => tell(text) });
    // The first news are there when another order was answered.
    await wait(folder, "--guest", "web", "status");
    await guest[Symbol.asyncDispose]();
    expect(JSON.parse(await heard)).to.deep.equal({ guest: "web", presence: "gone" });
    await using again = await TestGuest.connect(folder.socket("web"));
    await again.put(READY, said(true));
    expect((await ended).code).to.equal(0);
  });

  it("waits for a key, for a value, and for all guests", async () => {
    await using folder = new HostFolder();
    await folder.serve(["a", "b"]);
    await using a = await TestGuest.connect(folder.socket("a"));
    await using b = await TestGuest.connect(folder.socket("b"));
    const both = wait(folder, "--guest", "a", "--guest", "b", "phase=two");
    await a.put("phase", "two");
    await b.put("phase", "one");
    await b.put("phase", "two");
    const { code, stdout } = await both;
    expect([code, stdout.split("\n").sort()]).to.deep.equal([0, ["", "a\ttwo", "b\ttwo"]]);
    await a.put("x=y", "1");
    expect(await wait(folder, "--guest", "a", "--key", "x=y", "--value", "1")).to.include({
      code: 0,
      stdout: "1\n",
    });
    const late = await wait(folder, "--guest", "a", "phase=three", "--timeout", "0.3");
    expect(late.stderr).to.contain("guest a has no phase=three: it is connected and late");
    expect(JSON.parse((await wait(folder, "--guest", "a", "phase", "--json")).stdout)).to.deep.equal({
      key: "phase",
      value: "two",
    });
  });

  it("refuses wrong usage, and a guest that nobody knows", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    for (const [args, message] of [
      [[], /name a guest/],
      [["--guest", "web", "k", "--key", "k"], /not both/],
      [["--guest", "web", "--value", "v"], /--value goes with --key/],
      [["--guest", "web", "=v"], /the key is empty/],
      [["--guest", "../x"], /no guest name/],
    ] as const) {
      const { code, stderr } = await wait(folder, ...args);
      expect(stderr).to.match(message);
      expect(code).to.equal(2);
    }
    expect((await wait(folder, "--guest", "nobody")).stderr).to.contain("ERR_UNAVAILABLE");
  });

  it("goes on over a restart of the host, and sees what was set while nobody serves", async () => {
    await using folder = new HostFolder();
    const host = await folder.serve(["web"]);
    let hear = (): void => undefined;
    const isFollowing = new Promise<void>((resolve) => {
      hear = resolve;
    });
    const waiting = waitForValue(folder.state, {
      guest: "web",
      key: "phase",
      isEnough: (value) => Buffer.from(value).toString() === "two",
      onNews: hear,
      timeoutMs: 15_000,
    });
    await isFollowing;
    await host.close();
    const key = ["--state", folder.state, "--guest", "web", "phase"];
    expect((await run(["host", "set", ...key, "two", "--timeout", "10"])).code).to.equal(0);
    expect(Buffer.from(await waiting).toString()).to.equal("two");
  });

  it("ends with its signal", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    await run(["host", "set", "--state", folder.state, "--guest", "web", "k", "1"]);
    const news: unknown[] = [];
    const ending = new AbortController();
    const watching = waitForValue(folder.state, {
      guest: "web",
      key: "k",
      isEnough: () => false,
      onNews: (each) => {
        news.push(each);
        ending.abort();
      },
      signal: ending.signal,
    });
    const error = await watching.catch((each: { code: string }) => each.code);
    expect(error).to.equal("ERR_ABORTED");
    expect(news).to.have.length(1);
  });
});

describe("a readiness of another boot", () => {
  const kept = async (folder: HostFolder) =>
    (await run(["host", "get", "--state", folder.state, "--guest", "web", READY])).stdout.trimEnd();

  it("is dropped when the guest's session says that it has booted again, and kept within a boot", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    await using guest = await TestGuest.connect(folder.socket("web"));
    const begin = (boot: string | undefined) =>
      guest.ask({ command: "SESSION", session: SESSION, boot, revision: 0 });
    await guest.put(READY, said(true));
    await begin(BOOT);
    expect(await kept(folder)).to.equal(said(true));
    await begin(undefined);
    expect(await kept(folder)).to.equal(said(true));
    await begin(OTHER);
    expect(await guest.get(READY)).to.equal(undefined);
    // What this boot says comes behind it.
    await guest.put(READY, said(true, "again", OTHER));
    expect(await kept(folder)).to.equal(said(true, "again", OTHER));
  });

  it("is not mistaken: what is no such value, or names no boot, stays", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    await using guest = await TestGuest.connect(folder.socket("web"));
    for (const value of ["yes", `1 ready 2026-11-28T00:00:00Z -`]) {
      await guest.put(READY, value);
      await guest.ask({ command: "SESSION", session: SESSION, boot: OTHER, revision: 0 });
      expect(await guest.get(READY)).to.equal(value);
    }
  });

  it("does not end a wait: the guest that was killed is told from one that is late", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web"]);
    const first = await TestGuest.connect(folder.socket("web"));
    await first.put(READY, said(true));
    await first[Symbol.asyncDispose]();
    await using second = await TestGuest.connect(folder.socket("web"));
    await second.ask({ command: "SESSION", session: SESSION, boot: OTHER, revision: 0 });
    const { stderr } = await run([
      "host",
      "wait",
      "--state",
      folder.state,
      "--guest",
      "web",
      "--timeout",
      "0.5",
    ]);
    expect(stderr).to.contain("it is connected and late");
  });
});
