import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import { LxdProvider, lxdManifest } from "../../../providers/lxd/index.js";
import { locate } from "../../../providers/lxd/transport/locate.js";
import { LxdSimulator, MemoryProvider } from "../../../providers/testing.js";
import { Call } from "../../../src/base/flow/call.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { openPvbus, type PvbusErrorCode } from "../../../src/index.js";
import { manifestOf } from "../../../src/testing/manifest.js";
import { getBootData, tellReady } from "../../../src/tools/index.js";
import { BARE } from "../../support/command-line.js";
import { openOn } from "../../support/lxd/simulated.js";
import { codeOf } from "../../support/memory-interface.js";

const ODD_KEYS = [
  "user.",
  "user.sp ace",
  "user.é",
  "user.a/b",
  "user.p%41",
  "user.q?x",
  "user.h#x",
  "user.nl\nx",
  "user.__proto__",
];

const failed = (promise: Promise<unknown>): Promise<{ code: PvbusErrorCode; message: string }> =>
  promise.then(
    () => expect.fail("it did not fail"),
    (error) => error,
  );

describe("LxdStore", () => {
  for (const product of ["incus", "lxd"] as const)
    for (const instanceType of ["container", "virtual-machine"] as const)
      it(`reads any key in a ${product} ${instanceType}, never another one's value`, async () => {
        const keys = Object.fromEntries(ODD_KEYS.map((key, at) => [key, `value ${at}`]));
        const others = { "user.q": "another", "user.h": "another", "user.pA": "another" };
        await using lxd = await LxdSimulator.listen({ product, instanceType, keys: { ...keys, ...others } });
        const store = await openOn(lxd);
        for (const [key, value] of Object.entries(keys))
          expect(String(await store.read(key, new Call())), key).to.equal(value);
        expect(await store.read("user.absent/?%", new Call())).to.equal(undefined);
        const encoded = lxd.requests.find(({ path }) => path.includes("sp%"))?.path;
        expect(encoded).to.equal(`/1.0/config/user.sp%${instanceType === "container" ? "" : "25"}20ace`);
        expect(new Set(lxd.requests.map(({ method }) => method)), "nothing is ever written").to.deep.equal(
          new Set(["GET"]),
        );
        await store.close();
      });

  it("reads a value that one encoding of an agent of LXD 5.21.4 finds", async () => {
    await using lxd = await LxdSimulator.listen({
      product: "lxd",
      instanceType: "virtual-machine",
      keys: { "user.a b": "1" },
    });
    const store = await openOn(lxd);
    expect(String(await store.read("user.a b", new Call()))).to.equal("1");
    expect(lxd.requests.map(({ path }) => path)).to.deep.equal([
      "/1.0",
      "/1.0/config/user.a%2520b",
      "/1.0/config",
      "/1.0/config/user.a%20b",
    ]);
    await store.close();
  });

  it("keeps its connection, and asks again where the server has closed it", async () => {
    await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1" } });
    const store = await openOn(lxd, { patienceMs: 0 });
    for (let round = 0; round < 3; round++) {
      expect(String(await store.read("user.a", new Call()))).to.equal("1");
      lxd.disconnect();
    }
    await store.close();
  });

  it("waits for a daemon that restarts, not for ever", async () => {
    await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1" } });
    const store = await openOn(lxd, { patienceMs: 5_000 });
    await lxd.kill();
    const reading = store.read("user.a", new Call());
    await lxd.start();
    expect(String(await reading)).to.equal("1");
    await lxd.kill();
    const hasty = await openOn({ path: "/nowhere" }).catch((error: unknown) => error);
    expect(hasty).to.have.property("code", "ERR_UNAVAILABLE");
    const { code, message } = await failed(store.read("user.a", new Call({ timeoutMs: 900 })));
    expect(code).to.equal("ERR_UNAVAILABLE");
    expect(message).to.match(/nobody listens: the daemon on the host is down or restarting/);
    await store.close();
  });

  for (const [name, faults, code, text] of [
    [
      "whoever is not root",
      { notRoot: true },
      "ERR_PERMISSION",
      /only root of this container may use the guest API; this process has uid \d+/,
    ],
    [
      "the host itself",
      { notInside: true },
      "ERR_PERMISSION",
      /does not know this process as part of a container/,
    ],
  ] as const)
    it(`tells ${name} why it is refused, at once`, async () => {
      await using lxd = await LxdSimulator.listen();
      Object.assign(lxd.faults, faults);
      const error = await failed(openOn(lxd, { patienceMs: 60_000 }));
      expect(error.code).to.equal(code);
      expect(error.message).to.match(text);
    });

  it("tells that the API was switched off, on the kept connection of a container, and comes back", async () => {
    await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1" } });
    const store = await openOn(lxd);
    await lxd.enable(false);
    const { code, message } = await failed(store.read("user.a", new Call()));
    expect(code).to.equal("ERR_UNAVAILABLE");
    expect(message).to.match(/the host has switched the guest API off/);
    lxd.disconnect();
    expect(await failed(store.keys(new Call()))).to.have.property("code", "ERR_UNAVAILABLE");
    await lxd.enable(true);
    expect(String(await store.read("user.a", new Call()))).to.equal("1");
    await store.close();
  });

  it("tells that a machine's host does not answer", async () => {
    await using lxd = await LxdSimulator.listen({ instanceType: "virtual-machine", keys: { "user.a": "1" } });
    const store = await openOn(lxd);
    lxd.faults.hostIsAway = true;
    expect((await failed(store.read("user.a", new Call()))).message).to.match(
      /the agent runs, but the host does not answer over vsock/,
    );
    await store.close();
  });

  it("lists a value that is too long without it, and refuses to read it", async () => {
    await using lxd = await LxdSimulator.listen({
      keys: { "user.big": "b".repeat(3000), "user.small": "s" },
    });
    const store = await openOn(lxd, { maxValueBytes: 2999 });
    expect(await failed(store.read("user.big", new Call()))).to.have.property("code", "ERR_VALUE_TOO_LONG");
    const listed: unknown[] = [];
    for await (const { key, value } of store.list("user", new Call()))
      listed.push([key, value && String(value)]);
    expect(listed).to.deep.equal([
      ["user.big", undefined],
      ["user.small", "s"],
    ]);
    await store.close();
  });

  it("tells facts, and ends a hanging request with its call and with its store", async () => {
    await using lxd = await LxdSimulator.listen({ name: "web-1", location: "node-3" });
    const store = await openOn(lxd);
    expect(await store.facts(new Call())).to.deep.equal({
      vmName: "web-1",
      vmId: "52a46bec-c2bf-471e-bc8c-f59f825e1aad",
      hostName: "node-3",
      other: { product: "incus", instanceType: "container", location: "node-3", state: "Started" },
    });
    lxd.faults.hang = () => true;
    expect(await codeOf(store.read("user.a", new Call({ timeoutMs: 50 })))).to.equal("ERR_TIMEOUT");
    expect(await codeOf(store.read("user.a", new Call({ signal: AbortSignal.timeout(50) })))).to.equal(
      "ERR_ABORTED",
    );
    const reading = codeOf(store.read("user.a", new Call()));
    await new Promise(setImmediate);
    await store.close();
    expect(await reading).to.equal("ERR_DISCONNECTED");
  });

  it("refuses keys that no guest sees before anything is sent", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await openOn(lxd);
    const before = lxd.requests.length;
    for (const key of ["limits.memory", "volatile.x", "user", "../config", "USER.a"])
      expect(await codeOf(store.read(key, new Call()))).to.equal("ERR_KEY_INVALID");
    expect(await codeOf(store.read(`user.${"k".repeat(5000)}`, new Call()))).to.equal("ERR_KEY_TOO_LONG");
    expect(lxd.requests).to.have.length(before);
    await store.close();
  });
});

describe("LXD's guest API", () => {
  it("does not load ws before a watch", async () => {
    await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1" } });
    const script = `
      import { createRequire } from "node:module";
      import { openPvbus } from "./dist/src/index.js";
      const { cache } = createRequire(import.meta.url);
      const isLoaded = () => Object.keys(cache).some((path) => /node_modules\\/ws\\//.test(path));
      const bus = await openPvbus({ detect: false, interfaces: [{ type: "LXD", channel: process.argv[1] }] });
      const value = await bus.primary.read("user.a");
      const before = isLoaded();
      for await (const _ of bus.primary.watch("user", { timeoutMs: 500 }));
      console.log(value, before, isLoaded());
      await bus.close();`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--input-type=module",
      "-e",
      script,
      `unix:${lxd.path}`,
    ]);
    expect(stdout.trim()).to.equal("1 false true");
  });

  it("takes Ready by the state, and tells of an LXD that is too old and of failures", async () => {
    for (const [product, sent, detail] of [
      ["incus", true, /^Ready$/],
      ["lxd", false, /5\.5 and later/],
    ] as const) {
      await using lxd = await LxdSimulator.listen({ product });
      await using bus = await openPvbus({
        detect: false,
        interfaces: [{ type: "LXD", channel: `unix:${lxd.path}` }],
      });
      const signals = await tellReady(bus);
      const state = signals.find(({ signal }) => signal === "instance state");
      expect(state?.sent).to.equal(sent);
      expect(state?.detail).to.match(detail);
      expect(lxd.state).to.equal(sent ? "Ready" : "");
      const failure = (await tellReady(bus, { ready: false })).find(
        ({ signal }) => signal === "instance state",
      );
      expect(failure).to.include({ sent: false });
    }
  });

  it("gives boot data under cloud-init's keys, the stronger ones first", async () => {
    const keys = {
      "cloud-init.user-data": "#cloud-config\nnew: 1\n",
      "user.user-data": "#cloud-config\nold: 1\n",
      "user.vendor-data": "v",
    };
    await using lxd = await LxdSimulator.listen({ keys, name: "web-1" });
    await using bus = await openPvbus({
      detect: false,
      interfaces: [{ type: "LXD", channel: `unix:${lxd.path}` }],
    });
    const found = await getBootData(bus, "user-data");
    expect([found?.key, String(Buffer.from(found?.value ?? []))]).to.deep.equal([
      "cloud-init.user-data",
      keys["cloud-init.user-data"],
    ]);
    expect((await getBootData(bus, "vendor-data"))?.key).to.equal("user.vendor-data");
    expect(String(Buffer.from((await getBootData(bus, "meta-data"))?.value ?? []))).to.match(
      /local-hostname: web-1/,
    );
    expect(await getBootData(bus, "network-config")).to.equal(undefined);
  });

  it("answers portable reads beside a hypervisor's store that gives nothing, and publishes nothing", async () => {
    await using lxd = await LxdSimulator.listen({
      instanceType: "virtual-machine",
      keys: { "user.com.example.config": "by Incus" },
    });
    const kvm = new MemoryProvider();
    const beside = { ...manifestOf({ id: "memory", type: "Memory" }, () => kvm), locate: () => true };
    await using bus = await openPvbus({
      snapshot: BARE,
      providers: [beside],
      interfaces: [{ type: "Memory" }, { type: "LXD", channel: `unix:${lxd.path}` }],
    });
    expect(bus.primary?.type).to.equal("Memory");
    const view = bus.portable("com.example");
    expect(await view.get("config")).to.equal("by Incus");
    await view.publish("status", "up");
    expect(await bus.primary?.read("guest/com.example/status")).to.equal("up");
    const alone = bus.portable("com.example", { type: "LXD" });
    expect(await codeOf(alone.publish("status", "up"))).to.equal("ERR_NOT_SUPPORTED");
    expect(await codeOf(bus.byType("LXD")?.write("user.a", "1") ?? Promise.resolve())).to.equal(
      "ERR_NOT_SUPPORTED",
    );
    const error = await failed(bus.byType("LXD")?.delete("user.a") ?? Promise.resolve());
    expect(error.message).to.include("incus config set NAME user.KEY=VALUE");
  });

  describe("is located", () => {
    let root = "";
    const host = () => nodeHost({ platform: "linux", sysroot: root });
    const put = (path: string, text?: string): void => {
      const place = join(root, path);
      mkdirSync(text === undefined ? place : join(place, ".."), { recursive: true });
      if (text !== undefined) writeFileSync(place, text);
    };
    beforeEach(() => {
      root = mkdtempSync(join(tmpdir(), "pvbus-lxd-root-"));
    });
    afterEach(() => rmSync(root, { recursive: true }));

    it("not where nothing shows it", async () => {
      expect(locate(host())).to.equal(false);
      put("dev/incus");
      put("sys/class/dmi/id/board_vendor", "Canonical Ltd.\n");
      put("sys/class/dmi/id/board_name", "NUC\n");
      expect(locate(host())).to.equal(false);
      expect(await lxdManifest.locate?.(nodeHost({ platform: "freebsd", sysroot: root }))).to.equal(false);
    });

    it("by its socket, once where a link gives it a second name", async () => {
      put("dev/incus");
      symlinkSync("incus", join(root, "dev/lxd"));
      const server = createServer().listen(join(root, "dev/incus/sock"));
      try {
        expect(locate(host())).to.deep.equal({
          evidence: [{ source: "path", detail: "/dev/incus/sock is a socket" }],
          details: { product: "incus" },
        });
        await using bus = await openPvbus({ sysroot: root });
        expect(bus.interfaces.map(({ type, role }) => [type, role])).to.deep.equal([["LXD", "guest-api"]]);
        expect(bus.detection).to.include({ virtual: false, primary: null });
      } finally {
        server.close();
      }
    });

    it("by what stays in a container whose API is off, and by a machine's firmware before its agent runs", async () => {
      put("dev/.lxd-mounts");
      put("sys/class/dmi/id/board_vendor", "LinuxContainers\n");
      put("sys/class/dmi/id/board_name", "Incus\n");
      const container = locate(host());
      expect(container).to.deep.include({ details: { product: "lxd", instanceType: "container" } });
      const off = await failed(new LxdProvider(host()).open({}, new Call()));
      expect(off.message).to.match(
        /switched the guest API off for this container; .*lxc config set NAME security.devlxd=true/,
      );
      rmSync(join(root, "dev/.lxd-mounts"), { recursive: true });
      expect(locate(host())).to.deep.equal({
        evidence: [{ source: "dmi", detail: "board_vendor: LinuxContainers, board_name: Incus" }],
        details: { product: "incus", instanceType: "virtual-machine" },
      });
      const [check] = await new LxdProvider(host()).diagnose({});
      expect(check?.why).to.match(
        /this VM runs on Incus, whose guest API needs incus-agent, which is not running/,
      );
    });
  });
});

describe("LxdSimulator", () => {
  interface Vector {
    readonly on: string;
    readonly request: readonly [method: string, path: string, body?: string];
    readonly status: number;
    readonly type: string;
    readonly body: string;
  }
  const TEXT = "text/plain; charset=utf-8";
  const JSON_TYPE = "application/json";
  const BYTES = "application/octet-stream";
  const v = (on: string, request: Vector["request"], status: number, type: string, body: string): Vector => ({
    on,
    request,
    status,
    type,
    body,
  });
  /** Recorded from real daemons: reference of the protocol, section 9. */
  const VECTORS: readonly Vector[] = [
    v("CLV", ["GET", "/"], 200, JSON_TYPE, '["/1.0"]\n'),
    v(
      "L",
      ["GET", "/1.0"],
      200,
      JSON_TYPE,
      '{"state":"","api_version":"1.0","instance_type":"container","location":"none"}\n',
    ),
    v(
      "C",
      ["GET", "/1.0"],
      200,
      JSON_TYPE,
      '{"state":"Started","api_version":"1.0","instance_type":"container","location":"vm"}\n',
    ),
    v(
      "V",
      ["GET", "/1.0"],
      200,
      JSON_TYPE,
      '{"state":"Started","api_version":"1.0","instance_type":"virtual-machine","location":"(none)"}\n',
    ),
    v("CLV", ["GET", "/1.0/config/user.a"], 200, BYTES, "blah"),
    v("CLV", ["GET", "/1.0/config/user.missing"], 404, TEXT, "not found\n"),
    v("CLV", ["GET", "/1.0/config/limits.memory"], 403, TEXT, "not authorized\n"),
    v("CLV", ["GET", "/1.0/"], 404, TEXT, "404 page not found\n"),
    v(
      "CL",
      ["GET", "/1.0/meta-data"],
      200,
      BYTES,
      "#cloud-config\ninstance-id: 52a46bec-c2bf-471e-bc8c-f59f825e1aad\nlocal-hostname: c1\n",
    ),
    v("CLV", ["PUT", "/1.0/config/user.a", "zzz"], 200, BYTES, "blah"),
    v("C", ["POST", "/1.0", "{}"], 405, TEXT, 'method "POST" not allowed\n'),
    v("V", ["POST", "/1.0", "{}"], 400, TEXT, 'method "POST" not allowed\n'),
    v("CV", ["PATCH", "/1.0", '{"state":"Bogus"}'], 400, TEXT, 'Invalid state "Bogus"\n'),
    v("CV", ["PATCH", "/1.0", '{"state":"Ready"}'], 200, BYTES, ""),
    v(
      "V",
      ["GET", "/1.0/config/user.a%2Fb"],
      500,
      TEXT,
      "Failed to fetch https://custom.socket/1.0/config/user.a/b: 404 Not Found\n",
    ),
    v("V", ["GET", "/1.0/config/user.a%252Fb"], 200, BYTES, "2"),
    v("CL", ["GET", "/1.0/config/user.2049"], 200, BYTES, "b".repeat(2049)),
  ];
  const KINDS = {
    C: { product: "incus", instanceType: "container" },
    L: { product: "lxd", instanceType: "container" },
    V: { product: "incus", instanceType: "virtual-machine", location: "(none)" },
  } as const;

  for (const [letter, kind] of Object.entries(KINDS))
    it(`answers as ${kind.product} in a ${kind.instanceType} was recorded`, async () => {
      const keys = {
        "user.a": "blah",
        "user.a/b": "2",
        "user.2049": "b".repeat(2049),
        "limits.memory": "1GiB",
      };
      await using lxd = await LxdSimulator.listen({ ...kind, keys });
      for (const {
        on,
        request: [method, path, body],
        ...expected
      } of VECTORS.filter((each) => each.on.includes(letter))) {
        const answer = await new Promise<object>((resolve, reject) => {
          const asked = request({ socketPath: lxd.path, method, path }, async (response) => {
            let text = "";
            for await (const chunk of response.setEncoding("utf8")) text += chunk;
            const { "content-type": type, "content-length": length } = response.headers;
            expect(length, path).to.equal(text.length < 2049 ? String(Buffer.byteLength(text)) : undefined);
            resolve({ status: response.statusCode, type, body: text });
          });
          asked.on("error", reject).end(body);
        });
        expect(answer, `${on} ${method} ${path}`).to.deep.equal(expected);
      }
    });

  it("answers raw what has no usual form: a bad escape, the plain stream, an upgrade without a version", async () => {
    await using lxd = await LxdSimulator.listen({ product: "lxd" });
    const raw = (head: string): Promise<string> =>
      new Promise((resolve) => {
        let text = "";
        const socket = connect(lxd.path);
        socket.write(`${head}\r\nHost: x\r\n\r\n`);
        socket.on("data", (chunk) => {
          text += chunk;
          socket.end();
        });
        socket.on("close", () => resolve(text));
      });
    expect(await raw("GET /1.0/config/user.bad%zz HTTP/1.1")).to.equal(
      "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
    );
    const stream = await raw("GET /1.0/events?type=bogus HTTP/1.1");
    expect(stream)
      .to.have.length(103)
      .and.match(/^HTTP\/1\.1 200 OK\nConnection: keep-alive\n/);
    expect(await raw("GET /1.0/events HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket")).to.match(
      /^HTTP\/1\.1 400[\s\S]*Sec-Websocket-Version: 13[\s\S]*Bad Request\ninternal server error\n$/,
    );
  });
});
