import { expect } from "chai";
import { KvmProvider } from "../../providers/kvm/index.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { Call } from "../../src/index.js";

describe("SMBIOS on Windows", () => {
  it("is read as the system gives it", async () => {
    const provider = new KvmProvider(nodeHost());
    expect(provider.capabilities().pools).to.have.property("smbios");
    const store = await provider.open({});
    const values = new Map<string, string>();
    for await (const { key, value } of store.list("smbios/", new Call()))
      values.set(key, Buffer.from(value ?? []).toString("utf8"));
    expect(values.get("smbios/system/uuid")).to.match(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect((await store.facts(new Call())).vmId).to.equal(values.get("smbios/system/uuid"));
    await store.close();
  });
});
