import { getEventListeners } from "node:events";
import { expect } from "chai";
import { MemoryProvider } from "../../../providers/testing.js";
import { Call } from "../../../src/base/flow/call.js";
import { Closing } from "../../../src/base/flow/closing.js";
import { PvInterface } from "../../../src/bus/interface/interface.js";
import type { Provider } from "../../../src/contract/provider.js";
import { codeOf } from "../../support/memory-interface.js";

const detected = {
  unit: 0,
  name: "pvbus0",
  id: "memory",
  type: "Memory",
  role: "guest",
  base: null,
  emulated: false,
  evidence: [],
  details: {},
} as const;

function interfaceOf(open: Provider["open"]): PvInterface {
  const inner = new MemoryProvider();
  const provider = { id: "memory", type: "Memory", locate: () => false, open } as const;
  const capabilities = (): ReturnType<MemoryProvider["capabilities"]> => inner.capabilities();
  return new PvInterface({
    detected,
    primary: true,
    provider: { ...provider, capabilities },
    capabilities: capabilities(),
  });
}

describe("Closing", () => {
  it("is closed once, by its owner or by what it is a part of", () => {
    for (const end of ["own", "outer"]) {
      const outer = new AbortController();
      const closing = new Closing(outer.signal);
      let fired = 0;
      closing.signal.addEventListener("abort", () => fired++);
      closing.check();
      if (end === "own") expect(closing.close()).to.equal(true);
      else outer.abort();
      expect(closing.close()).to.equal(false);
      expect([closing.isClosed, fired]).to.deep.equal([true, 1]);
      expect(() => closing.check())
        .to.throw("the store is closed; open the bus again")
        .with.property("code", "ERR_DISCONNECTED");
      expect(getEventListeners(outer.signal, "abort")).to.have.length(0);
    }
  });

  it("is closed from the start within what is closed, and has words of its own", () => {
    const closing = new Closing(AbortSignal.abort(), "the client was closed; open it again");
    expect(() => closing.check()).to.throw("the client was closed; open it again");
  });

  it("leaves nothing at a signal that outlives thousands of it", () => {
    const outer = new AbortController();
    for (let each = 0; each < 1_000; each++) new Closing(outer.signal).close();
    expect(getEventListeners(outer.signal, "abort")).to.have.length(0);
  });
});

describe("PvInterface's closing signal", () => {
  it("fires when the interface is closed, before its store is", async () => {
    const order: string[] = [];
    const face = interfaceOf(async (target, call, closing) => {
      closing?.addEventListener("abort", () => order.push("signal"));
      const store = await new MemoryProvider().open(target, call);
      const close = store.close.bind(store);
      store.close = async () => {
        order.push("close");
        await close();
      };
      return store;
    });
    await face.read("guest/a");
    expect(order).to.deep.equal([]);
    await face.close();
    await face.close();
    expect(order).to.deep.equal(["signal", "close"]);
  });

  it("ends an opening that is under way", async () => {
    let entered = (): void => undefined;
    const begun = new Promise<void>((resolve) => {
      entered = resolve;
    });
    const face = interfaceOf(async (_target, _call, closing) => {
      entered();
      await Call.endless(closing).sleep(60_000, "the host");
      return new MemoryProvider().open({}, new Call());
    });
    const reading = codeOf(face.read("guest/a"));
    await begun;
    await face.close();
    expect(await reading).to.equal("ERR_DISCONNECTED");
    expect(await codeOf(face.read("guest/a"))).to.equal("ERR_DISCONNECTED");
  });
});
