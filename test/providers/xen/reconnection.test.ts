import { expect } from "chai";
import { XenStoreClient } from "../../../providers/xen/index.js";
import type { Transport } from "../../../providers/xen/transport/transport.js";
import type { Call } from "../../../src/base/flow/call.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { rejects } from "../../support/rejects.js";

/** A daemon that lets nobody in, and the calls of those who try. */
function fullDaemon(): { readonly transport: Transport; readonly attempts: Call[] } {
  const attempts: Call[] = [];
  const transport: Transport = {
    name: "a full daemon",
    connections: 1,
    separateWatches: false,
    window: 256,
    maxRequest: 4096,
    maxReply: 4096,
    overdueMs: 10_000,
    privileged: true,
    connect: async (_events, call) => {
      attempts.push(call);
      return call.within(new Promise<never>(() => undefined), "its turn");
    },
  };
  return { transport, attempts };
}

describe("XenStore client whose daemon lets it wait", () => {
  it("tries for as long as anybody waits, whatever the limit of a single call", async () => {
    const { transport, attempts } = fullDaemon();
    await using xs = new XenStoreClient(transport);
    const patient = xs.read("data/k", { timeoutMs: 600_000 });
    await rejects(xs.read("data/k", { timeoutMs: 5 }), "ERR_TIMEOUT");
    expect(attempts).to.have.length(1);
    expect(attempts[0]?.remainingMs).to.equal(Number.POSITIVE_INFINITY);
    expect(attempts[0]?.signal?.aborted).to.equal(false);
    await Promise.all([rejects(patient, "ERR_DISCONNECTED"), xs.close()]);
  });

  it("gives up when nobody waits any more, and begins again for the next one", async () => {
    const { transport, attempts } = fullDaemon();
    await using xs = new XenStoreClient(transport);
    await rejects(xs.read("data/k", { timeoutMs: 5 }), "ERR_TIMEOUT");
    expect(attempts[0]?.signal?.aborted).to.equal(true);
    await rejects(xs.read("data/k", { timeoutMs: 5 }), "ERR_TIMEOUT");
    expect(attempts).to.have.length(2);
  });

  it("is closed with what it is a part of", async () => {
    const closing = new AbortController();
    await using xs = new XenStoreClient(fullDaemon().transport, SILENT, closing.signal);
    closing.abort();
    expect(xs.isClosed).to.equal(true);
    await rejects(xs.watch("data").next(), "ERR_DISCONNECTED");
    await rejects(xs.read("data/k"), "ERR_DISCONNECTED");
  });
});
