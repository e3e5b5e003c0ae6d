import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { HypervProvider } from "../providers/hyperv/index.js";
import { VmwareProvider } from "../providers/vmware/index.js";
import { XenProvider } from "../providers/xen/index.js";
import { nodeHost } from "../src/base/host/node-host.js";
import { BUILT_IN } from "../src/composition.js";
import { ROOT } from "./support/pools.js";

const VERBS = ["read", "write", "delete", "list", "watch"] as const;

describe("README", () => {
  it("has the table of systems that the manifests make: node scripts/systems-table.mjs prints it", async () => {
    const { systemsTable } = (await import(`${ROOT}/scripts/systems-table.mjs`)) as {
      systemsTable: (manifests: unknown) => string;
    };
    expect(readFileSync(join(ROOT, "README.md"), "utf8")).to.include(`\n${systemsTable(BUILT_IN)}\n`);
  });

  for (const Provider of [HypervProvider, XenProvider, VmwareProvider])
    it(`promises for ${Provider.name.replace("Provider", "")} what the provider declares on each system`, () => {
      const { id } = new Provider(nodeHost());
      const manifest = BUILT_IN.find((each) => each.id === id);
      const platforms = new Set(Object.values(manifest?.systems ?? {}).flat());
      expect(platforms.size).to.be.greaterThan(3);
      for (const platform of platforms) {
        const provider = new Provider({ ...nodeHost(), platform });
        // VMware's DataSets are a store of their own, chosen by a setting.
        const targets =
          id === "vmware" && platform !== "openbsd" ? [{}, { options: { dataset: "d" } }] : [{}];
        const declared = VERBS.filter((verb) =>
          targets.some((target) => provider.capabilities(target)[verb]),
        );
        const promised = VERBS.filter((verb) => manifest?.systems[verb].includes(platform));
        expect(declared, platform).to.include.members(promised);
        if (id !== "vmware") expect(declared, platform).to.deep.equal(promised);
      }
    });
});
