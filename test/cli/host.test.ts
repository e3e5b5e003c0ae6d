import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { expect } from "chai";
import { openAdministration } from "../../providers/kvm/host/index.js";
import { PROGRAM, run } from "../support/command-line.js";
import { HostFolder, TestGuest } from "../support/kvm-guest.js";
import { start } from "../support/processes.js";

const GUEST = ["--guest", "web-1"];

/** Starts the built program and resolves when its messages hold some text. */
async function startUntil(args: readonly string[], text: string): Promise<ReturnType<typeof start>> {
  const started = start(process.execPath, [PROGRAM, ...args]);
  await new Promise<void>((resolve, reject) => {
    started.child.stderr?.on("data", (chunk: string) => chunk.includes(text) && resolve());
    void started.done.then(({ stderr }) => reject(new Error(stderr)));
  });
  return started;
}

/** Sends a line to a host's control socket and gives its answer. */
async function speak(state: string, line: string): Promise<string> {
  const socket = createConnection(join(state, "control.sock")).setEncoding("utf8");
  socket.write(`${line}\n`);
  const parts: string[] = [];
  for await (const part of socket) parts.push(part);
  return parts.join("");
}

describe("pvbus host", () => {
  it("sets, gets, lists and removes keys while nobody serves", async () => {
    await using folder = new HostFolder();
    const on = (...args: string[]) => run(["host", ...args, "--state", folder.state, ...GUEST]);
    const bytes = Buffer.from([0xff, 0x00]);
    expect(await on("set", "hostname", "web=1")).to.deep.equal({ code: 0, stdout: "", stderr: "" });
    const binary = ["host", "set", "blob", "-", "--state", folder.state, ...GUEST];
    expect((await run(binary, { readInput: async () => bytes })).code).to.equal(0);
    expect(await on("get", "hostname")).to.include({ code: 0, stdout: "web=1\n" });
    expect(await on("ls", "host")).to.include({ code: 0, stdout: "hostname=web=1\n" });
    expect(JSON.parse((await on("ls", "--json")).stdout)).to.deep.equal([
      { key: "blob", valueBase64: "/wA=" },
      { key: "hostname", value: "web=1" },
    ]);
    expect(JSON.parse((await on("get", "blob", "--json")).stdout)).to.deep.equal({
      key: "blob",
      valueBase64: "/wA=",
    });
    expect(await on("rm", "hostname")).to.include({ code: 0, stdout: "" });
    expect(await on("rm", "hostname")).to.include({ code: 1, stderr: "pvbus: no such key: hostname\n" });
    expect((await on("get", "hostname")).code).to.equal(1);
    expect(JSON.parse((await on("rm", "blob", "--json")).stdout)).to.deep.equal({
      key: "blob",
      deleted: true,
    });
    expect(JSON.parse((await on("ls", "none", "--json")).stdout)).to.deep.equal([]);
    expect((await run(["host", "ls", "--state", folder.state])).stdout).to.equal("web-1\n");
  });

  it("shows nothing of a guest that drives a terminal or forges a line", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web-1"]);
    await using guest = await TestGuest.connect(folder.socket("web-1"));
    await guest.put("a=b\u202e", "x\nroot=yes\u001b[2J");
    const { stdout } = await run(["host", "ls", "--state", folder.state, ...GUEST]);
    expect(stdout).to.equal("a\\u{3d}b\\u{202e}=x\\nroot=yes\\u{1b}[2J\n");
  });

  it("refuses wrong usage with what would be right", async () => {
    await using folder = new HostFolder();
    const state = ["--state", folder.state];
    const rows: [string[], RegExp][] = [
      [["host"], /missing argument <action>/],
      [["host", "server"], /unknown action 'server' \(did you mean serve\?\)/],
      [["host", "get", ...state, ...GUEST], /usage: pvbus host get --state DIR --guest NAME KEY/],
      [["host", "get", "a", ...GUEST], /--state DIR/],
      [["host", "get", "a", ...state], /--guest NAME/],
      [["host", "get", "a", ...state, ...GUEST, "--guest", "b"], /one guest/],
      [["host", "ls", "a", ...state], /a prefix needs --guest/],
      [["host", "serve", ...state], /--guest NAME=ENDPOINT/],
      [["host", "serve", ...state, "--guest", "a"], /NAME=ENDPOINT/],
      [["host", "serve", ...state, "--guest", "a=tcp:1"], /unix:PATH/],
      [["host", "qemu-args"], /usage: pvbus host qemu-args FILE/],
      [["get", "x", ...state], /get has no option --state/],
    ];
    for (const [args, message] of rows) {
      const { code, stderr } = await run(args);
      expect(stderr, args.join(" ")).to.match(message);
      expect(code, args.join(" ")).to.equal(2);
    }
    const nobody = await run(["host", "get", "a", ...state, ...GUEST, "--json"]);
    expect([nobody.code, JSON.parse(nobody.stderr).error.code]).to.deep.equal([1, "ERR_UNAVAILABLE"]);
    const unnamed = await run(["host", "get", "a", ...state, "--guest", "../x"]);
    expect(unnamed.stderr).to.include("is no guest name");
  });

  it("serves until it is told to end; a change outside wakes a watch inside at once", async () => {
    await using folder = new HostFolder();
    const state = ["--state", folder.state];
    const socket = folder.socket("web-1");
    const serving = await startUntil(
      ["host", "serve", ...state, "--guest", `web-1=unix:${socket}`],
      '"serving"',
    );
    const inside = ["-t", "KVM", "--channel", `unix:${socket}`];
    const watching = await startUntil([...inside, "watch", "--count", "2", "--json"], "watching");
    const first = once(watching.child.stdout as Readable, "data");
    expect((await run(["host", "set", "news", "1", ...state, ...GUEST])).code).to.equal(0);
    await first;
    expect((await run(["host", "rm", "news", ...state, ...GUEST])).code).to.equal(0);
    const seen = await watching.done;
    expect(seen.stdout).to.equal('{"key":"meta/news","value":"1"}\n{"key":"meta/news","value":null}\n');
    expect(seen.code).to.equal(0);

    const written = await start(process.execPath, [PROGRAM, ...inside, "set", "ready", "yes"]).done;
    expect(written.code, written.stderr).to.equal(0);
    expect((await run(["host", "get", "ready", ...state, ...GUEST])).stdout).to.equal("yes\n");

    serving.child.kill("SIGTERM");
    const { code, stderr, stdout } = await serving.done;
    expect([code, stdout]).to.deep.equal([0, ""]);
    const events = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(events[0]).to.include({ level: "info", event: "serving", guests: 1, state: folder.state });
    expect(Date.parse(events[0].time)).to.be.greaterThan(0);
    expect(events.map(({ event }) => event)).to.include("guest connected");
    expect(events.at(-1)).to.include({ event: "stopped" });
    expect((await run(["host", "get", "ready", ...state, ...GUEST])).stdout).to.equal("yes\n");
  });

  it("serves what a configuration file says", async () => {
    await using folder = new HostFolder();
    const config = join(folder.path, "host.json");
    const args = ["host", "serve", "--state", folder.state, "--config", config];
    const write = (document: unknown): void => writeFileSync(config, JSON.stringify(document));
    for (const [document, message] of [
      [{ guest: {} }, /no field guest/],
      [{ guests: { a: { endpoints: "unix:/x" } } }, /guests\.a\.endpoints takes a list/],
      [{ guests: { a: { limits: { maxKeys: 0 } } } }, /maxKeys must be a whole number/],
      [{ guests: { a: { limits: { keys: 1 } } } }, /has no field keys/],
      [{ guests: { a: { socketOwner: { uid: "root" } } } }, /socketOwner takes uid and gid/],
    ] as const) {
      write(document);
      const { code, stderr } = await run(args);
      expect(stderr).to.match(message);
      expect(code).to.equal(2);
    }
    writeFileSync(config, "{");
    expect((await run(args)).stderr).to.include("is no JSON");

    write({
      limits: { maxKeys: 2 },
      readOnly: ["config/"],
      guests: {
        a: { endpoints: [`unix:${folder.socket("a")}`] },
        b: {
          endpoints: [`unix:${folder.socket("b")}`],
          limits: { maxKeys: 1 },
          readOnly: [],
          writable: ["status/"],
        },
      },
    });
    const ending = new AbortController();
    const messages: string[] = [];
    let isServing = (): void => undefined;
    const began = new Promise<void>((resolve) => {
      isServing = resolve;
    });
    const served = run(args, {
      signal: ending.signal,
      onMessage: (text) => {
        messages.push(text);
        if (text.includes('"serving"')) isServing();
      },
    });
    await Promise.race([began, served]);
    {
      await using a = await TestGuest.connect(folder.socket("a"));
      await using b = await TestGuest.connect(folder.socket("b"));
      expect(await a.put("config/x", "1")).to.include("Cannot update");
      expect(await a.put("x", "1")).to.equal("OK");
      expect(await a.put("y", "1")).to.equal("OK");
      expect(await a.put("z", "1")).to.match(/^ERR_NO_SPACE/);
      expect(await b.put("x", "1")).to.include("Cannot update");
      expect(await b.put("status/x", "1")).to.equal("OK");
      expect(await b.put("status/y", "1")).to.match(/^ERR_NO_SPACE/);
    }
    ending.abort();
    expect((await served).code, messages.join("")).to.equal(0);
  });

  it("reads its configuration again on SIGHUP: guests come, go and change, the others notice nothing", async () => {
    await using folder = new HostFolder();
    const config = join(folder.path, "host.json");
    const write = (guests: Record<string, object>): void => {
      const entries = Object.entries(guests).map(([name, more]) => [
        name,
        { endpoints: [`unix:${folder.socket(name)}`], ...more },
      ]);
      writeFileSync(config, JSON.stringify({ guests: Object.fromEntries(entries) }));
    };
    write({ a: {}, b: {}, c: {} });
    const args = ["host", "serve", "--state", folder.state, "--config", config];
    const serving = await startUntil(args, '"serving"');
    const reload = async (event: string): Promise<void> => {
      const said = new Promise<void>((resolve) => {
        serving.child.stderr?.on("data", (text: string) => text.includes(event) && resolve());
      });
      serving.child.kill("SIGHUP");
      await said;
    };
    await using a = await TestGuest.connect(folder.socket("a"));
    await using b = await TestGuest.connect(folder.socket("b"));
    await using c = await TestGuest.connect(folder.socket("c"));
    for (const guest of [a, b, c]) expect(await guest.put("x", "1")).to.equal("OK");
    writeFileSync(config, "{");
    await reload("configuration not taken");
    for (const guest of [a, b, c]) expect(await guest.get("x")).to.equal("1");
    write({ a: {}, b: { limits: { maxKeys: 1 } }, d: {}, e: { endpoints: [`unix:${config}`] } });
    await reload("configuration read again");
    expect(await a.get("x")).to.equal("1");
    expect([await b.line(), await c.line()]).to.deep.equal([undefined, undefined]);
    await using changed = await TestGuest.connect(folder.socket("b"));
    expect(await changed.put("y", "1")).to.match(/^ERR_NO_SPACE/);
    await using added = await TestGuest.connect(folder.socket("d"));
    expect(await added.put("x", "1")).to.equal("OK");
    serving.child.kill("SIGTERM");
    const { code, stderr } = await serving.done;
    expect(code).to.equal(0);
    const refused = stderr.split("\n").find((line) => line.includes("guest not served")) ?? "{}";
    expect(JSON.parse(refused)).to.include({ level: "error", guest: "e", code: "ERR_UNAVAILABLE" });

    write({ e: { endpoints: [`unix:${config}`] } });
    const none = await run(args);
    expect(none.code).to.equal(1);
    expect(none.stderr).to.include("it is no socket");
    write({ "../a": {} });
    expect((await run(args)).code).to.equal(2);
  });

  it("prints arguments a line each or as JSON, and how their channel is served", async () => {
    await using folder = new HostFolder();
    const file = join(folder.path, "keys.json");
    writeFileSync(file, JSON.stringify({ keys: { a: "x,y" }, channel: { endpoint: "connect:/run/x.sock" } }));
    const { stdout, stderr, code } = await run(["host", "qemu-args", file]);
    expect(stdout.split("\n").slice(0, 2)).to.deep.equal(["-smbios", "type=11,value=org.pvbus:a=x,,y"]);
    expect(stderr).to.include("pvbus host serve --state DIR --guest NAME=connect:/run/x.sock");
    expect(code).to.equal(0);
    const json = await run(["host", "qemu-args", file, "--json"]);
    expect(JSON.parse(json.stdout)).to.deep.equal(stdout.trimEnd().split("\n"));
    const xml = await run(["host", "libvirt-xml", file]);
    expect(xml.stdout).to.include("<!-- into <devices> of the domain -->\n<channel type='unix'>");
    const other = await run(["host", "cloud-hypervisor-args", file]);
    expect([other.code, other.stdout]).to.deep.equal([1, ""]);

    writeFileSync(file, JSON.stringify({ keys: { a: "one\ntwo" } }));
    const broken = await run(["host", "qemu-args", file]);
    expect([broken.code, broken.stdout]).to.deep.equal([2, ""]);
    expect(broken.stderr).to.include("use --json");
    expect(JSON.parse((await run(["host", "qemu-args", file, "--json"])).stdout)).to.have.length(2);
    expect((await run(["host", "qemu-args", join(folder.path, "none.json")])).stderr).to.include(
      "cannot read",
    );
  });

  it("prints arguments for a start line that starts nothing when they are refused", async () => {
    await using folder = new HostFolder();
    const file = join(folder.path, "keys.json");
    const text = readFileSync(new URL("../../../docs/kvm-host.md", import.meta.url), "utf8");
    const inDocs = text.split("\n").filter((line) => line.includes("qemu-system-x86_64 … "));
    const { stderr: help } = await run(["host", "qemu-args"]);
    const inHelp = help.trimEnd().split("; in bash: ").slice(1);
    expect([inDocs.length, inHelp.length]).to.deep.equal([1, 1]);
    const pvbus = `pvbus() { "${process.execPath}" "${PROGRAM}" "$@"; }`;
    const machine = `machine() { printf '%s\\0' started "$@"; }`;
    for (const line of [...inDocs, ...inHelp]) {
      const start = line
        .replace(/keys\.json|FILE/, `"$1"`)
        .replace("qemu-system-x86_64 …", "machine -nodefaults");
      const attempt = (document: string) => {
        writeFileSync(file, document);
        const { status, stdout } = spawnSync("bash", ["-c", `${pvbus}; ${machine}\n${start}`, "bash", file]);
        return [status === 0, stdout.toString().split("\0").slice(0, -1)];
      };
      const all = ["started", "-nodefaults"];
      expect(attempt("{}"), line).to.deep.equal([true, all]);
      const keys = { a: "b c  ", "x y": "$(false) '*'" };
      writeFileSync(file, JSON.stringify({ keys }));
      const made = JSON.parse((await run(["host", "qemu-args", file, "--json"])).stdout);
      expect(made).to.have.length(4);
      expect(attempt(JSON.stringify({ keys })), line).to.deep.equal([true, [...all, ...made]]);
      for (const refused of ["{", '{"keys":{"a":"one\\ntwo"}}', '{"keys":{"f":{"file":"/none"}}}'])
        expect(attempt(refused), `${line} ${refused}`).to.deep.equal([false, []]);
    }
  });

  it("says in ls, and by its exit code, which logs were damaged, until what was kept is removed", async () => {
    await using folder = new HostFolder();
    const state = ["--state", folder.state];
    for (const guest of ["bad", "good", "gone"])
      for (const key of ["a", "b", "c"]) await run(["host", "set", key, "value", ...state, "--guest", guest]);
    const logOf = (guest: string): string => join(folder.state, "guests", guest, "log");
    const flip = (guest: string, at: number): void => {
      const bytes = readFileSync(logOf(guest));
      bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
      writeFileSync(logOf(guest), bytes);
    };
    flip("bad", readFileSync(logOf("bad")).length - 40);
    flip("gone", 3);
    for (const isServed of [false, true]) {
      const host = isServed ? await folder.serve(["good"]) : undefined;
      const all = await run(["host", "ls", ...state]);
      expect([all.code, all.stdout], all.stderr).to.deep.equal([1, "bad\ngone\ngood\n"]);
      const told = all.stderr.trimEnd().split("\n");
      expect(told[0]).to.match(
        /^pvbus: guest bad: its log was damaged and has lost \d+ bytes at offset \d+ \(change 2\); it was kept as /,
      );
      if (!isServed) expect(told[1]).to.match(/^pvbus: guest gone: .*does not begin with a header/);
      const one = await run(["host", "ls", "--json", ...state, "--guest", "bad"]);
      expect([one.code, JSON.parse(one.stdout).length]).to.deep.equal([1, 2]);
      expect(JSON.parse(one.stderr).error).to.include({ code: "ERR_CORRUPT" });
      expect((await run(["host", "ls", ...state, "--guest", "good"])).code).to.equal(0);
      await host?.close();
    }
    rmSync(join(folder.state, "guests", "gone"), { recursive: true });
    for (const name of readdirSync(join(folder.state, "guests", "bad")))
      if (name.startsWith("log.damaged-")) rmSync(join(folder.state, "guests", "bad", name));
    expect(await run(["host", "ls", ...state])).to.deep.equal({ code: 0, stdout: "bad\ngood\n", stderr: "" });
  });

  it("says that a guest's name is none, whether a host serves or not", async () => {
    await using folder = new HostFolder();
    for (const isServed of [false, true]) {
      if (isServed) await folder.serve(["a"]);
      for (const action of [["get", "k"], ["set", "k", "v"], ["rm", "k"], ["ls"]]) {
        const { code, stderr } = await run(["host", ...action, "--state", folder.state, "--guest", "../x"]);
        expect(stderr, action[0]).to.include("'../x' is no guest name");
        expect(code, action[0]).to.equal(2);
      }
    }
    await using keys = await openAdministration(folder.state);
    expect(await keys.get("../x", "k").catch((error) => error)).to.be.instanceOf(TypeError);
    expect(await speak(folder.state, '{"do":"get","guest":"../x","key":"k"}')).to.include("is no guest name");
  });

  it("closes the array of ls when the host falls silent", async () => {
    await using folder = new HostFolder();
    await (await folder.serve(["a"])).close();
    const entry = '{"key":"k","value":"djE="}';
    const server = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.once("data", () => socket.write(`${entry}\n`));
    }).listen(join(folder.state, "control.sock"));
    await once(server, "listening");
    try {
      const args = ["host", "ls", "--json", "--timeout", "1", "--state", folder.state, "--guest", "a"];
      const { code, stdout, stderr } = await run(args);
      expect(JSON.parse(stdout)).to.deep.equal([{ key: "k", value: "v1" }]);
      expect([code, JSON.parse(stderr).error.code]).to.deep.equal([1, "ERR_TIMEOUT"]);
    } finally {
      server.close();
      server.unref();
    }
  });

  it("is named in the documentation with every action", async () => {
    const text = readFileSync(new URL("../../../docs/kvm-host.md", import.meta.url), "utf8");
    const { stderr } = await run(["host", "?"]);
    const actions = stderr.trimEnd().split("there are: ")[1]?.split(", ") ?? [];
    expect(actions).to.have.length.greaterThan(7);
    for (const action of actions) expect(text).to.include(`pvbus host ${action}`);
  });
});
