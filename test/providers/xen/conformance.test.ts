import { XenProvider } from "../../../providers/xen/index.js";
import { nodeHost } from "../../../src/host/node-host.js";
import {
  type ConformanceSubject,
  describeProviderConformance,
  XenStoreSimulator,
} from "../../../src/testing/index.js";
import { startOxenstored, whyNoOxenstored } from "../../support/xen/daemons.js";

const why = whyNoOxenstored();
if (why !== undefined) console.warn(`SKIPPED: Xen on the real oxenstored: ${why}`);

/** The Xen provider on Debian's oxenstored. */
async function onOxenstored(
  writable: (label: string) => string,
  options: Readonly<Record<string, unknown>> = {},
): Promise<ConformanceSubject> {
  const daemon = await startOxenstored();
  const provider = new XenProvider(nodeHost({ platform: "linux" }));
  return {
    provider,
    target: { channel: `unix:${daemon.path}`, options },
    keys: { writable, prefix: "data/", uncounted: "data/" },
    cleanup: () => daemon.stop(),
  };
}

/** The Xen provider on the simulator, as a domain. */
async function onSimulator(domain: number): Promise<ConformanceSubject> {
  const simulator = await XenStoreSimulator.listen({ domain });
  const vmData = { role: "web", note: "Grüße" };
  simulator.createDomain(domain, { name: "web-01", uuid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", vmData });
  return {
    provider: new XenProvider(nodeHost({ platform: "linux" })),
    target: { channel: `unix:${simulator.path}` },
    keys: {
      writable: (label) => `data/${label}`,
      prefix: "data/",
      uncounted: "data/",
      given: { name: "web-01", "vm-data/role": "web", "vm-data/note": "Grüße" },
    },
    cleanup: () => simulator.close(),
  };
}

describeProviderConformance("XenProvider on the simulator, as dom0", () => onSimulator(0));
describeProviderConformance("XenProvider on the simulator, as a guest", () => onSimulator(7));

if (why === undefined) {
  describeProviderConformance("XenProvider on oxenstored", () => onOxenstored((label) => `data/${label}`));
  describeProviderConformance("XenProvider on oxenstored with encoded names", () =>
    // A slash divides names here too, and the nodes on the way to a key stay when it is removed.
    onOxenstored((label) => `data/${label.replaceAll("/", "|")}`, { encodeNames: true }),
  );
}
