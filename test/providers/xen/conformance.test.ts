import { XenProvider } from "../../../providers/xen/index.js";
import { nodeHost } from "../../../src/host/node-host.js";
import { type ConformanceSubject, describeProviderConformance } from "../../../src/testing/index.js";
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

if (why === undefined) {
  describeProviderConformance("XenProvider on oxenstored", () => onOxenstored((label) => `data/${label}`));
  describeProviderConformance("XenProvider on oxenstored with encoded names", () =>
    // A slash divides names here too, and the nodes on the way to a key stay when it is removed.
    onOxenstored((label) => `data/${label.replaceAll("/", "|")}`, { encodeNames: true }),
  );
}
