import { expect } from "chai";
import {
  type ConformanceSubject,
  describeProviderConformance,
  XenStoreSimulator,
} from "../../../providers/testing.js";
import { XenProvider, XenStore, XenStoreClient } from "../../../providers/xen/index.js";
import { keySyntax } from "../../../providers/xen/protocol/keys.js";
import { DeviceTransport } from "../../../providers/xen/transport/device.js";
import { nodeHost, SILENT } from "../../../src/base/host/node-host.js";
import {
  startOxenstored,
  startXenstored,
  whyNoOxenstored,
  whyNoXenstored,
} from "../../support/xen/daemons.js";
import { type Kernel, KernelDriver } from "../../support/xen/kernel-driver.js";

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
    host: {
      key: (label) => `vm-data/${label}`,
      set: (key, value) => {
        const path = `/local/domain/${domain}/${key}`;
        if (value === undefined) simulator.remove(path);
        else simulator.write(path, value);
      },
      prefix: "vm-data",
    },
    cleanup: () => simulator.close(),
  };
}

/** XenStore holds any bytes in one tree; its sizes are of whole requests, and who may change what is the daemon's. */
const WITHOUT = ["text", "valueLimit", "keyLimit", "pools", "readOnly"] as const;

describeProviderConformance("XenProvider on the simulator, as dom0", () => onSimulator(0), {
  without: WITHOUT,
});
describeProviderConformance("XenProvider on the simulator, as a guest", () => onSimulator(7), {
  without: WITHOUT,
});

const whyNoC = whyNoXenstored();
if (whyNoC !== undefined) console.warn(`SKIPPED: Xen on the real C xenstored: ${whyNoC}`);

/** The Xen provider on Debian's C xenstored, as dom0. */
async function onXenstored(): Promise<ConformanceSubject> {
  const daemon = await startXenstored();
  return {
    provider: new XenProvider(nodeHost({ platform: "linux" })),
    target: { channel: `unix:${daemon.path}` },
    keys: { writable: (label) => `data/${label}`, prefix: "data/", uncounted: "data/" },
    cleanup: () => daemon.stop(),
  };
}

/** A guest of the C xenstored with its quotas, behind the device of its kernel. */
async function onDevice(kernel: Kernel): Promise<ConformanceSubject> {
  const daemon = await startXenstored();
  const driver = await KernelDriver.on(await daemon.guest(7), kernel);
  return {
    open: async () => {
      const transport = new DeviceTransport("/dev/xen/xenbus", kernel === "freebsd" ? "freebsd" : "linux", {
        open: driver.open,
        release: kernel === "linux" ? "6.1.0" : "4.4.0",
      });
      const client = new XenStoreClient(transport);
      await client.connect();
      return new XenStore(client, { syntax: keySyntax(false), logger: SILENT });
    },
    keys: {
      writable: (label) => `data/${label}`,
      prefix: "data/",
      uncounted: "data/",
      given: { name: "guest-7" },
    },
    cleanup: async () => {
      await driver[Symbol.asyncDispose]();
      await daemon.stop();
      expect(driver.violations).to.deep.equal([]);
      expect(driver.files).to.have.lengthOf(0);
    },
  };
}

if (whyNoC === undefined) {
  describeProviderConformance("XenProvider on the C xenstored, as dom0", () => onXenstored(), {
    without: [...WITHOUT, "given", "hostChanges"],
  });
  for (const kernel of ["linux", "linux-4.4", "freebsd"] as const)
    describeProviderConformance(
      `XenStore behind a device of ${kernel} on the C xenstored`,
      () => onDevice(kernel),
      { without: [...WITHOUT, "provider", "hostChanges"] },
    );
}

if (why === undefined) {
  describeProviderConformance("XenProvider on oxenstored", () => onOxenstored((label) => `data/${label}`), {
    without: [...WITHOUT, "given", "hostChanges"],
  });
  describeProviderConformance(
    "XenProvider on oxenstored with encoded names",
    () =>
      // A slash divides names here too, and the nodes on the way to a key stay when it is removed.
      onOxenstored((label) => `data/${label.replaceAll("/", "|")}`, { encodeNames: true }),
    { without: [...WITHOUT, "given", "hostChanges"] },
  );
}
