import {
  type ConformanceHost,
  type ConformanceKeys,
  describeProviderConformance,
  VmxHost,
} from "../../../providers/testing.js";
import { VmwareProvider } from "../../../providers/vmware/index.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { backdoorStore, SimulatedVmx } from "../../support/vmware.js";

const KEYS: ConformanceKeys = {
  writable: (label) => `guestinfo.conformance.${label}`,
  prefix: "guestinfo.conformance",
  given: { "guestinfo.metadata": "instance-id: grüß€", "guestinfo./host": "theirs" },
  readOnly: ["guestinfo./host", "guestinfo./absent"],
};
/** guestinfo is text in one heap; it can neither be listed nor deleted from. */
const WITHOUT = ["delete", "list", "binary", "pools", "take", "insert"] as const;
/** Its administrator sets guestinfo in the machine's configuration. */
const hostOf = (vmx: VmxHost): ConformanceHost => ({
  key: (label) => `guestinfo.conformance.${label}`,
  set: (key, value) => vmx.set(key, value),
});
const FAST = { pollMs: 5, longestPollMs: 20 };

describeProviderConformance(
  "VmwareProvider on a socket",
  async () => {
    const vmx = await SimulatedVmx.start(new VmxHost({ variables: KEYS.given }), { pieceBytes: 7 });
    return {
      provider: new VmwareProvider(nodeHost()),
      target: { channel: vmx.channel, options: FAST },
      keys: KEYS,
      host: hostOf(vmx.host),
      cleanup: () => vmx[Symbol.asyncDispose](),
    };
  },
  { without: WITHOUT },
);

for (const highBandwidth of [true, false]) {
  const how = highBandwidth ? "in high bandwidth" : "in low bandwidth";
  describeProviderConformance(
    `VmwareStore on a simulated backdoor ${how}`,
    () => {
      const host = new VmxHost({ variables: KEYS.given });
      return {
        open: async () => backdoorStore(host, { highBandwidth }, FAST).store,
        keys: KEYS,
        host: hostOf(host),
      };
    },
    { without: [...WITHOUT, "provider"] },
  );
}

describeProviderConformance(
  "VmwareProvider on a DataSet",
  async () => {
    const vmx = await SimulatedVmx.start();
    const pairs = vmx.host.createDataSet("conformance").set("given/one", "ein Wert: grüß€");
    return {
      provider: new VmwareProvider(nodeHost()),
      target: { channel: vmx.channel, options: { ...FAST, dataset: "conformance" } },
      keys: {
        writable: (label) => `own/${label}`,
        prefix: "own/",
        given: { "given/one": "ein Wert: grüß€" },
      },
      host: {
        key: (label) => `given/${label}`,
        set: (key, value) => void (value === undefined ? pairs.delete(key) : pairs.set(key, value)),
        prefix: "given/",
      },
      cleanup: () => vmx[Symbol.asyncDispose](),
    };
  },
  { without: ["binary", "pools", "facts", "readOnly", "erase", "take", "insert"] },
);
