import { describeProviderConformance, MemoryProvider } from "../../src/testing/index.js";

describeProviderConformance("MemoryProvider", () => ({
  provider: new MemoryProvider(undefined, { given: { "host/name": "vm-1", "host/empty": "" } }),
  keys: {
    writable: (label) => `guest/${label}`,
    prefix: "guest/",
    given: { "host/name": "vm-1", "host/empty": "" },
    readOnly: ["host/name", "host/absent"],
  },
}));
