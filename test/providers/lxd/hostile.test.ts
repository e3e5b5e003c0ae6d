import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { LxdSimulator } from "../../../providers/testing.js";
import { Call } from "../../../src/base/flow/call.js";
import { follow, openOn, storeWith } from "../../support/lxd/simulated.js";
import { codeOf } from "../../support/memory-interface.js";

const OCTETS = "Content-Type: application/octet-stream\r\n";
const JSON_HEAD = "Content-Type: application/json\r\n";
const ok = (head: string, body: string): string =>
  `HTTP/1.1 200 OK\r\n${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** Bytes that are sent in place of the answer to a read, and what the read ends with. */
const READS: readonly (readonly [what: string, bytes: string | Uint8Array, code: string])[] = [
  ["no head at all", "garbage garbage garbage\r\n\r\n", "ERR_PROTOCOL"],
  ["a head with bare LF", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "ERR_PROTOCOL"],
  ["an endless head", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(100_000)}`, "ERR_PROTOCOL"],
  ["a wrong length", `HTTP/1.1 200 OK\r\n${OCTETS}Content-Length: 100\r\n\r\nshort`, "ERR_UNAVAILABLE"],
  ["a negative length", `HTTP/1.1 200 OK\r\n${OCTETS}Content-Length: -1\r\n\r\nx`, "ERR_PROTOCOL"],
  [
    "a length beyond all limits",
    `HTTP/1.1 200 OK\r\n${OCTETS}Content-Length: 99999999999\r\n\r\n`,
    "ERR_VALUE_TOO_LONG",
  ],
  [
    "chunks without an end",
    `HTTP/1.1 200 OK\r\n${OCTETS}Transfer-Encoding: chunked\r\n\r\n${`10000\r\n${"x".repeat(0x10000)}\r\n`.repeat(40)}`,
    "ERR_VALUE_TOO_LONG",
  ],
  [
    "a chunk of no size",
    `HTTP/1.1 200 OK\r\n${OCTETS}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
    "ERR_PROTOCOL",
  ],
  ["the wrong type, as for an unknown path", ok(JSON_HEAD, '["/1.0"]\n'), "ERR_PROTOCOL"],
  ["no type", ok("", "value"), "ERR_PROTOCOL"],
  [
    "a redirect",
    "HTTP/1.1 301 Moved Permanently\r\nLocation: /1.0/config/user.b\r\nContent-Length: 0\r\n\r\n",
    "ERR_PROTOCOL",
  ],
  [
    "101 without being asked",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "ERR_PROTOCOL",
  ],
  [
    "a page in place of 'not found'",
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\r\n404 page not found\n",
    "ERR_PROTOCOL",
  ],
  ["501", "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n", "ERR_PROTOCOL"],
];

const paths = (...keys: readonly unknown[]): string => JSON.stringify(keys);

/** Bodies of a listing, and what the listing ends with: the keys, or a code. */
const LISTS: readonly (readonly [what: string, body: string, expected: readonly string[] | string])[] = [
  ["something else than strings", paths("/1.0/config/user.a", 7), "ERR_PROTOCOL"],
  ["no list", '{"user.a":1}', "ERR_PROTOCOL"],
  ["no JSON", "user.a", "ERR_PROTOCOL"],
  ["JSON 10,000 levels deep", `${"[".repeat(10_000)}${"]".repeat(10_000)}`, "ERR_PROTOCOL"],
  [
    "more keys than there can be",
    JSON.stringify(Array.from({ length: 100_001 }, (_, at) => `/1.0/config/user.${at}`)),
    "ERR_PROTOCOL",
  ],
  [
    "paths without the front, and of other namespaces",
    paths("user.a", "/2.0/config/user.b", "/1.0/config/limits.x", "/1.0/config/user.c"),
    ["user.c"],
  ],
  ["a key twice", paths("/1.0/config/user.a", "/1.0/config/user.a"), ["user.a"]],
  [
    "names that every object has",
    paths("/1.0/config/user.__proto__", "/1.0/config/__proto__", "/1.0/config/user.constructor"),
    ["user.__proto__", "user.constructor"],
  ],
  ["invalid UTF-8", `["/1.0/config/user.\u00ff"]`, ["user.\u00ff"]],
];

describe("LxdStore on a hostile peer", () => {
  for (const [what, bytes, code] of READS)
    it(`refuses ${what}`, async () => {
      await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1" } });
      const store = await openOn(lxd, { maxValueBytes: 1 << 20, patienceMs: 0 });
      lxd.faults.replace = () => bytes;
      const error = await store.read("user.a", new Call({ timeoutMs: 5_000 })).catch((each: unknown) => each);
      expect(error).to.have.property("code", code === "ERR_UNAVAILABLE" ? "ERR_DISCONNECTED" : code);
      expect((error as Error).message).to.match(/^[\x20-\x7e]{1,600}$/);
      lxd.faults.replace = undefined;
      expect(String(await store.read("user.a", new Call())), "a later read").to.equal("1");
      await store.close();
    });

  for (const [what, body, expected] of LISTS)
    it(`takes a list with ${what} as it must`, async () => {
      await using lxd = await LxdSimulator.listen();
      const store = await openOn(lxd, { patienceMs: 0 });
      lxd.faults.replace = ({ path }) => (path === "/1.0/config" ? ok(JSON_HEAD, body) : undefined);
      if (typeof expected === "string") expect(await codeOf(store.keys(new Call()))).to.equal(expected);
      else expect(await store.keys(new Call())).to.deep.equal(expected);
      await store.close();
    });

  it("never prints what the peer said raw", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await openOn(lxd, { patienceMs: 0 });
    lxd.faults.replace = () =>
      "HTTP/1.1 418 \u001b[31m\r\nContent-Type: te\u009bxt\r\nContent-Length: 9\r\n\r\n\u001b[2J\u0007evil";
    const error = await store.read("user.a", new Call()).catch((each: unknown) => each);
    expect((error as Error).message).to.match(/^[\x20-\x7e]+$/);
    await store.close();
  });

  it("opens on nothing that is no guest API", async () => {
    await using lxd = await LxdSimulator.listen();
    for (const body of [
      '{"instance_type":"toaster"}',
      '["/1.0"]',
      "null",
      "{",
      '{"instance_type":{"toString":1}}',
    ]) {
      lxd.faults.replace = () => ok(JSON_HEAD, body);
      expect(await codeOf(openOn(lxd, { patienceMs: 0 })), body).to.equal("ERR_PROTOCOL");
    }
    lxd.faults.replace = () => ok(OCTETS, '{"instance_type":"container"}');
    expect(await codeOf(openOn(lxd, { patienceMs: 0 }))).to.equal("ERR_PROTOCOL");
  });

  it("gives up on a peer that says nothing, at the call's end", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-mute-"));
    const path = join(folder, "sock");
    const peers = new Set<Socket>();
    const server: Server = createServer((peer) => peers.add(peer)).listen(path);
    try {
      const { LxdProvider } = await import("../../../providers/lxd/index.js");
      const { nodeHost } = await import("../../../src/base/host/node-host.js");
      const provider = new LxdProvider(nodeHost({ platform: "linux" }));
      const began = performance.now();
      const opening = provider.open({ channel: `unix:${path}` }, new Call({ timeoutMs: 100 }));
      expect(await codeOf(opening)).to.equal("ERR_TIMEOUT");
      expect(performance.now() - began).to.be.lessThan(2_000);
    } finally {
      for (const each of peers) each.destroy();
      server.close();
      rmSync(folder, { recursive: true });
    }
  });

  /** What a stream of events may hold; none of it ends the watch, and none is taken for a change. */
  const EVENTS: readonly (readonly [what: string, tell: (lxd: LxdSimulator) => void])[] = [
    ["no JSON", (lxd) => lxd.tell("{{{")],
    ["JSON of another kind", (lxd) => lxd.tell('[1,null,{"type":7}]')],
    [
      "a key of another namespace",
      (lxd) => lxd.tell('{"type":"config","metadata":{"key":"limits.x","value":"1"}}'),
    ],
    [
      "a key that nobody has",
      (lxd) => lxd.tell('{"type":"config","metadata":{"key":"user.lie","value":"1"}}'),
    ],
    [
      "a value that is a lie",
      (lxd) => lxd.tell('{"type":"config","metadata":{"key":"user.a","value":"lie"}}'),
    ],
    [
      "__proto__",
      (lxd) => lxd.tell('{"type":"config","__proto__":{"key":"user.x"},"metadata":{"key":"__proto__"}}'),
    ],
    [
      "a time stamp of any kind",
      (lxd) => lxd.tell('{"type":"config","timestamp":{},"metadata":{"key":"user.a"}}'),
    ],
    ["JSON 10,000 levels deep", (lxd) => lxd.tell("[".repeat(10_000))],
    ["a message of two mebibytes", (lxd) => lxd.tell("x".repeat(2 << 20))],
    ["a compressed frame", (lxd) => lxd.tellRaw(Buffer.from([0xc1, 0x01, 0x00]))],
    ["a masked frame", (lxd) => lxd.tellRaw(Buffer.from([0x81, 0x81, 1, 2, 3, 4, 5]))],
    ["a frame beyond all limits", (lxd) => lxd.tellRaw(Buffer.from([0x81, 0x7f, 0, 0, 0, 1, 0, 0, 0, 0]))],
    [
      "events without end",
      (lxd) => {
        for (let at = 0; at < 20_000; at++) lxd.tell(`{"type":"config","metadata":{"key":"user.k${at}"}}`);
      },
    ],
  ];
  for (const [what, tell] of EVENTS)
    it(`goes on behind ${what} among the events`, async () => {
      await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1" } });
      const store = await storeWith(lxd, {}, 600_000);
      const watch = await follow(store);
      tell(lxd);
      await new Promise((resolve) => setTimeout(resolve, 10));
      lxd.set("user.end", "reached");
      await watch.comes("user.end", "reached");
      expect(watch.changes).to.deep.equal([["user.end", "reached"]]);
      await watch.end();
      await store.close();
    });

  it("refuses a stream that is no WebSocket", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await storeWith(lxd);
    const bad =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n";
    lxd.faults.replace = ({ upgrade }) => (upgrade ? bad : undefined);
    expect(await codeOf(follow(store))).to.equal("ERR_PROTOCOL");
    lxd.faults.replace = ({ upgrade }) => (upgrade ? ok(JSON_HEAD, '["/1.0"]\n') : undefined);
    expect(await codeOf(follow(store))).to.equal("ERR_PROTOCOL");
    await store.close();
  });

  it("keeps no process alive that wants to end while a peer hangs", async () => {
    await using lxd = await LxdSimulator.listen();
    const script = `
      import { openPvbus } from "./dist/src/index.js";
      const bus = await openPvbus({ detect: false, interfaces: [{ type: "LXD", channel: process.argv[1] }] });
      await bus.primary.read("user.a");
      console.log("idle");`;
    const { execFile } = await import("node:child_process");
    const { promisify } = await import("node:util");
    // The bus stays open: a kept connection is no reason to live.
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--input-type=module", "-e", script, `unix:${lxd.path}`],
      { timeout: 20_000 },
    );
    expect(stdout).to.equal("idle\n");
  });
});
