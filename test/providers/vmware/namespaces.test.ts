import { expect } from "chai";
import { VmxHost } from "../../../providers/testing.js";
import { RpciSession, type VmwareNamespace, VmwareStore } from "../../../providers/vmware/index.js";
import { ExchangeFailure, type RpcTransport } from "../../../providers/vmware/transport/rpc-transport.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { Call } from "../../../src/index.js";
import { rejects } from "../../support/rejects.js";

const call = (): Call => new Call({ timeoutMs: 5000 });

/** The host itself, by a way that is privileged; what the next exchanges do the test may change. */
class Direct implements RpcTransport {
  readonly name = "direct";
  privileged = true;
  readonly host: VmxHost;
  before: (() => void) | undefined;
  after: (() => void) | undefined;

  constructor(host: VmxHost) {
    this.host = host;
  }

  async prepare(): Promise<void> {
    await Promise.resolve();
  }

  async exchange(request: Uint8Array): Promise<Uint8Array> {
    const [before, after] = [this.before, this.after];
    this.before = undefined;
    this.after = undefined;
    before?.();
    const reply = this.host.answer(request, { privileged: this.privileged });
    after?.();
    return reply;
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

function setUp(): { host: VmxHost; way: Direct; store: VmwareStore } {
  const host = new VmxHost();
  const way = new Direct(host);
  return { host, way, store: new VmwareStore(new RpciSession({ first: way, logger: SILENT })) };
}

const breaking = (): never => {
  throw new ExchangeFailure("ERR_DISCONNECTED", "it broke", { executed: true });
};

describe("VMware namespace database", () => {
  const open = () => {
    const { host, way, store } = setUp();
    const pairs = host.namespaces.create("com.example.ns");
    const namespace: VmwareNamespace = store.namespace("com.example.ns");
    return { host, way, store, pairs, namespace };
  };

  it("words its commands as vmware-namespace-cmd does", async () => {
    const { host, namespace } = open();
    await namespace.set("k1", "v1", call());
    await namespace.compareAndSet("k1", "v1", "v2", call());
    await namespace.get("k1", call());
    await namespace.delete("k1", call());
    const ns = "com.example.ns\0";
    expect(host.commands).to.deep.equal([
      `namespace-priv-set-keys ${ns}1\x000\0k1\0v1\0\0`,
      `namespace-priv-set-keys ${ns}1\x001\0k1\0v2\0v1\0`,
      `namespace-priv-get-values ${ns}k1\0`,
      `namespace-priv-get-values ${ns}k1\0`,
      `namespace-priv-set-keys ${ns}1\x000\0k1\0\0\0`,
    ]);
    expect(host.commands.map(({ length }) => length)).to.deep.equal([50, 52, 44, 44, 48]);
  });

  it("gets, sets and removes", async () => {
    const { namespace, pairs } = open();
    expect(await namespace.get("a", call())).to.equal(undefined);
    await namespace.set("a", "grüß€ \n", call());
    await namespace.set("b", "2", call());
    expect(await namespace.get("a", call())).to.equal("grüß€ \n");
    expect([...(await namespace.getAll(["b", "none", "a"], call()))]).to.deep.equal([
      ["b", "2"],
      ["a", "grüß€ \n"],
    ]);
    expect(await namespace.delete("a", call())).to.equal(true);
    expect(await namespace.delete("a", call())).to.equal(false);
    expect([...pairs]).to.deep.equal([["b", "2"]]);
  });

  it("compares and swaps: of two programs one wins", async () => {
    const { namespace } = open();
    expect(await namespace.compareAndSet("lock", undefined, "me", call())).to.equal(true);
    expect(await namespace.compareAndSet("lock", undefined, "you", call())).to.equal(false);
    expect(await namespace.compareAndSet("lock", "you", "x", call())).to.equal(false);
    expect(await namespace.compareAndSet("lock", "me", undefined, call())).to.equal(true);
    expect(await namespace.get("lock", call())).to.equal(undefined);
  });

  it("gives one of several takers the value", async () => {
    const { namespace } = open();
    await namespace.set("secret", "s", call());
    const all = await Promise.all(Array.from({ length: 5 }, () => namespace.take("secret", call())));
    expect(all.filter((each) => each !== undefined)).to.deep.equal(["s"]);
    expect(await namespace.take("secret", call())).to.equal(undefined);
  });

  it("never sends a compare-and-swap twice, and says when nobody knows its outcome", async () => {
    const { namespace, way, host } = open();
    way.after = breaking;
    await rejects(namespace.compareAndSet("k", undefined, "v", call()), "ERR_DISCONNECTED");
    expect(host.commands).to.have.length(1);
    expect(await namespace.get("k", call())).to.equal("v");
  });

  it("refuses what would mean something else, before anything is sent", async () => {
    const { namespace, store, host } = open();
    await rejects(namespace.set("a", "", call()), "ERR_VALUE_INVALID");
    await rejects(namespace.set("a", "x\0y", call()), "ERR_VALUE_INVALID");
    await rejects(namespace.set("a", "\ud800", call()), "ERR_VALUE_INVALID");
    await rejects(namespace.set("a\0b", "v", call()), "ERR_KEY_INVALID");
    await rejects(namespace.get("", call()), "ERR_KEY_INVALID");
    await rejects(namespace.set("a", "x".repeat(16 * 1024 + 1), call()), "ERR_VALUE_TOO_LONG");
    for (const name of ["", "a\0b"]) expect(() => store.namespace(name)).to.throw(/namespace/);
    expect(host.commands).to.deep.equal([]);
  });

  it("tells a host without it, a namespace that is not there, and a channel without privilege", async () => {
    const { store, way, host } = open();
    const error = await rejects(store.namespace("other").get("k", call()), "ERR_PERMISSION");
    expect(error.message).to.include("Namespace not found");
    host.nextReply = Buffer.from("0 Unknown command");
    await rejects(store.namespace("other").get("k", call()), "ERR_NOT_SUPPORTED");
    way.privileged = false;
    const sent = host.commands.length;
    await rejects(store.namespace("com.example.ns").get("k", call()), "ERR_PERMISSION");
    expect(host.commands).to.have.length(sent);
  });

  it("refuses a reply with another number of values", async () => {
    const { namespace, host } = open();
    for (const reply of ["1 a", "1 a\0b\0", "1 a\0\0"]) {
      host.nextReply = Buffer.from(reply);
      await rejects(namespace.get("k", call()), "ERR_PROTOCOL");
    }
  });
});

describe("VMware DataSets", () => {
  const open = () => {
    const { host, way, store } = setUp();
    const pairs = host.createDataSet("app");
    return { host, way, pairs, sets: store.dataSets };
  };

  it("lists the DataSets, and what the host says of one", async () => {
    const { sets, host } = open();
    host.createDataSet("hidden", "NONE");
    expect(await sets.list(call())).to.deep.equal([{ name: "app", description: "" }]);
    expect(await sets.query("app", call())).to.include({ "guest-access": "READ_WRITE" });
  });

  it("keeps any text exactly, and pages its keys", async () => {
    const { sets, pairs } = open();
    const texts = ["", " ", 'quote " \\ back', "grüß€ 🙂", "line\n\u0001\u2028", "__proto__"];
    for (const [at, text] of texts.entries()) {
      await sets.set("app", `${text}${at}`, text, call());
      expect(await sets.get("app", `${text}${at}`, call())).to.equal(text);
    }
    for (let at = 0; at < 250; at++) pairs.set(`many/${at}`, `${at}`);
    const keys: string[] = [];
    for await (const key of sets.keys("app", call())) keys.push(key);
    expect(keys).to.deep.equal([...pairs.keys()]);
  });

  it("tells a missing key from a refusal", async () => {
    const { sets, host } = open();
    expect(await sets.get("app", "none", call())).to.equal(undefined);
    expect(await sets.delete("app", "none", call())).to.equal(false);
    host.createDataSet("fixed", "READ_ONLY").set("k", "v");
    expect(await sets.get("fixed", "k", call())).to.equal("v");
    const error = await rejects(sets.set("fixed", "k", "x", call()), "ERR_PERMISSION");
    expect(error.cause).to.include({ id: "access-denied" });
    await rejects(sets.get("nowhere", "k", call()), "ERR_PERMISSION");
    host.dataSets = undefined;
    await rejects(sets.list(call()), "ERR_NOT_SUPPORTED");
  });

  it("sends a long value in pieces that fit, whole characters each, and up to a mebibyte", async () => {
    const { sets, host, pairs } = open();
    const value = `${"\u0001".repeat(30_000)}${"🙂".repeat(60_000)}${'"'.repeat(70_000)}end`;
    await sets.set("app", "long", value, call());
    expect(pairs.get("long")).to.equal(value);
    expect(host.commands.length).to.be.above(5);
    expect(Math.max(...host.commands.map(({ length }) => length))).to.be.at.most(65_536);
    const most = "m".repeat(1024 * 1024);
    await sets.set("app", "most", most, call());
    expect(await sets.get("app", "most", call())).to.equal(most);
  });

  it("finds the other spelling where the host has that one, once", async () => {
    const { sets, host } = open();
    const answer = host.answer.bind(host);
    host.answer = (request, peer) => {
      const text = Buffer.from(request).toString();
      if (/^datasets-\w+-entry /.test(text)) return Buffer.from("0 Unknown command");
      host.commands.push(text);
      return answer(Buffer.from(text.replace("-entries ", "-entry ")), peer);
    };
    await sets.set("app", "k", "v", call());
    expect(await sets.get("app", "k", call())).to.equal("v");
    expect(await sets.delete("app", "k", call())).to.equal(true);
    host.dataSets = undefined;
    await rejects(sets.get("app", "k", call()), "ERR_NOT_SUPPORTED");
  });

  it("never appends twice", async () => {
    const { sets, way, host } = open();
    const long = "x".repeat(100_000);
    way.after = () => {
      way.after = breaking;
    };
    await rejects(sets.set("app", "k", long, call()), "ERR_DISCONNECTED");
    expect(host.commands).to.have.length(2);
  });

  it("refuses answers that are malformed, also listings that run in a circle", async () => {
    const { sets, host } = open();
    const answers = [
      "1 ",
      "1 {",
      "1 []",
      "1 null",
      '1 {"x":1}',
      '1 {"result":true}',
      '1 {"result":true,"entries":[null]}',
    ];
    for (const answer of answers) {
      host.nextReply = Buffer.from(answer);
      await rejects(sets.get("app", "k", call()), "ERR_PROTOCOL");
    }
    const circle = '1 {"result":true,"keys":["a"],"context":"same"}';
    const answer = host.answer.bind(host);
    host.answer = (request, peer) =>
      Buffer.from(request).toString().startsWith("datasets-list-keys")
        ? Buffer.from(circle)
        : answer(request, peer);
    await rejects(sets.has("app", "b", call()), "ERR_PROTOCOL");
  });
});
