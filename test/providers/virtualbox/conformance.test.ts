import { describeProviderConformance, VirtualBoxSimulator } from "../../../providers/testing.js";
import { nodeHost } from "../../../src/base/host/node-host.js";

/** One flat store of text, with names that the host keeps. */
const WITHOUT = ["binary", "pools", "take", "insert"] as const;

for (const byStatus of [false, true]) {
  const whose = byStatus ? "VirtualBox's own driver" : "Linux's driver";
  describeProviderConformance(
    `VirtualBoxProvider on the simulator, with the errors of ${whose}`,
    () => {
      const simulator = new VirtualBoxSimulator({ faults: { byStatus } });
      simulator.set("/given/role", "grüß€");
      return {
        provider: simulator.provider(nodeHost({ platform: "linux" })),
        keys: {
          writable: (label) => `/conformance/${label}`,
          prefix: "/conformance/",
          given: { "/given/role": "grüß€", "/VirtualBox/HostInfo/VBoxVer": "7.0.20" },
          readOnly: ["/VirtualBox/HostInfo/VBoxVer"],
        },
        host: {
          key: (label) => `/given/${label}`,
          set: (key, value) => {
            if (value === undefined) simulator.delete(key);
            else simulator.set(key, value);
          },
          prefix: "/given/",
        },
      };
    },
    { without: WITHOUT },
  );
}
