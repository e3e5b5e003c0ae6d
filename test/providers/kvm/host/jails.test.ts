import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { expect } from "chai";
import {
  MetadataHost,
  openAdministration,
  parseEndpoint,
  type ServedGuest,
} from "../../../../providers/kvm/host/index.js";
import { PvbusError } from "../../../../src/base/errors.js";
import { budget, patience, repeat, report } from "../../../support/campaign.js";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";
import { pending } from "../../../support/pending.js";
import { rejects } from "../../../support/rejects.js";
import { JAIL_OWNER } from "./jail-owner.js";

const SECONDS = budget(2, 20);
const NOBODY = 65_534;
const OWNER = { uid: NOBODY, gid: NOBODY };

/** All that changes with any change of a tree's files, names, owners and modes. */
function look(root: string): Record<string, unknown> {
  const names = [".", ...(readdirSync(root, { recursive: true }) as string[])];
  return Object.fromEntries(
    names.map((name) => {
      const { ino, uid, gid, mode, nlink, size, mtimeMs, ctimeMs } = lstatSync(join(root, name));
      return [name, { ino, uid, gid, mode, nlink, size, mtimeMs, ctimeMs }];
    }),
  );
}

/** Makes a socket that nobody serves any more. */
async function leftover(path: string): Promise<void> {
  const server = createServer().listen(`${path}.new`);
  await once(server, "listening");
  renameSync(`${path}.new`, path);
  await new Promise((resolve) => server.close(resolve));
}

describe("KVM host and the owners of its sockets' directories", function () {
  this.timeout(patience(SECONDS));
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "pvbus-jails-"));
    chmodSync(root, 0o755);
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  function directory(path: string, mode: number, owner = process.geteuid?.() ?? 0): string {
    mkdirSync(join(root, path));
    chmodSync(join(root, path), mode);
    chownSync(join(root, path), owner, owner);
    return join(root, path);
  }

  function guest(path: string, settings: Partial<ServedGuest> = {}): Partial<ServedGuest> {
    return { name: "a", endpoints: [parseEndpoint(`unix:${path}`)], ...settings };
  }

  function onlyRoot(self: Mocha.Context): void {
    if (process.geteuid?.() !== 0) pending(self, "root, to serve directories of others");
    if (process.platform !== "linux") pending(self, "Linux, where directories are held by descriptors");
  }

  it("change nothing outside of them, whatever they swap in and however fast", async function () {
    onlyRoot(this);
    const outside = directory("outside", 0o755);
    const file = join(outside, "precious");
    writeFileSync(file, "root's", { mode: 0o600 });
    // What a host would take for a leftover of its own.
    await leftover(join(outside, "v.sock"));
    mkdirSync(join(outside, "way"));
    const jail = directory("jail", 0o755, NOBODY);
    directory("jail/way", 0o755, NOBODY);
    const before = look(outside);

    await using folder = new HostFolder();
    const host = await folder.serve([]);
    const child = spawn(process.execPath, ["-e", JAIL_OWNER, jail, file, outside], {
      uid: NOBODY,
      gid: NOBODY,
      cwd: "/",
      env: {},
      stdio: ["pipe", "pipe", "inherit"],
    });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    const gone = once(child, "close");
    await once(child.stdout, "data");
    let served = 0;
    let refused = 0;
    const serve = async (name: string, path: string): Promise<void> => {
      try {
        await host.add({ name, endpoints: [parseEndpoint(`unix:${path}`)], socketOwner: OWNER });
        served++;
        await host.remove(name);
      } catch (error) {
        if (!PvbusError.is(error)) throw error;
        refused++;
      }
    };
    try {
      await repeat(SECONDS, async () => {
        await serve("a", join(jail, "v.sock"));
        await serve("b", join(jail, "way/v.sock"));
        expect(look(outside)).to.deep.equal(before);
      });
    } finally {
      child.stdin.end();
      await gone;
    }
    const swaps = Number(said.split("\n")[1]);
    report("jails", { served, refused, swaps });
    expect(look(outside)).to.deep.equal(before);
    expect(swaps).to.be.greaterThan(0);
    expect(served).to.be.greaterThan(0);
  });

  it("is refused where others than root and the socket's owner may write", async function () {
    onlyRoot(this);
    await using folder = new HostFolder();
    const host = await folder.serve([]);
    const rows: [string, string, Partial<ServedGuest>, RegExp][] = [
      ["group", directory("group", 0o775), {}, /can be written by its group/],
      ["all", directory("all", 0o777), { socketOwner: OWNER }, /can be written by all users/],
      ["sticky", directory("sticky", 0o1777), { socketOwner: OWNER }, /can be written by all users/],
      ["theirs", directory("theirs", 0o700, NOBODY), {}, /belongs to user 65534/],
      [
        "else",
        directory("else", 0o700, 1),
        { socketOwner: OWNER },
        /belongs to user 1;.* socketOwner \(65534\)/,
      ],
      ["on the way", directory("theirs/ours", 0o700), {}, /theirs belongs to user 65534/],
    ];
    for (const [name, at, settings, message] of rows) {
      const { endpoints = [] } = guest(join(at, "v.sock"));
      const error = await rejects(host.add({ name: "a", endpoints, ...settings }), "ERR_PERMISSION");
      expect(error.message, name).to.match(message);
      expect(readdirSync(at), name).to.not.include("v.sock");
    }
    for (const [at, settings] of [
      [directory("sticky/ours", 0o700), { socketOwner: OWNER }],
      [join(root, "sticky"), {}],
      [join(root, "theirs"), { socketOwner: OWNER }],
    ] as const) {
      await host.add({ name: "a", endpoints: guest(join(at, "v.sock")).endpoints ?? [], ...settings });
      const { uid, mode } = lstatSync(join(at, "v.sock"));
      const owner = "socketOwner" in settings ? NOBODY : 0;
      expect([uid, mode & 0o777], at).to.deep.equal([owner, 0o600]);
      await host.remove("a");
      expect(readdirSync(at), at).to.not.include("v.sock");
    }
  });

  it("are led by links of root alone, both where the host listens and where it dials", async function () {
    onlyRoot(this);
    const place = directory("place", 0o755);
    const theirs = directory("theirs", 0o755, NOBODY);
    symlinkSync(place, join(root, "link"));
    symlinkSync(place, join(theirs, "theirs"));
    lchownSync(join(theirs, "theirs"), NOBODY, NOBODY);
    symlinkSync(place, join(theirs, "roots"));
    await using folder = new HostFolder();
    const host = await folder.serve([guest(join(root, "link/v.sock"))]);
    await using seen = await TestGuest.connect(join(place, "v.sock"));
    expect(await seen.put("a", "1")).to.equal("OK");
    for (const name of ["theirs", "roots"]) {
      const path = join(theirs, name, "w.sock");
      const listening = { name: "b", endpoints: guest(path).endpoints ?? [], socketOwner: OWNER };
      expect((await rejects(host.add(listening), "ERR_PERMISSION")).message).to.include("is a link");
    }
    const machine = createServer((socket) => socket.destroy()).listen(join(place, "qemu.sock"));
    await once(machine, "listening");
    let met = 0;
    machine.on("connection", () => met++);
    for (const [name, path] of Object.entries({ c: join(theirs, "theirs"), d: join(root, "link") })) {
      const said = folder.events.length;
      await host.add({ name, endpoints: [parseEndpoint(`connect:${path}/qemu.sock`)] });
      if (name === "d") await once(machine, "connection");
      while (folder.events.length === said) await new Promise(setImmediate);
      await host.remove(name);
    }
    await new Promise((resolve) => machine.close(resolve));
    const waited = folder.events.filter(({ event }) => event === "waiting for the hypervisor's socket");
    expect(waited).to.have.length(1);
    expect(waited[0]?.fields).to.include({ guest: "c" });
    expect(String(waited[0]?.fields["reason"])).to.match(/theirs is a link, and it or its directory belongs/);
    expect(met).to.be.greaterThan(0);
  });

  it("keep what they put in the place of a socket, before and after", async function () {
    onlyRoot(this);
    const jail = directory("jail", 0o700, NOBODY);
    const path = join(jail, "v.sock");
    const settings = { name: "a", endpoints: guest(path).endpoints ?? [], socketOwner: OWNER };
    await using folder = new HostFolder();
    const host = await folder.serve([]);
    await host.add(settings);
    rmSync(path);
    writeFileSync(path, "theirs");
    await host.remove("a");
    expect(lstatSync(path).size).to.equal(6);
    expect((await rejects(host.add(settings), "ERR_UNAVAILABLE")).message).to.include("is no socket");
    rmSync(path);
    symlinkSync(join(root, "nothing"), path);
    expect((await rejects(host.add(settings), "ERR_UNAVAILABLE")).message).to.include("is no socket");
    rmSync(path);
    await leftover(path);
    chownSync(path, 1, 1);
    const error = await rejects(host.add(settings), "ERR_PERMISSION");
    expect(error.message).to.include("is a socket of user 1");
    chownSync(path, NOBODY, NOBODY);
    await host.add(settings);
    await host.close();
    expect(readdirSync(jail)).to.deep.equal([]);
  });

  it("get a socket from a worker thread too, which has no mask, and it leaves no file behind", async () => {
    const place = directory("place", 0o755);
    const module = new URL("../../../../providers/kvm/host/endpoints.js", import.meta.url).href;
    const text = `
      import { statSync } from "node:fs";
      import { parentPort } from "node:worker_threads";
      const { listen } = await import(${JSON.stringify(module)});
      const path = ${JSON.stringify(join(place, "v.sock"))};
      const close = await listen(path, { onConnection: async () => undefined });
      parentPort.postMessage(statSync(path).mode & 0o777);
      await close();`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(text)}`));
    // Both at once: a message that waits for the end is told in the same turn as the end.
    const [[mode]] = await Promise.all([once(worker, "message"), once(worker, "exit")]);
    expect(mode).to.equal(0o600);
    expect(readdirSync(place)).to.deep.equal([]);
  });
});

describe("KVM host and the owner of its state", () => {
  let root: string;

  beforeEach(function () {
    if (process.geteuid?.() !== 0) pending(this, "root, to give directories away");
    root = mkdtempSync(join(tmpdir(), "pvbus-jails-"));
  });
  afterEach(() => {
    if (root !== undefined) rmSync(root, { recursive: true, force: true });
  });

  it("is refused, whichever of the directories is somebody else's, by whoever comes", async () => {
    const state = join(root, "deep/state");
    const parts = ["deep", "deep/state", "deep/state/guests", "deep/state/guests/a"];
    {
      // What is not there is made, and ours.
      await using keys = await openAdministration(state);
      await keys.set("a", "k", Buffer.from("v"));
    }
    for (const part of parts) expect(lstatSync(join(root, part)).mode & 0o777, part).to.equal(0o700);
    for (const part of parts) {
      for (const spoil of [
        () => chownSync(join(root, part), NOBODY, NOBODY),
        () => chmodSync(join(root, part), 0o770),
      ]) {
        spoil();
        const visit = async (): Promise<void> => {
          await using keys = await openAdministration(state);
          await keys.get("a", "k");
        };
        const { message } = await rejects(visit(), "ERR_PERMISSION");
        expect(message)
          .to.include(join(root, part))
          .and.match(/belongs to user 65534|written by its group/);
        const serve = MetadataHost.start({ directory: state, guests: [{ name: "a", endpoints: [] }] });
        await rejects(serve, "ERR_PERMISSION");
        chownSync(join(root, part), 0, 0);
        chmodSync(join(root, part), 0o700);
      }
    }
    await using keys = await openAdministration(state);
    expect(Buffer.from((await keys.get("a", "k")) ?? []).toString()).to.equal("v");
  });

  it("is not obeyed: nothing is made behind a link of his", async () => {
    const theirs = join(root, "theirs");
    const outside = join(root, "outside");
    mkdirSync(outside);
    mkdirSync(theirs);
    symlinkSync(outside, join(theirs, "state"));
    for (const path of [theirs, join(theirs, "state")]) lchownSync(path, NOBODY, NOBODY);
    await rejects(openAdministration(join(theirs, "state/deeper")), "ERR_PERMISSION");
    await rejects(openAdministration(join(theirs, "new")), "ERR_PERMISSION");
    expect(readdirSync(outside)).to.deep.equal([]);
    expect(readdirSync(theirs)).to.deep.equal(["state"]);
  });
});
