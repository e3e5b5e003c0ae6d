import { LxdProvider } from "../../../providers/lxd/index.js";
import {
  type ConformanceSubject,
  describeProviderConformance,
  LxdSimulator,
  type LxdSimulatorOptions,
} from "../../../providers/testing.js";
import { nodeHost } from "../../../src/base/host/node-host.js";

const GIVEN = {
  "user.given": "from the host",
  "user.grüße aus/Köln?": "ä€🙂",
  "cloud-init.user-data": "#cloud-config\n",
};

/** The provider on a simulated guest API. */
async function onSimulator(options: LxdSimulatorOptions): Promise<ConformanceSubject> {
  const lxd = await LxdSimulator.listen({ ...options, keys: { ...GIVEN, "limits.memory": "1GiB" } });
  return {
    provider: new LxdProvider(nodeHost({ platform: "linux" })),
    target: { channel: `unix:${lxd.path}`, options: { patienceMs: 1_000 } },
    keys: { given: GIVEN, prefix: "user." },
    host: {
      key: (label) => `user.conformance.${label}`,
      set: (key, value) => lxd.set(key, value),
      prefix: "user.",
    },
    cleanup: () => lxd.close(),
  };
}

/** The guest changes nothing; values are text of any length. */
const WITHOUT = [
  ...(["write", "delete", "binary", "valueLimit", "keyLimit", "pools", "guestKeys"] as const),
  ...(["take", "insert", "readOnly", "writableKeys"] as const),
];

for (const product of ["incus", "lxd"] as const)
  for (const instanceType of ["container", "virtual-machine"] as const)
    describeProviderConformance(
      `LxdProvider on a simulated ${product} ${instanceType}`,
      () => onSimulator({ product, instanceType }),
      { without: WITHOUT },
    );
